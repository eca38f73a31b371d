"""What several losses of feature maps share."""

from typing import Any

from keras_distill._arguments import one_of
from keras_distill._shapes import sizes_agree
from keras_distill.losses.connectors import conv_bn


def check_maps(loss, teacher_shape, student_shape, way_out=None):
    """Raises unless both are maps of known channels.

    Args:
        loss: The loss, for the message.
        teacher_shape: Tuple, batch axis first.
        student_shape: Tuple, batch axis first.
        way_out: Advice for the message. If given, the channels must agree too.
    """
    teacher_shape, student_shape = tuple(teacher_shape), tuple(student_shape)
    problem = None
    if len(teacher_shape) != 4 or len(student_shape) != 4:
        problem = "compares maps (batch, height, width, channels)"
        way_out = (
            "Tap layers before the pooling with teacher_layer_name= and "
            "student_layer_name=."
        )
    elif None in (teacher_shape[-1], student_shape[-1]):
        problem = "needs to know the number of channels"
        way_out = (
            "Tap layers whose last axis is known with teacher_layer_name= and "
            "student_layer_name=."
        )
    elif way_out and teacher_shape[-1] != student_shape[-1]:
        problem = "needs equal channels here"
    if problem:
        raise ValueError(
            f"{type(loss).__name__} {problem}. Received: teacher "
            f"{teacher_shape}, student {student_shape}. {way_out}"
        )


def check_equal_maps(loss, teacher_shape, student_shape, way_out):
    """Raises unless both are maps of the same size and channels."""
    check_maps(loss, teacher_shape, student_shape, way_out)
    if not sizes_agree(teacher_shape[1:3], student_shape[1:3]):
        raise ValueError(
            f"{type(loss).__name__} needs maps of equal size here. Received: "
            f"teacher {tuple(teacher_shape)}, student {tuple(student_shape)}. "
            f"{way_out}"
        )


class PreActivationConnectors:
    """Joins the student's pre-activations to the teacher's channels.

    For a `LayerPairLoss`: a 1x1 convolution and batch normalization per pair.

    Args:
        connector: `"auto"` (if the channels differ), `"conv_bn"` (always)
            or `None` (never).
    """

    def __init__(self, *, connector: str | None = "auto", **kwargs: Any):
        super().__init__(**kwargs)
        self.connector = one_of(
            "connector", connector, ("auto", "conv_bn", None)
        )
        self.connectors: dict = {}  # Of each pair, or `None`.

    def build_pair(self, index, teacher_shape, student_shape):
        way_out = 'Pass connector="auto".' if self.connector is None else None
        check_maps(self, teacher_shape, student_shape, way_out)
        same = teacher_shape[-1] == student_shape[-1]
        self.connectors[index] = (
            None
            if self.connector is None or (self.connector == "auto" and same)
            else conv_bn(student_shape, teacher_shape[-1], self.dtype)
        )

    def connected(self, index, student):
        """The student's map with the teacher's channels."""
        if self.connectors[index] is None:
            return student
        return self.connectors[index](student, training=True)

    def get_config(self):
        return {**super().get_config(), "connector": self.connector}
