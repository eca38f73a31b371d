from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.ops.elementwise import at_least_float32
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.gathering import gather_replicas
from keras_distill.losses.ops.norms import over_norm
from keras_distill.losses.ops.probabilities import kl_divergence
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.ops.reductions import counted
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of

# Below, cosines that float32 cannot tell apart would decide.
TEMPERATURES = "[0.001, 1000]"


@keras.saving.register_keras_serializable(package="keras_distill")
class QueueSimilarity(DistillationLoss):
    """Matches how alike an image is to many others, in both networks (SEED).

        m = mean of the K embeddings in the queue
        D_k = (embedding k of the queue - m) / its L2 norm; last, the image's
              own: D_own = (teacher's embedding - m) / its L2 norm
        s = (dense layer of the student's embedding) / its L2 norm
        p_k = softmax_k(D_own . D_k / teacher_temperature)
        q_k = softmax_k(s . D_k / temperature)
        loss = sum(weight * sum_k p_k log(p_k / q_k)) / batch

    The embedding is the average over the positions of what you tap, without
    padding and void pixels, so a map, a sequence and a vector will do. No
    labels are needed, and the teacher may be any network: its classes need not
    be yours. `kd.pretrain` trains with it.

    The queue holds embeddings of the last K images that the teacher saw. The
    teacher does not change, so none of them grows old. It begins with zeros,
    which are like no image. After each loss the batch (of all replicas) enters
    and the oldest leave.

    SEED has no m: its teachers were trained so that their embeddings spread
    over the sphere. Those of a classifier share a direction (after a ReLU
    nothing is negative), and without m all images would look alike. SEED
    minimizes the cross-entropy, which has the same gradient.

    Args:
        teacher_layer_name: One layer, usually the pooled features before the
            classifier. `None` for the model's output.
        student_layer_name: The same.
        queue_size: K. Defaults to 1024; SEED has 65536, for ImageNet.
        temperature: The student's. Defaults to 0.1.
        teacher_temperature: Defaults to 0.1. SEED has 0.2 for the student and
            0.01 for the teacher, CompRess 0.04 for both.
        name: Defaults to `"queue_similarity"`.
        dtype: dtype of dense layer and queue. Defaults to `"float32"`.
        trainable: Whether the dense layer is trained. Defaults to `True`.

    Input shapes:
        `(batch, channels)` or `(batch, ..., channels)` each.
        `sample_weight`: `(batch,)`; weights per position are averaged, and
        positions of weight 0 are left out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments out of range; in `build`, for several taps or
            unknown widths.

    Example:

    ```python
    loss = kd.losses.QueueSimilarity(queue_size=16)
    teacher, student = np.eye(4, 6), np.eye(4, 3)
    loss.compute_loss(teacher, student)
    ```

    Reference:
        Fang et al., "SEED: Self-supervised Distillation for Visual
        Representation", 2021, eqs. 2 to 5; Abbasi Koohpayegani et al.,
        "CompRess: Self-Supervised Learning by Compressing Representations",
        2020.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str] | None = None,
        student_layer_name: str | Sequence[str] | None = None,
        queue_size: int = 1024,
        temperature: float = 0.1,
        teacher_temperature: float = 0.1,
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

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        width = self._channels("teacher", teacher_shape)
        student_width = self._channels("student", student_shape)
        self.connector = keras.layers.Dense(width, dtype=self.dtype)
        self.connector.build((None, student_width))
        # All replicas compute the same update of both.
        state = {"trainable": False, "aggregation": "only_first_replica"}
        self.queue = self.add_weight(
            name="queue",
            shape=(self.queue_size, width),
            initializer="zeros",
            **state,
        )
        self.filled = self.add_weight(
            name="filled", shape=(), initializer="zeros", dtype="int32", **state
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
        student = self.connector(embedding(student, sample_weight))
        teacher, student, queue = same_precision(
            ops.stop_gradient(embedding(teacher, sample_weight)),
            student,
            ops.convert_to_tensor(self.queue),
        )
        filled = ops.convert_to_tensor(self.filled)
        own, others = centred(teacher, queue, filled)
        log_p = log_probabilities(
            similarities(own, others, own), self.teacher_temperature
        )
        log_q = log_probabilities(
            similarities(over_norm(student), others, own), self.temperature
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
        filled = self.filled + ops.cast(ops.shape(new)[0], "int32")
        self.filled.assign(ops.minimum(filled, self.queue_size))

    def teacher_changed(self) -> None:
        if self.built:
            self.queue.assign(ops.zeros_like(self.queue))
            self.filled.assign(0)

    def _channels(self, role, shape):
        shapes = shape_list(shape, getattr(self, f"{role}_layer_name"), role)
        if len(shapes) != 1 or len(shapes[0]) < 2 or shapes[0][-1] is None:
            raise ValueError(
                "QueueSimilarity needs one tap per network, (batch, ..., "
                f"channels) with known channels. Received: {role} {shape}. "
                f"Name one layer, such as the last pooling: {role}_layer_name=."
            )
        return shapes[0][-1]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "queue_size": self.queue_size,
            "temperature": self.temperature,
            "teacher_temperature": self.teacher_temperature,
        }


def embedding(x, sample_weight=None):
    """Averages over the positions: `(batch, ..., channels)`, one per sample.

    Those of weight 0 are left out, see `counted`.
    """
    x = at_least_float32(x)
    axes = tuple(range(1, len(x.shape) - 1))
    if not axes:
        return x
    where = counted(sample_weight, x)
    if where is None:
        return ops.mean(x, axis=axes)
    where = ops.broadcast_to(where, ops.shape(x))
    number = ops.sum(ops.cast(where, x.dtype), axis=axes)
    total = ops.sum(ops.where(where, x, ops.zeros_like(x)), axis=axes)
    return total / ops.maximum(number, 1.0)


def centred(embeddings, queue, filled):
    """Subtracts the mean of the queue, and divides by the norms.

    Args:
        embeddings: `(batch, width)`.
        queue: `(size, width)`; the last `filled` rows hold embeddings.
        filled: A scalar integer.

    Returns:
        Both, as directions; zeros for the rows that hold nothing yet.
    """
    size = queue.shape[0]
    holds = ops.cast(ops.arange(size) >= size - filled, queue.dtype)[:, None]
    count = ops.maximum(ops.sum(holds), 1.0)
    mean = ops.sum(holds * queue, axis=0, keepdims=True) / count
    return over_norm(embeddings - mean), over_norm(holds * (queue - mean))


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
