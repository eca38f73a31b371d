from collections.abc import Sequence
from typing import Any

import keras
from keras import layers
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.transformer.layer_mapping import mapped
from keras_distill.losses.transformer.sequences import check_positions


@keras.saving.register_keras_serializable(package="keras_distill")
class HiddenStates(LayerPairLoss):
    """Matches what the blocks of two transformers give, after a linear map.

        l = mean over positions and channels of (student W - teacher)^2
        loss = sum over pairs of layers of layer_weight * l

    `W` is learned with the student and is not part of it. The taps are the
    embeddings (layer 0) and the outputs of the blocks, as
    `kd.taps.suggest(teacher, student)` names them. Padding does not count.

    Args:
        teacher_layer_name: A layer, or the layers from first to last.
        student_layer_name: The same. Lists of equal length are paired one to
            one; of a longer list of the teacher's, `layer_mapping` chooses.
        layer_mapping: Which of N layers teaches layer m of M. `"uniform"`:
            layer `m N / M`, rounded down. `"last"`: the last M. Defaults to
            `"uniform"`, the best of the paper's three (table 5).
        embeddings: Whether both lists begin with the embeddings, which are
            paired and not counted as a layer. Only lists of unlike length
            need it. Defaults to `False`.
        projection: `"shared"`: one `W` for all pairs, as in the authors'
            code. `"separate"`: one for each pair. `None`: no map; widths must
            agree. The paper has a map of their own for embeddings: give them a
            loss of their own. Defaults to `"shared"`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"hidden_states"`.
        dtype: dtype of the map's weights. Defaults to `"float32"`.

    Input shapes:
        Per pair `(batch, positions, width)`, or `(batch, width)`, of unlike
        widths. `sample_weight`: `(batch,)`, or one weight per position. In
        `kd.Distiller` the masks of the taps are in it.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for more layers of the student than of the teacher; in
            `build`, for sequences of unlike length, and for widths that the
            projection cannot join.

    Example:

    ```python
    loss = kd.losses.HiddenStates(
        teacher_layer_name=["block1", "block2", "block3", "block4"],
        student_layer_name=["block1", "block2"],
    )
    loss.teacher_layer_name  # ["block2", "block4"]
    ```

    Reference:
        Jiao et al., "TinyBERT: Distilling BERT for Natural Language
        Understanding", 2020, eqs. 8 and 9.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        layer_mapping: str = "uniform",
        embeddings: bool = False,
        projection: str | None = "shared",
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        teacher_layer_name, student_layer_name = mapped(
            teacher_layer_name, student_layer_name, layer_mapping, embeddings
        )
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            layer_weights=layer_weights,
            **kwargs,
        )
        self.layer_mapping = layer_mapping
        self.embeddings = embeddings
        self.projection = one_of(
            "projection", projection, ("shared", "separate", None)
        )
        self.projections: list = []

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        teacher, student = tuple(teacher_shape), tuple(student_shape)
        problem = None
        if len(teacher) != len(student) or len(teacher) not in (2, 3):
            problem = "expected two of (batch, positions, width)"
        elif None in (teacher[-1], student[-1]):
            problem = "the width must be known"
        elif self.projection is None and teacher[-1] != student[-1]:
            problem = 'without a map widths must agree: projection="shared"'
        if problem:
            raise ValueError(
                f"HiddenStates: {problem}. Received: teacher {teacher}, "
                f"student {student}. Tap the outputs of blocks with "
                "teacher_layer_name= and student_layer_name=; "
                "kd.taps.suggest(teacher, student) names them."
            )
        check_positions(self, teacher, student, range(1, len(teacher) - 1))
        if self.projection is None:
            return
        if self.projection == "separate" or not self.projections:
            # Equation 8 has no bias.
            projection = layers.Dense(
                teacher[-1], use_bias=False, dtype=self.dtype
            )
            projection.build((None, *student[1:]))
            self.projections.append(projection)
        kernel = self.projections[-1].kernel
        if tuple(kernel.shape) != (student[-1], teacher[-1]):
            raise ValueError(
                "One map cannot join layers of unlike widths. Received: "
                f"teacher {teacher}, student {student}, and before it widths "
                f"{kernel.shape[1]} and {kernel.shape[0]}. Pass "
                'projection="separate".'
            )

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        check_positions(
            self, teacher.shape, student.shape, range(1, len(teacher.shape) - 1)
        )
        if self.projection is not None:
            shared = self.projection == "shared"
            student = self.projections[0 if shared else index](student)
        teacher, student = same_precision(teacher, student)
        values = ops.mean(ops.square(student - teacher), axis=-1)
        return weighted_mean(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer_mapping": self.layer_mapping,
            "embeddings": self.embeddings,
            "projection": self.projection,
        }
