"""What in a `tf.data.Dataset` draws random numbers without a seed.

Relies on, in TensorFlow 2.21 (with Keras 3.12.4 and 3.15.1):
`tf.data.Dataset._inputs`, `tf.data.Dataset._functions`, and on shuffled ones
`tf.data.Dataset._seed` and `tf.data.Dataset._seed2`.
"""


def unseeded(dataset):
    """Returns the name of the operation that draws so, or `None`."""
    if type(dataset).__name__ == "_ShuffleDataset":
        if not any(int(seed) for seed in (dataset._seed, dataset._seed2)):
            return "shuffle"
    for function in dataset._functions():
        for operation in function.function.graph.get_operations():
            if _draws_unseeded(operation):
                return operation.type
    names = (unseeded(below) for below in dataset._inputs())
    return next((name for name in names if name), None)


def _draws_unseeded(operation):
    attributes = operation.node_def.attr
    return (
        operation.op_def.is_stateful
        and "seed" in attributes
        and "seed2" in attributes
        and not attributes["seed"].i
        and not attributes["seed2"].i
    )
