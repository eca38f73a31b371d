"""What Keras knows of a metric.

Relies on, in Keras 3.12.4 and 3.15.1: `Metric._direction`, which
`mode="auto"` of Keras's callbacks reads.
"""


def should_grow(metric):
    """Whether more of a `keras.metrics.Metric` is better.

    A metric that does not say so should grow, unless its name holds "error",
    "loss" or "false".
    """
    direction = getattr(metric, "_direction", None)
    if direction is not None:
        return direction == "up"
    return not any(word in metric.name for word in ("error", "loss", "false"))
