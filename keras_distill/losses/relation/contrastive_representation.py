import math
from typing import Any

import keras
from keras import layers
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.gathering import gather_replicas
from keras_distill.losses.ops.norms import over_norm
from keras_distill.losses.ops.pairwise import flat
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.ops.reductions import without_void
from keras_distill.losses.ops.seeded import Seeded
from keras_distill.losses.relation.memory_bank import all_inside
from keras_distill.losses.relation.memory_bank import class_indices
from keras_distill.losses.relation.memory_bank import concrete
from keras_distill.losses.relation.memory_bank import contrast_scores
from keras_distill.losses.relation.memory_bank import draw_others
from keras_distill.losses.relation.memory_bank import log_mean_exp
from keras_distill.losses.relation.memory_bank import moved_rows
from keras_distill.losses.relation.memory_bank import noise_contrastive
from keras_distill.losses.relation.memory_bank import weights_of_other_classes
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of

NOT_ESTIMATED = -1e9  # In place of the logarithm of a normalizer.


@keras.saving.register_keras_serializable(package="keras_distill")
class ContrastiveRepresentation(Seeded, DistillationLoss):
    """Tells the teacher's view of the same image from that of others (CRD).

        v = (dense layer of the features) / its L2 norm
        o_k = exp(v_student . M_teacher[index_k] / T),  k = 0: the sample
              itself, k = 1..K: others, drawn anew in each step
        x_k = o_k / Z,   m = K / sample_count
        l_student = -log(x_0 / (x_0 + m + 1e-7))
                    - sum_{k=1..K} log(m / (x_k + m + 1e-7))
        loss = sum(weight * (l_student + l_teacher)) / batch

    `l_teacher` exchanges teacher and student. `M` are two memories of one
    vector per training sample, which follow the trained dense layers. The data
    must carry the sample index: `kd.views.indexed(dataset)`. See
    docs/losses.md for the memories, their cost and several replicas.

    form="code" (the authors'): `Z = mean(o) * sample_count` of the first
    step, a constant from then on. form="paper": `Z = 1` and no 1e-7.

    Cost: 28 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        sample_count: Size of the training set: sample indices are 0 to
            `sample_count - 1`.
        embedding_size: Width of v. Defaults to 128, as in the paper.
        negatives: K, which may exceed `sample_count`. Defaults to 16384, as in
            the authors' code.
        negatives_from: `"other_samples"`: all but the sample itself.
            `"other_classes"`: only those with another label, which then weigh
            more (the authors' setting for labelled data); needs integer or
            one-hot labels. Defaults to `"other_samples"`.
        temperature: T. Defaults to 0.07, as in the authors' code.
        momentum: Defaults to 0.5, as in the authors' code.
        form: `"code"` or `"paper"`. Defaults to `"code"`, with which the
            published numbers were made.
        seed: Seed of memories and draws, or `None`. Defaults to 0.
        teacher_layer_name: One layer, usually the features before the
            classifier. `None` for the model's output.
        student_layer_name: The same.
        name: Defaults to `"contrastive_representation"`.
        dtype: dtype of dense layers and memories. Defaults to `"float32"`.

    Input shapes:
        `(batch, ...)` each, flattened. `sample_index`: `(batch,)` integers.
        `sample_weight`: `(batch,)`; weights per position are averaged, and
        positions of weight 0 (padding, void pixels) are zeros.

    Returns:
        `compute_loss`: a scalar in the dtype of the loss.

    Raises:
        ValueError: for arguments out of range; in `build`, for unknown widths;
            in `compute_loss`, for a missing index or one outside of the
            memory (compiled code cannot raise: there the loss is NaN).

    Example:

    ```python
    loss = kd.losses.ContrastiveRepresentation(sample_count=50, negatives=9)
    teacher, student = np.eye(4, 6), np.eye(4, 3)
    loss.compute_loss(teacher, student, sample_index=np.array([7, 0, 49, 3]))
    ```

    Reference:
        Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020.
    """

    needs_sample_index = True

    def __init__(
        self,
        *,
        sample_count: int,
        embedding_size: int = 128,
        negatives: int = 16384,
        negatives_from: str = "other_samples",
        temperature: float = 0.07,
        momentum: float = 0.5,
        form: str = "code",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.sample_count = checked_integer("sample_count", sample_count, 2)
        self.embedding_size = checked_integer("embedding_size", embedding_size)
        self.negatives = checked_integer("negatives", negatives)
        self.negatives_from = one_of(
            "negatives_from", negatives_from, ("other_samples", "other_classes")
        )
        self.temperature = checked_number("temperature", temperature)
        self.momentum = checked_number("momentum", momentum, "[0, 1)")
        self.form = one_of("form", form, ("code", "paper"))
        self.needs_labels = negatives_from == "other_classes"

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        widths = {}
        for role, shape, name in (
            ("teacher", teacher_shape, self.teacher_layer_name),
            ("student", student_shape, self.student_layer_name),
        ):
            shapes = shape_list(shape, name, role)
            if len(shapes) != 1 or len(shapes[0]) < 2 or None in shapes[0][1:]:
                raise ValueError(
                    "ContrastiveRepresentation needs one tap per network, "
                    "(batch, ...) of known sizes. Received: teacher "
                    f"{teacher_shape}, student {student_shape}. Name one "
                    f"layer, such as the last pooling: {role}_layer_name=."
                )
            widths[role] = math.prod(shapes[0][1:])
        super().build(teacher_shape, student_shape)
        for role, width in widths.items():
            dense = layers.Dense(
                self.embedding_size, name=f"{role}_dense", dtype=self.dtype
            )
            dense.build((None, width))
            setattr(self, f"{role}_dense", dense)
        bound = math.sqrt(3.0 / self.embedding_size)  # The authors' draw.
        for offset, role in enumerate(("teacher", "student")):
            seed = None if self.seed is None else self.seed + offset
            draw = keras.initializers.RandomUniform(-bound, bound, seed)
            shape = (self.sample_count, self.embedding_size)
            memory = self._state(f"{role}_memory", shape, draw)
            setattr(self, f"{role}_memory", memory)
        unknown = keras.initializers.Constant(NOT_ESTIMATED)
        # One for each side: (l_student's, l_teacher's).
        self.log_normalizers = self._state("log_normalizers", (2,), unknown)
        if self.needs_labels:
            unknown = keras.initializers.Constant(-1)
            self.label_memory = self._state(
                "label_memory", (self.sample_count,), unknown, "int32"
            )

    def _state(self, name, shape, initializer, dtype=None):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype=dtype,
            trainable=False,
            # All replicas compute the same update.
            aggregation="only_first_replica",
        )

    def teacher_changed(self) -> None:
        if self.built:  # The old one's rows fade from the memory by themselves.
            unknown = ops.full((2,), NOT_ESTIMATED)
            self.log_normalizers.assign(unknown)

    def draw_contrast(self, sample_index):
        """`(batch, 1 + negatives)` indices: each sample itself, then others."""
        return draw_others(
            sample_index,
            self.negatives,
            self.sample_count,
            self.seed_generator,
        )

    def validate_batch(
        self, teacher_outputs: Any = None, sample_index: Any = None
    ) -> None:
        super().validate_batch(teacher_outputs, sample_index)
        if sample_index is None:
            return
        outside = (sample_index < 0) | (sample_index >= self.sample_count)
        if outside.any():
            raise ValueError(
                f"The memory bank of '{self.name}' has {self.sample_count} "
                f"rows, for indices 0 to {self.sample_count - 1}. Received "
                f"sample indices from {sample_index.min()} to "
                f"{sample_index.max()}. Pass sample_count= the number of "
                "samples of the training set."
            )

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> Any:
        self._check_extras(y, sample_index)
        if not self.built:
            self.build(shapes_of(teacher_outputs), shapes_of(student_outputs))
        sample_index = ops.convert_to_tensor(sample_index)
        (teacher,) = in_order(teacher_outputs, self.teacher_layer_name)
        (student,) = in_order(student_outputs, self.student_layer_name)
        teacher, student = same_precision(teacher, student)
        teacher = ops.stop_gradient(without_void(teacher, sample_weight))
        student = without_void(student, sample_weight)
        teacher = over_norm(self.teacher_dense(flat(teacher)))
        student = over_norm(self.student_dense(flat(student)))
        indices = self.draw_contrast(sample_index)
        labels = weights = None
        if self.needs_labels:
            labels = class_indices(y)
            drawn = ops.take(self.label_memory, indices[:, 1:], axis=0)
            weights = weights_of_other_classes(labels, drawn, self.dtype)
        epsilon = 1e-7 if self.form == "code" else 0.0
        sides = (student, self.teacher_memory), (teacher, self.student_memory)
        values, normalizers = 0.0, []
        for side, (vectors, memory) in enumerate(sides):
            memory = ops.convert_to_tensor(memory)
            scores = contrast_scores(vectors, memory, indices)
            scores = scores / self.temperature
            normalizers.append(self._log_normalizer(side, scores))
            values = values + noise_contrastive(
                scores, normalizers[-1], self.sample_count, epsilon, weights
            )
        loss = weighted_mean(values, sample_weight)
        self._remember(sample_index, teacher, student, labels, normalizers)
        # Compiled lookups do not raise: no training on another sample's row.
        inside = all_inside(sample_index, self.sample_count)
        return ops.where(inside, loss, float("nan"))

    def _log_normalizer(self, side, scores):
        """log Z: the stored one, or on the first step that of these scores."""
        if self.form == "paper":
            return ops.zeros((), scores.dtype)
        estimate = log_mean_exp(scores) + math.log(self.sample_count)
        stored = ops.cast(self.log_normalizers[side], scores.dtype)
        return ops.where(stored == NOT_ESTIMATED, estimate, stored)

    def _remember(self, sample_index, teacher, student, labels, normalizers):
        index = gather_replicas(sample_index)
        for memory, vectors in (
            (self.teacher_memory, teacher),
            (self.student_memory, student),
        ):
            vectors = gather_replicas(ops.stop_gradient(vectors))
            vectors = ops.cast(vectors, memory.dtype)
            memory.assign(moved_rows(memory, index, vectors, self.momentum))
        if labels is not None:
            known = ops.convert_to_tensor(self.label_memory)
            labels = gather_replicas(labels)
            known = ops.scatter_update(known, index[:, None], labels)
            self.label_memory.assign(known)
        if self.form == "code":
            self.log_normalizers.assign(ops.stack(normalizers))

    def _check_extras(self, y, sample_index):
        if sample_index is None:
            raise ValueError(
                f"'{self.name}' keeps a vector per training sample and needs "
                "to know which samples these are. Received: sample_index=None. "
                "Pass the index of each sample in the training set; "
                "kd.Distiller takes it from kd.views.indexed(dataset)."
            )
        if self.needs_labels and y is None:
            raise ValueError(
                f"'{self.name}' takes its negatives from other classes and "
                "needs labels. Received: y=None. Pass labels, or "
                'negatives_from="other_samples".'
            )
        if (index := concrete(sample_index)) is not None:
            self.validate_batch(sample_index=index)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sample_count": self.sample_count,
            "embedding_size": self.embedding_size,
            "negatives": self.negatives,
            "negatives_from": self.negatives_from,
            "temperature": self.temperature,
            "momentum": self.momentum,
            "form": self.form,
        }
