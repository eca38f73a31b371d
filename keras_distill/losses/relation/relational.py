from typing import Any

import keras

from keras_distill.losses.ops.pairwise import angles
from keras_distill.losses.ops.pairwise import relative_distances
from keras_distill.losses.relation.coupled import BatchCoupledLoss
from keras_distill.losses.relation.relation import huber


@keras.saving.register_keras_serializable(package="keras_distill")
class RelationalDistance(BatchCoupledLoss):
    """Matches the distances between samples, relative to their mean.

        A_ij = ||f(x_i) - f(x_j)||_2 / mu
        mu   = mean of ||f(x_i) - f(x_j)||_2 over all i != j
        l    = (1 / batch^2) sum_ij huber(A_student - A_teacher)
        huber(u) = u^2 / 2 if |u| < 1 else |u| - 1/2
        loss = sum over pairs of layers of layer_weight * l

    The gradient flows through `mu`. `Relation("distance", "huber")` is the
    same. mmrazor L2-normalizes the features by default: `normalize=True`.
    The usual weight is 25 (and 50 for `RelationalAngle`).

    Widths may differ. One or two samples give 0. The loss ignores sample
    weights, because a distance belongs to two samples.

    Args:
        teacher_layer_name: A layer or a list of layers. `None` for the model's
            output.
        student_layer_name: The same, paired one to one.
        normalize: L2-normalize each sample's features. Defaults to `False`,
            as in the authors' distillation of classifiers.
        cross_replica: Compare with the samples of all replicas. Defaults to
            `False`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"relational_distance"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Per pair `(batch, ...)` each, flattened to `(batch, width)`.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: in `build`, for shapes without samples, with both shapes.

    Example:

    ```python
    loss = kd.losses.RelationalDistance()
    teacher = np.array([[0.0], [1.0], [2.0]], "float32")
    student = np.array([[0.0, 0.0], [0.0, 5.0], [0.0, 10.0]], "float32")
    loss.compute_loss(teacher, student)  # 0.0: only larger
    ```

    Reference:
        Park et al., "Relational Knowledge Distillation", 2019.
    """

    def coupled_loss(self, index: int, teacher: Any, student: Any) -> Any:
        return huber(relative_distances(teacher), relative_distances(student))


@keras.saving.register_keras_serializable(package="keras_distill")
class RelationalAngle(BatchCoupledLoss):
    """Matches the angles that triples of samples make.

        e_ij  = (f(x_j) - f(x_i)) / ||f(x_j) - f(x_i)||_2,   e_ii = 0
        A_ijk = e_ij . e_ik
        l     = (1 / batch^3) sum_ijk huber(A_student - A_teacher)
        huber(u) = u^2 / 2 if |u| < 1 else |u| - 1/2
        loss  = sum over pairs of layers of layer_weight * l

    `Relation("angle", "huber")` is the same. mmrazor L2-normalizes the
    features by default: `normalize=True`. The usual weight is 50.

    Memory and time grow with batch^3: a few tensors of 8 MB at a batch of 128
    in float32, and 2 % of the student's forward and backward pass, measured on
    a ResNet-20 (docs/losses.md).

    Widths may differ. One or two samples give 0. The loss ignores sample
    weights, because an angle belongs to three samples.

    Args:
        teacher_layer_name: A layer or a list of layers. `None` for the model's
            output.
        student_layer_name: The same, paired one to one.
        normalize: L2-normalize each sample's features. Defaults to `False`,
            as in the authors' distillation of classifiers.
        cross_replica: Compare with the samples of all replicas. Defaults to
            `False`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"relational_angle"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Per pair `(batch, ...)` each, flattened to `(batch, width)`.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: in `build`, for shapes without samples, with both shapes.

    Example:

    ```python
    loss = kd.losses.RelationalAngle()
    teacher = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], "float32")
    student = np.array([[0.0, 3.0], [2.0, 3.0], [0.0, 5.0]], "float32")
    loss.compute_loss(teacher, student)  # 0.0: moved and larger
    ```

    Reference:
        Park et al., "Relational Knowledge Distillation", 2019.
    """

    def coupled_loss(self, index: int, teacher: Any, student: Any) -> Any:
        return huber(angles(teacher), angles(student))
