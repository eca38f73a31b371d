"""What losses share that bring the student's maps to the teacher's channels."""

from typing import Any

from keras_distill._arguments import one_of
from keras_distill.losses.connectors import make_regressor
from keras_distill.losses.feature.feature_maps import check_maps
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.pooling import match_spatial


class Connected:
    """Gives a `LayerPairLoss` a 1x1 convolution per pair of maps.

    Args:
        connector: `"auto"`: if the channels differ. `"conv1x1"`: always.
            `None`: never.
        **kwargs: See `LayerPairLoss`.
    """

    dtype: Any

    def __init__(self, *, connector: str | None = "auto", **kwargs: Any):
        super().__init__(**kwargs)
        self.connector = one_of(
            "connector", connector, ("auto", "conv1x1", None)
        )
        self.connectors: dict = {}  # Of each pair, or `None`.

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        way_out = 'Pass connector="auto".' if self.connector is None else None
        check_maps(self, teacher_shape, student_shape, way_out)
        self.connectors[index] = make_regressor(
            self.connector, teacher_shape, student_shape, self.dtype
        )

    def connected(self, index, teacher, student):
        """Returns both maps of a pair in one size, width and precision."""
        teacher, student = match_spatial(teacher, student)
        if self.connectors[index] is not None:
            student = self.connectors[index](student)
        return same_precision(teacher, student)

    def get_config(self):
        return {**super().get_config(), "connector": self.connector}
