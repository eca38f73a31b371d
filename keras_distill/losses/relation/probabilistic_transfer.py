from typing import Any

import keras
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.losses.ops.pairwise import neighbour_probabilities
from keras_distill.losses.relation.coupled import BatchCoupledLoss
from keras_distill.losses.relation.relation import divergence


@keras.saving.register_keras_serializable(package="keras_distill")
class ProbabilisticTransfer(BatchCoupledLoss):
    """Matches the probability that a sample picks another as its neighbour.

        K_ij = (cos(x_i, x_j) + 1) / 2
        form="paper":  P_ij = K_ij / sum_{k != i} K_ik
                       l = sum_i sum_{j != i} P_ij log(P_ij / Q_ij)
        form="code":   P_ij = K_ij / sum_k K_ik, the sample itself included
                       l = (1 / batch^2) sum_ij P_ij log(P_ij / Q_ij)
        loss = sum over pairs of layer_weight * l

    P is the teacher's, Q the student's. As in the authors' code, 1e-7 is added
    to the norms and to both probabilities in the logarithm. Their weight of
    30000 is for `"code"` at batches of 64.

    Widths may differ. One sample gives 0. The loss ignores sample weights,
    because a probability belongs to two samples.

    Args:
        form: `"paper"` or `"code"`. Defaults to `"paper"`.
        teacher_layer_name: A layer or a list of layers. `None` for the model's
            output.
        student_layer_name: The same, paired one to one.
        cross_replica: Compare with the samples of all replicas. Defaults to
            `False`.
        normalize: Changes next to nothing here, because cosines have no scale.
            Defaults to `False`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"probabilistic_transfer"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Per pair `(batch, ...)` each, flattened to `(batch, width)`.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for an unknown form; in `build`, for shapes without
            samples, with both shapes.

    Example:

    ```python
    loss = kd.losses.ProbabilisticTransfer()
    teacher = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], "float32")
    student = np.array([[2.0], [3.0], [4.0]], "float32")  # All parallel.
    loss.compute_loss(teacher, student)  # 0.069
    ```

    Reference:
        Passalis, Tefas, "Learning Deep Representations with Probabilistic
        Knowledge Transfer", 2018.
    """

    def __init__(self, *, form: str = "paper", **kwargs: Any):
        super().__init__(**kwargs)
        self.form = one_of("form", form, ("paper", "code"))

    def coupled_loss(self, index: int, teacher: Any, student: Any) -> Any:
        with_self = self.form == "code"
        loss = divergence(
            neighbour_probabilities(teacher, with_self),
            neighbour_probabilities(student, with_self),
        )
        if self.form == "code":
            return loss
        batch = ops.cast(ops.shape(student)[0], loss.dtype)
        return batch * batch * loss

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "form": self.form}
