from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_seed
from keras_distill._arguments import one_of
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.connectors import make_regressor
from keras_distill.losses.ops.elementwise import at_least_float32
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.gathering import gather_replicas
from keras_distill.losses.ops.norms import over_norm
from keras_distill.losses.ops.probabilities import kl_divergence
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of

# Below, cosines that float32 cannot tell apart would decide.
TEMPERATURES = "[0.001, 1000]"


@keras.saving.register_keras_serializable(package="keras_distill")
class QueueSimilarity(DistillationLoss):
    """Matches how alike an image is to many others, in both networks (SEED).

        t = teacher's embedding / its L2 norm
        s = (dense layer of the student's embedding) / its L2 norm
        D = t of the last K images that the teacher saw, and t itself
        p_k = softmax_k(t . D_k / teacher_temperature)
        q_k = softmax_k(s . D_k / temperature)
        loss = sum(weight * sum_k p_k log(p_k / q_k)) / batch

    The embedding is the average over all positions of what you tap, so a map,
    a sequence and a vector will do. No labels are needed, and the teacher may
    be any network: its classes need not be yours. `kd.pretrain` trains with
    it.

    The queue holds embeddings of the teacher alone, which does not change, so
    none of them grows old. It begins with random directions. After each loss
    the batch (of all replicas) enters it and the oldest leave. SEED minimizes
    the cross-entropy, which has the same gradient.

    Args:
        teacher_layer_name: One layer, usually the pooled features before the
            classifier. `None` for the model's output.
        student_layer_name: The same.
        queue_size: K. Defaults to 4096; SEED has 65536, for ImageNet.
        temperature: The student's. Defaults to 0.2, as in SEED.
        teacher_temperature: Defaults to 0.01, as in SEED.
        regressor: `"dense"`, a linear layer to the teacher's width; or
            `None` if the widths agree. Defaults to `"dense"`.
        seed: Seed of the queue's first rows. Defaults to 0.
        name: Defaults to `"queue_similarity"`.
        dtype: dtype of dense layer and queue. Defaults to `"float32"`.
        trainable: Whether the dense layer is trained. Defaults to `True`.

    Input shapes:
        `(batch, channels)` or `(batch, ..., channels)` each.
        `sample_weight`: `(batch,)`; weights per position are averaged.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments out of range; in `build`, for several taps,
            unknown widths, or widths that differ with `regressor=None`.

    Example:

    ```python
    loss = kd.losses.QueueSimilarity(queue_size=16)
    teacher, student = np.eye(4, 6), np.eye(4, 3)
    loss.compute_loss(teacher, student)
    ```

    Reference:
        Fang et al., "SEED: Self-supervised Distillation for Visual
        Representation", 2021, eqs. 2 to 5. Also Abbasi Koohpayegani et al.,
        "CompRess: Self-Supervised Learning by Compressing Representations",
        2020, with one temperature and without t itself.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str] | None = None,
        student_layer_name: str | Sequence[str] | None = None,
        queue_size: int = 4096,
        temperature: float = 0.2,
        teacher_temperature: float = 0.01,
        regressor: str | None = "dense",
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            **kwargs,
        )
        self.queue_size = checked_integer("queue_size", queue_size)
        self.temperature = checked_number(
            "temperature", temperature, TEMPERATURES
        )
        self.teacher_temperature = checked_number(
            "teacher_temperature", teacher_temperature, TEMPERATURES
        )
        self.regressor = one_of("regressor", regressor, ("dense", None))
        self.seed = checked_seed(seed)

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        teacher = self._embedding_shape("teacher", teacher_shape)
        student = self._embedding_shape("student", student_shape)
        self.connector = make_regressor(
            self.regressor, teacher, student, self.dtype
        )
        self.queue = self.add_weight(
            name="queue",
            shape=(self.queue_size, teacher[-1]),
            initializer=self._directions,
            trainable=False,
            # All replicas compute the same update.
            aggregation="only_first_replica",
        )

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> Any:
        if not self.built:
            self.build(shapes_of(teacher_outputs), shapes_of(student_outputs))
        (teacher,) = in_order(teacher_outputs, self.teacher_layer_name)
        (student,) = in_order(student_outputs, self.student_layer_name)
        teacher, student = embedding(teacher), embedding(student)
        if self.connector is not None:
            student = self.connector(student)
        teacher, student, queue = same_precision(
            teacher, student, ops.convert_to_tensor(self.queue)
        )
        teacher = over_norm(ops.stop_gradient(teacher))
        student = over_norm(student)
        log_p = log_probabilities(
            similarities(teacher, queue, teacher), self.teacher_temperature
        )
        log_q = log_probabilities(
            similarities(student, queue, teacher), self.temperature
        )
        values = kl_divergence(ops.exp(log_p), log_p, log_q)
        loss = weighted_mean(values, sample_weight)
        self._enqueue(teacher)
        return loss

    def _enqueue(self, teacher):
        new = ops.cast(gather_replicas(teacher), self.queue.dtype)
        rows = ops.concatenate([ops.convert_to_tensor(self.queue), new])
        rows = rows[-self.queue_size :]
        self.queue.assign(ops.reshape(rows, self.queue.shape))

    def _directions(self, shape, dtype=None):
        return over_norm(
            keras.random.normal(shape, dtype=dtype, seed=self.seed)
        )

    def _embedding_shape(self, role, shape):
        shapes = shape_list(shape, getattr(self, f"{role}_layer_name"), role)
        if len(shapes) != 1 or len(shapes[0]) < 2 or shapes[0][-1] is None:
            raise ValueError(
                "QueueSimilarity needs one tap per network, (batch, ..., "
                f"channels) with known channels. Received: {role} {shape}. "
                f"Name one layer, such as the last pooling: {role}_layer_name=."
            )
        return None, shapes[0][-1]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "queue_size": self.queue_size,
            "temperature": self.temperature,
            "teacher_temperature": self.teacher_temperature,
            "regressor": self.regressor,
            "seed": self.seed,
        }


def embedding(x):
    """Averages over the positions: `(batch, ..., channels)`, one per sample."""
    x = at_least_float32(x)
    axes = tuple(range(1, len(x.shape) - 1))
    return ops.mean(x, axis=axes) if axes else x


def similarities(vectors, queue, own):
    """Inner products with the queue and with the sample's own embedding.

    Args:
        vectors: `(batch, width)`.
        queue: `(size, width)`.
        own: `(batch, width)`, one for each of `vectors`.

    Returns:
        `(batch, size + 1)`, the own one last.
    """
    others = ops.matmul(vectors, ops.transpose(queue))
    with_own = ops.sum(vectors * own, axis=-1, keepdims=True)
    return ops.concatenate([others, with_own], axis=-1)
