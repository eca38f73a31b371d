"""Distilling relations between samples: the general form."""

from typing import Any

import keras
from keras import ops

from keras_distill.losses.ops.elementwise import absolute
from keras_distill.losses.ops.elementwise import safe_sqrt
from keras_distill.losses.ops.norms import over_norm
from keras_distill.losses.ops.pairwise import angles
from keras_distill.losses.ops.pairwise import cosine
from keras_distill.losses.ops.pairwise import distances
from keras_distill.losses.ops.pairwise import gram
from keras_distill.losses.ops.pairwise import neighbour_probabilities
from keras_distill.losses.ops.pairwise import relative_distances
from keras_distill.losses.ops.pairwise import similarity
from keras_distill.losses.ops.pairwise import taylor_gaussian
from keras_distill.losses.relation.coupled import BatchCoupledLoss


def huber(teacher, student):
    """Mean of `u^2 / 2` if `|u| < 1`, else `|u| - 1/2`; u the difference."""
    size = absolute(student - teacher)
    capped = ops.minimum(size, 1.0)
    return ops.mean(capped * (size - 0.5 * capped))


def mean_squared(teacher, student):
    """Mean of the squared differences: `||T - S||_F^2 / size`."""
    return ops.mean(ops.square(student - teacher))


def mean_absolute(teacher, student):
    """Mean of the absolute differences."""
    return ops.mean(absolute(student - teacher))


def frobenius(teacher, student):
    """The norm over the number of entries: `||T - S||_F / size`."""
    squares = ops.square(student - teacher)
    count = ops.cast(ops.size(squares), squares.dtype)
    return safe_sqrt(ops.sum(squares)) / count


def divergence(teacher, student, epsilon=1e-7):
    """Mean over all entries of `t log((t + epsilon) / (s + epsilon))`."""
    ratio = ops.log(teacher + epsilon) - ops.log(student + epsilon)
    return ops.mean(teacher * ratio)


def gaussian(x):
    """`taylor_gaussian` of unit vectors, with its defaults."""
    return taylor_gaussian(over_norm(x))


POTENTIALS = {
    "distance": relative_distances,
    "absolute_distance": distances,
    "angle": angles,
    "gram": gram,
    "similarity": similarity,
    "cosine": cosine,
    "gaussian": gaussian,
    "probability": neighbour_probabilities,
}
MAY_BE_NEGATIVE = ("angle", "gram", "similarity", "cosine")
METRICS = {
    "huber": huber,
    "mse": mean_squared,
    "mae": mean_absolute,
    "frobenius": frobenius,
    "kl": divergence,
}


def named_function(argument, name, functions):
    """Returns the function of a name, one of ours or registered with Keras."""
    if isinstance(name, str):
        if name in functions:
            return functions[name]
        registered = keras.saving.get_registered_object(name)
        if registered is not None:
            return registered
    raise ValueError(
        f"{argument} must be one of {', '.join(map(repr, functions))}, or the "
        'name ("package>name") of a function registered with '
        "`keras.saving.register_keras_serializable`. A function itself could "
        f"not be saved. Received: {name!r}"
    )


@keras.saving.register_keras_serializable(package="keras_distill")
class Relation(BatchCoupledLoss):
    """Matches relations between samples: the general form.

        loss = sum over pairs of layer_weight *
                   metric(potential(teacher), potential(student))

    A potential turns features `X`, with a row per sample, into a matrix of
    relations (three axes for angles):

        "distance":           ||x_i - x_j||_2 over its mean over i != j
        "absolute_distance":  ||x_i - x_j||_2
        "angle":              cosine of the angle at x_i between x_j and x_k
        "gram":               X X^T
        "similarity":         X X^T, each row over its L2 norm
        "cosine":             X X^T of unit rows
        "gaussian":           exp(-0.4 ||x_i - x_j||^2) of unit rows, by its
                              Taylor expansion of order 2
        "probability":        K_ij / sum_{k != i} K_ik, K = (cosine + 1) / 2

    A metric compares two of them: `"huber"`, `"mse"`, `"mae"` and `"kl"` are
    means over all entries, `"frobenius"` is `||T - S||_F / entries`. `"kl"`
    takes logarithms: of distances, `"gaussian"` and `"probability"`, whose
    relations are never negative.

        RelationalDistance       "distance"    "huber"
        RelationalAngle          "angle"       "huber"
        SimilarityPreserving     "similarity"  "mse"
        CorrelationCongruence    "gaussian"    "mse"
        ProbabilisticTransfer    "probability" "kl", times batch^2

    Widths and even ranks of teacher and student may differ. The loss ignores
    sample weights, because a relation belongs to several samples. A batch of 1
    gives 0 for distances, angles, similarities and probabilities.

    Args:
        potential: One of the names above, or the registered name of a function
            `(batch, width) -> relations`. Defaults to `"distance"`.
        metric: One of the names above, or the registered name of a function
            `(teacher, student) -> scalar`. Defaults to `"huber"`. Both as in
            Park et al. 2019.
        teacher_layer_name: A layer or a list of layers. `None` for the model's
            output.
        student_layer_name: The same, paired one to one.
        normalize: L2-normalize each sample's features. Defaults to `False`.
        cross_replica: Compare with the samples of all replicas. Defaults to
            `False`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"relation"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Per pair `(batch, ...)` each, flattened to `(batch, width)`.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for unknown names, and `"kl"` of relations that may be
            negative; in `build`, for shapes without samples.

    Example:

    ```python
    loss = kd.losses.Relation(potential="cosine", metric="mse")
    teacher = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    student = np.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], "float32")
    loss.compute_loss(teacher, student)  # 0.5: orthogonal against parallel
    ```

    Reference:
        Park et al., "Relational Knowledge Distillation", 2019.
    """

    def __init__(
        self,
        *,
        potential: str = "distance",
        metric: str = "huber",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._potential = named_function("potential", potential, POTENTIALS)
        self._metric = named_function("metric", metric, METRICS)
        if metric == "kl" and potential in MAY_BE_NEGATIVE:
            others = [
                name for name in POTENTIALS if name not in MAY_BE_NEGATIVE
            ]
            raise ValueError(
                'metric="kl" takes logarithms, and relations of potential='
                f"{potential!r} may be negative. Pass potential= one of "
                f"{others}, or another metric."
            )
        self.potential = potential
        self.metric = metric

    def coupled_loss(self, index: int, teacher: Any, student: Any) -> Any:
        return self._metric(self._potential(teacher), self._potential(student))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "potential": self.potential,
            "metric": self.metric,
        }
