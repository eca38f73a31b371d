from typing import Any

import keras

from keras_distill.losses.ops.pairwise import similarity
from keras_distill.losses.relation.coupled import BatchCoupledLoss
from keras_distill.losses.relation.relation import mean_squared


@keras.saving.register_keras_serializable(package="keras_distill")
class SimilarityPreserving(BatchCoupledLoss):
    """Matches which samples look alike to teacher and student.

        A = the features as a matrix (batch, height * width * channels)
        G = A A^T, each row over max(its L2 norm, 1e-12)
        l = (1 / batch^2) ||G_teacher - G_student||_F^2
        loss = sum over pairs of layer_weight * l

    `Relation("similarity", "mse")` is the same. torchdistill divides the rows
    by their L1 norm, unlike the paper and its authors; this form is not
    offered.

    Shapes may differ in all but the batch. One sample gives 0. The loss
    ignores sample weights, because a similarity belongs to two samples.

    Cost: 14 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: A layer or a list of layers. `None` for the model's
            output.
        student_layer_name: The same, paired one to one.
        normalize: L2-normalize each sample's features first, so that `A A^T`
            holds cosines. Defaults to `False`, as in the paper.
        cross_replica: Compare with the samples of all replicas. Defaults to
            `False`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"similarity_preserving"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Per pair `(batch, ...)` each, flattened to `(batch, width)`.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: in `build`, for shapes without samples, with both shapes.

    Example:

    ```python
    loss = kd.losses.SimilarityPreserving()
    teacher = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    student = np.array([[3.0], [3.0]], "float32")
    loss.compute_loss(teacher, student)  # 1 - sqrt(1/2) = 0.293
    ```

    Reference:
        Tung, Mori, "Similarity-Preserving Knowledge Distillation", 2019.
    """

    def coupled_loss(self, index: int, teacher: Any, student: Any) -> Any:
        return mean_squared(similarity(teacher), similarity(student))
