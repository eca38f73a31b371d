"""The base class of the losses on a network's outputs.

`ResponseLoss` checks before the first step that two outputs can be compared
class by class; `SoftTargets`, `LogitsMSE`, `HardLabels` and others compare.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_distill._arguments import checked_integers
from keras_distill._keras.heads import final_activation
from keras_distill._keras.heads import gives_logits
from keras_distill._keras.heads import layer_activation
from keras_distill._shapes import sizes_agree
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.structures import several_outputs
from keras_distill.losses.structures import shapes_of
from keras_distill.losses.values import look_like_probabilities
from keras_distill.losses.values import may_be_probabilities
from keras_distill.taps.paths import find_layer


class ResponseLoss(DistillationLoss):
    """Base class of the losses on outputs `(batch, ..., classes)`.

        loss = sum(weight * position_loss) / number of positions

    A position is a sample, a time step or a pixel. Subclasses implement
    `position_loss(teacher, student)`. Class attributes, or `__init__`, say
    what the networks have to give:

    - `activation`: `"softmax"` (one class of many), `"sigmoid"` (independent
      classes), or `None` (any numbers);
    - `teacher_probabilities`: `None` (logits, unless they look otherwise),
      `False` (logits), `True` or `"as_given"`;
    - `reads_teacher_logits`, `reads_student_logits`: whether probabilities
      instead of logits are an error.

    Args:
        class_map: `None`, or one index per class of the student:
            `teacher_outputs[..., class_map]` are the student's classes. An
            index may be `None`, for a class that the teacher lacks: the loss
            compares the other classes alone. Losses that read labels need an
            index for every class.
        **kwargs: See `DistillationLoss`.
    """

    activation: str | None = "softmax"
    teacher_probabilities: bool | str | None = None
    reads_teacher_logits = True
    reads_student_logits = True

    def __init__(
        self, *, class_map: Sequence[int | None] | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.class_map = _validated_class_map(class_map)
        if self.needs_labels and None in (self.class_map or ()):
            raise ValueError(
                f"class_map: {type(self).__name__} reads labels, which may be "
                "of any class, so that each class of the student needs one of "
                f"the teacher. Received: {list(self.class_map)}. Take "
                "SoftTargets, which compares the classes that both know."
            )
        self._teacher_is_linear = False
        for argument in ("teacher_layer_name", "student_layer_name"):
            if isinstance(getattr(self, argument), list):
                raise ValueError(
                    f"{type(self).__name__} compares one output per network, "
                    f"so {argument} must be one layer name or None. Received: "
                    f"{getattr(self, argument)}. Use one loss per output."
                )

    @property
    def compares_classes(self):
        return self.activation is not None

    def position_loss(self, teacher: Any, student: Any) -> Any:
        """Computes `(batch, ...)` from two outputs `(batch, ..., classes)`."""
        raise NotImplementedError

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> Any:
        teacher, student = self.comparable(teacher_outputs, student_outputs)
        values = self.position_loss(teacher, student)
        return weighted_mean(values, sample_weight)

    def comparable(self, teacher_outputs, student_outputs):
        """Returns both outputs in one precision, with the student's classes."""
        if not self.built:
            self.build(shapes_of(teacher_outputs), shapes_of(student_outputs))
        teacher, student = same_precision(teacher_outputs, student_outputs)
        if self.class_map is not None:
            teacher = ops.take(teacher, _known(self.class_map), axis=-1)
            if None in self.class_map:
                pairs = enumerate(self.class_map)
                places = [i for i, number in pairs if number is not None]
                student = ops.take(student, places, axis=-1)
        return ops.stop_gradient(teacher), student

    def bind(self, teacher: keras.Model | None, student: keras.Model) -> None:
        if self.reads_student_logits:
            self._check_head(student, "student")
        if teacher is not None:
            self._check_head(teacher, "teacher")
            tap = self.teacher_layer_name
            layer, call = None, None
            if tap is not None:
                layer, call = find_layer(teacher, tap)
            self._teacher_is_linear = gives_logits(
                teacher, layer, call, self.task
            )

    def _check_head(self, model, role):
        layer_name = getattr(self, f"{role}_layer_name")
        if layer_name is None:
            found = final_activation(model, self.task)
        else:
            found = layer_activation(*find_layer(model, layer_name, role))
        if found is None:
            return
        where = f"the {role} '{model.name}'"
        if layer_name is not None:
            where = f"layer '{layer_name}' of {where}"
        if role == "teacher" and self.teacher_probabilities:
            if found != self.activation:
                raise ValueError(
                    f"teacher: {where} ends in a {found}, but "
                    f"{type(self).__name__} has activation="
                    f"{self.activation!r}. Pass activation={found!r} if the "
                    "student's head is meant to be read the same way."
                )
        elif role == "student" or self.reads_teacher_logits:
            raise ValueError(
                f"{role}: {type(self).__name__} compares logits, but {where} "
                f"ends in a {found}. "
                + self.how_to_get_logits(role)
                + _of_a_black_box(model)
            )

    def how_to_get_logits(self, role):
        """The advice that an error message gives."""
        return (
            "Expected raw outputs: give the last layer activation=None "
            "(classifier_activation=None for keras.applications), or set "
            f"`{role}.layers[-1].activation = keras.activations.linear`, and "
            "use from_logits=True in losses and metrics that read it."
        )

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        teacher_shape = self._single_shape(teacher_shape, "teacher")
        student_shape = self._single_shape(student_shape, "student")
        self.validate_shapes(teacher_shape, student_shape)
        both = f"teacher {teacher_shape}, student {student_shape}"
        self._check_classes(teacher_shape, student_shape, both)

    def validate_shapes(self, teacher_shape: Any, student_shape: Any) -> None:
        both = f"teacher {teacher_shape}, student {student_shape}"
        if not sizes_agree(teacher_shape[1:-1], student_shape[1:-1]):
            raise ValueError(
                f"{type(self).__name__} compares outputs position by position, "
                f"but their shapes differ before the class axis: {both}. "
                "Expected equal shapes (batch, ..., classes): choose other "
                "outputs with teacher_layer_name= and student_layer_name=."
            )

    def _single_shape(self, shape, role):
        several = several_outputs(shape)
        if several or not shape or len(shape) < 2 or shape[-1] is None:
            problem = (
                "several outputs"
                if several
                else "an output that is not (batch, ..., classes) with a known "
                "number of classes"
            )
            raise ValueError(
                f"{type(self).__name__} compares one tensor (batch, ..., "
                f"classes) per network. Received: the {role} has {problem}: "
                f"{shape}. Name the layer to compare: "
                f'{role}_layer_name="{self._first_name(shape, role)}".'
                f"{_by_task(shape)}"
            )
        return tuple(shape)

    def _first_name(self, shape, role):
        """The name of the first of several outputs, or of any layer."""
        if role != "teacher" or not isinstance(shape, dict):
            return "head"
        name, teacher = next(iter(shape)), self.teacher_layer_name
        return name if teacher is None else f"{teacher}/{name}"

    def _check_classes(self, teacher_shape, student_shape, both):
        name = type(self).__name__
        teacher, student = teacher_shape[-1], student_shape[-1]
        sequences = len(student_shape) == 3
        if self.class_map is None:
            if teacher != student:
                raise ValueError(
                    f"{name} compares class by class, but the teacher has "
                    f"{teacher} classes and the student {student} (shapes: "
                    f"{both}). If the student's classes are among the "
                    "teacher's, pass class_map=: a list with the teacher's "
                    f"index of each of the student's {student} classes."
                    f"{_of_vocabularies(teacher, student) * sequences}"
                )
        elif len(self.class_map) != student:
            raise ValueError(
                f"{name}: class_map must hold one of the teacher's classes per "
                f"class of the student ({student}). Received "
                f"{len(self.class_map)} indices (shapes: {both})."
            )
        elif max(_known(self.class_map)) >= teacher:
            outside = [c for c in _known(self.class_map) if c >= teacher]
            raise ValueError(
                f"{name}: class_map must hold indices of the teacher's "
                f"classes, 0 to {teacher - 1}. Received: {outside} (shapes: "
                f"{both})."
            )
        if self.activation != "softmax":
            return
        if student < 2:
            raise ValueError(
                f"{name} with activation='softmax' needs at least 2 classes: "
                f"over one class a softmax is always 1. Received: {both}. For "
                "a binary head with one output take "
                "SoftTargets(activation='sigmoid')."
            )
        if self.class_map is not None and len(_known(self.class_map)) < 2:
            raise ValueError(
                f"{name}: class_map must name at least 2 classes of the "
                "teacher: over one class a softmax is always 1. Received: "
                f"{list(self.class_map)}."
            )

    def validate_batch(
        self, teacher_outputs: Any = None, sample_index: Any = None
    ) -> None:
        super().validate_batch(teacher_outputs, sample_index)
        if teacher_outputs is None or np.size(teacher_outputs) == 0:
            return
        values = np.asarray(teacher_outputs)
        name = type(self).__name__
        if self.teacher_probabilities and not may_be_probabilities(
            values, self.activation
        ):
            sums = values.astype("float64").sum(axis=-1)
            raise ValueError(
                f"teacher: {name} has teacher_probabilities="
                f"{self.teacher_probabilities!r} and activation="
                f"{self.activation!r}, but the teacher's values on the first "
                f"batch are not such probabilities: from {values.min():.4g} to "
                f"{values.max():.4g}, rows sum to {sums.min():.4g} up to "
                f"{sums.max():.4g}. Pass teacher_probabilities=False if these "
                "are logits."
            )
        known = self.teacher_probabilities is False or (
            self._teacher_is_linear and self.activation == "sigmoid"
        )
        if (
            self.reads_teacher_logits
            and not known
            and look_like_probabilities(values, self.activation)
        ):
            raise ValueError(
                f"teacher: {name} compares logits, but the teacher's values on "
                "the first batch are probabilities: all in [0, 1]"
                + (
                    "."
                    if self.activation == "sigmoid"
                    else ", every row sums to 1."
                )
                + f" {self.how_to_get_logits('teacher')}"
                + self.how_to_say_logits()
            )

    def how_to_say_logits(self):
        """The advice for logits that look like probabilities."""
        return ""

    def get_config(self) -> dict[str, Any]:
        class_map = self.class_map
        return {
            **super().get_config(),
            "class_map": None if class_map is None else list(class_map),
        }


def _by_task(shape):
    names = "'name': ..., 'other': ..."
    if isinstance(shape, dict):
        names = ", ".join(f"'{name}': ..." for name in shape)
    elif not several_outputs(shape):
        return ""
    return (
        f" For a loss of each output: distillation_losses={{{names}}}, and a "
        "student whose output is a dict with these keys, not a list."
    )


def _of_vocabularies(teacher, student):
    """What to do with language models of unlike vocabularies."""
    if teacher > student:
        same = f"list(range({student}))"
    else:
        same = f"[*range({teacher}), *[None] * {student - teacher}]"
    return (
        " Language models are compared token by token, so a token must have "
        "one number in both. If the longer vocabulary is the shorter one with "
        f"more at its end, pass class_map={same}. Of two tokenizers no loss "
        "can compare the outputs: let the teacher write text, and train the "
        "student on it with labels, in tokens of its own."
    )


def _of_a_black_box(model):
    if not getattr(model, "is_black_box", False):
        return ""
    return (
        " Of a black box, whose layers cannot be changed, "
        "kd.Ensemble([teacher]) takes the logarithm: that gives logits."
    )


def _validated_class_map(class_map):
    if class_map is None:
        return None
    hint = "the teacher's class for each class of the student; None for all"
    known = class_map
    if isinstance(class_map, (list, tuple)):
        known = _known(class_map)
    checked_integers("class_map", known, least=0, hint=hint)
    return [number if number is None else int(number) for number in class_map]


def _known(class_map):
    """The teacher's classes, without those that it lacks."""
    return [number for number in class_map if number is not None]
