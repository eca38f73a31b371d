from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill._shapes import sizes_agree
from keras_distill.losses.ops.elementwise import absolute
from keras_distill.losses.ops.pairwise import gram
from keras_distill.losses.ops.pairwise import taylor_gaussian
from keras_distill.losses.relation.coupled import BatchCoupledLoss
from keras_distill.losses.relation.relation import frobenius
from keras_distill.losses.relation.relation import mean_squared


def neighbouring_differences(teacher, student):
    """Multiplies the differences of samples next to each other.

        D = |student - teacher|
        l = 1 / (batch - 1) sum_i sum_c D[i, c] D[i + 1, c]

    Args:
        teacher: `(batch, width)`.
        student: The same shape.

    Returns:
        A scalar; 0 for one sample.
    """
    size = absolute(student - teacher)
    pairs = ops.cast(ops.shape(size)[0], size.dtype) - 1.0
    return ops.sum(size[:-1] * size[1:]) / ops.maximum(pairs, 1.0)


@keras.saving.register_keras_serializable(package="keras_distill")
class CorrelationCongruence(BatchCoupledLoss):
    """Matches the kernel matrix of the samples.

        kernel="gaussian":  K_ij = exp(-2 gamma) sum_{p=0}^{order}
                                   (2 gamma)^p / p! (x_i . x_j)^p
        kernel="bilinear":  K_ij = x_i . x_j
        form="paper":  l = ||K_student - K_teacher||_F^2 / batch^2
        form="norm":   l = ||K_student - K_teacher||_F / batch^2
        form="delta":  l = 1 / (batch - 1) sum_i sum_c D[i, c] D[i + 1, c],
                       D = |student - teacher|; no kernel
        loss = sum over pairs of layer_weight * l

    `"norm"` is torchdistill's, which does not square. `"delta"` is
    RepDistiller's and has only its name in common with the paper: it needs
    equal widths and depends on the order of the samples.

    The Gaussian expansion approximates `exp(-gamma ||x_i - x_j||^2)` for unit
    vectors, hence `normalize`; torchdistill does not normalize.

    The loss ignores sample weights, because a correlation belongs to two
    samples.

    Args:
        kernel: `"gaussian"` or `"bilinear"`. Defaults to `"gaussian"`, the
            best one in the paper.
        form: `"paper"`, `"norm"` or `"delta"`. Defaults to `"paper"`.
        gamma: A positive number. Defaults to 0.4, as in the paper.
        order: Order of the expansion, a positive integer. Defaults to 2, as in
            the paper.
        normalize: L2-normalize each sample's features. Defaults to `None`: for
            the Gaussian kernel only.
        teacher_layer_name: A layer or a list of layers. `None` for the model's
            output.
        student_layer_name: The same, paired one to one.
        cross_replica: Compare with the samples of all replicas. Defaults to
            `False`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"correlation_congruence"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Per pair `(batch, ...)` each, flattened to `(batch, width)`.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for shapes
            without samples, or different widths in form `"delta"`.

    Example:

    ```python
    loss = kd.losses.CorrelationCongruence(kernel="bilinear")
    teacher = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    student = np.array([[1.0], [1.0]], "float32")
    loss.compute_loss(teacher, student)  # 2 / 4 = 0.5
    ```

    Reference:
        Peng et al., "Correlation Congruence for Knowledge Distillation", 2019.
    """

    def __init__(
        self,
        *,
        kernel: str = "gaussian",
        form: str = "paper",
        gamma: float = 0.4,
        order: int = 2,
        normalize: bool | None = None,
        **kwargs: Any,
    ):
        self.kernel = one_of("kernel", kernel, ("gaussian", "bilinear"))
        self.form = one_of("form", form, ("paper", "norm", "delta"))
        checked_boolean("normalize", normalize, or_none=True)
        if normalize is None:
            normalize = kernel == "gaussian" and form != "delta"
        super().__init__(normalize=normalize, **kwargs)
        self.gamma = checked_number("gamma", gamma)
        self.order = checked_integer("order", order)

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        super().build_pair(index, teacher_shape, student_shape)
        if self.form == "delta" and not sizes_agree(
            teacher_shape[1:], student_shape[1:]
        ):
            raise ValueError(
                'CorrelationCongruence(form="delta") compares features of '
                f"equal shapes. Received: teacher {tuple(teacher_shape)}, "
                f"student {tuple(student_shape)}. Pass "
                'form="paper", which compares features of any width.'
            )

    def coupled_loss(self, index: int, teacher: Any, student: Any) -> Any:
        if self.form == "delta":
            return neighbouring_differences(teacher, student)
        compare = mean_squared if self.form == "paper" else frobenius
        return compare(self._correlation(teacher), self._correlation(student))

    def _correlation(self, x):
        if self.kernel == "bilinear":
            return gram(x)
        return taylor_gaussian(x, self.gamma, self.order)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel": self.kernel,
            "form": self.form,
            "gamma": self.gamma,
            "order": self.order,
        }
