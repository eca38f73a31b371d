"""Several teachers' outputs as one."""

import functools
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integers
from keras_distill._arguments import checked_mapping
from keras_distill._arguments import checked_numbers
from keras_distill._arguments import checked_seed
from keras_distill._arguments import checked_strings
from keras_distill._arguments import one_of
from keras_distill._shapes import sizes_agree
from keras_distill.losses.ops.labels import hard_labels
from keras_distill.losses.structures import plain

RULES = "mean", "confidence", "label", "sample"


@keras.saving.register_keras_serializable(package="keras_distill")
class Combination(keras.layers.Layer):
    """One output of several teachers: their probabilities, mixed per sample.

        f(x) = log( sum_i s_i(x) p_i(x) ),   p_i = softmax(f_i),   sum_i s_i = 1
        rule="mean":         s_i    =  w_i
        rule="confidence":   s_i(x) ~  w_i max_c p_i(c | x)
        rule="label":        s_i(x) ~  w_i if p_i is largest for the label of x;
                             s_i    =  w_i if that is so for no teacher
        rule="sample":       s_i    =  1 for one teacher, the same for a whole
                             batch; it is i in the share w_i of the steps

    Pass it to `kd.Teachers(combinations=...)` under a name. Losses read it by
    this name, as they read a teacher's output. The logarithm makes it logits.

    With `"label"`, a teacher counts where it is right, so the data need labels.
    With `"sample"`, only the teacher of the step runs, unless a loss needs the
    others: a step costs what one teacher costs. In evaluation it is the mean.

    Args:
        teachers: The names of the teachers, two or more.
        weights: `w_i`, one number per teacher, >= 0; they are scaled to sum
            to 1. Defaults to equal weights.
        rule: `"mean"`, `"confidence"`, `"label"` or `"sample"`.
        class_maps: For teachers with other classes: a dict name of a teacher
            -> list, as `class_map` of losses (`kd.teachers.class_map`). The
            probabilities of the chosen classes are scaled to sum to 1.
            Defaults to `None`: all have the same classes.
        probabilities: The names of the teachers that give softmax
            probabilities and not logits; an empty list for none. Defaults to
            what their last layers say, as for `kd.Ensemble`.
        seed: The seed of `"sample"`. The draw is a function of the seed and of
            the number of the step. Defaults to 0.
        name: The name of the layer; `kd.Teachers` sets it.

    Input shapes:
        `call(outputs, y)`: a dict name of a teacher -> `(batch, ..., classes)`,
        and for `"label"` the labels, sparse or one-hot.

    Returns:
        `(batch, ..., classes)` log-probabilities, float32.

    Raises:
        ValueError: If an argument is out of range, or the teachers have other
            classes or positions than each other.

    Example:

    ```python
    teachers = kd.Teachers(
        {"shape": first, "texture": second},
        combinations={
            "surer": kd.teachers.Combination(
                ["shape", "texture"], rule="confidence"
            )
        },
    )
    loss = kd.losses.SoftTargets(teacher_layer_name="surer")
    ```

    Reference:
        Of weights by sample: Zhang, Chen and Wang, "Confidence-Aware
        Multi-Teacher Knowledge Distillation", 2022. They weigh each teacher by
        its cross-entropy with the label; these rules are simpler.
    """

    def __init__(
        self,
        teachers: Sequence[str],
        weights: Sequence[float] | None = None,
        rule: str = "mean",
        *,
        class_maps: Mapping[str, Sequence[int]] | None = None,
        probabilities: Sequence[str] | None = None,
        seed: int = 0,
        name: str | None = None,
    ):
        super().__init__(name=name, dtype="float32", autocast=False)
        names = checked_strings("teachers", teachers)
        if len(set(names)) != len(names) or len(names) < 2:
            raise ValueError(
                "teachers must be the names of two teachers or more, each "
                f"once. Received: {names}"
            )
        self.teachers = tuple(names)
        if weights is None:
            weights = [1.0] * len(names)
        weights = checked_numbers("weights", weights, "[0, inf)")
        if len(weights) != len(names) or not sum(weights):
            raise ValueError(
                f"weights needs {len(names)} numbers >= 0, not all 0. "
                f"Received: {weights}"
            )
        self.weights_of_teachers = tuple(w / sum(weights) for w in weights)
        self.rule = one_of("rule", rule, RULES)
        self.class_maps = self._checked_class_maps(class_maps)
        self.probabilities = self._checked_names("probabilities", probabilities)
        self.seed = checked_seed(seed)
        self.supports_masking = True

    @property
    def needs_labels(self) -> bool:
        """Whether `call` needs labels."""
        return self.rule == "label"

    def build(self, input_shape=None):
        self.built = True

    def call(self, outputs, y=None):
        self.check_shapes({n: outputs[n].shape for n in self.teachers})
        p = [self.distribution(n, outputs[n]) for n in self.teachers]
        if self.rule == "label":
            right = hard_labels(y, p[0], f"The combination '{self.name}'")
            trust = [_chooses(right, x) for x in p]
        elif self.rule == "confidence":
            trust = [ops.max(x, axis=-1, keepdims=True) for x in p]
        else:
            return mixed(p, self.weights_of_teachers)
        trust = [w * t for w, t in zip(self.weights_of_teachers, trust)]
        total = sum(trust)
        shares = [
            ops.where(total > 0.0, t / ops.maximum(total, 1e-12), w)
            for w, t in zip(self.weights_of_teachers, trust)
        ]
        return mixed(p, shares)

    def compute_mask(self, inputs, previous_mask=None):
        """A position counts that counts for each teacher."""
        masks = [(previous_mask or {}).get(name) for name in self.teachers]
        masks = [mask for mask in masks if mask is not None]
        return functools.reduce(ops.logical_and, masks) if masks else None

    def of_one(self, name, output):
        """Returns one teacher's output as the combination gives it."""
        return mixed([self.distribution(name, output)], [1.0])

    def distribution(self, name, output):
        """Returns a teacher's probabilities of the classes, float32."""
        output = ops.cast(output, "float32")
        chosen = self.class_maps.get(name)
        if chosen is not None:
            output = ops.take(output, list(chosen), axis=-1)
        if name not in (self.probabilities or ()):
            return ops.softmax(output, axis=-1)
        if chosen is None:
            return output
        total = ops.sum(output, axis=-1, keepdims=True)
        return output / ops.maximum(total, 1e-12)

    def check_shapes(self, shapes):
        """Returns the shape of the combination.

        Args:
            shapes: A dict name of a teacher -> shape of its output.

        Raises:
            ValueError: If they do not fit each other.
        """
        found = {}
        for name in self.teachers:
            *positions, classes = shapes[name]
            chosen = self.class_maps.get(name)
            if chosen is not None and max(chosen) >= classes:
                raise ValueError(
                    f"class_maps of the combination '{self.name}': the teacher "
                    f"'{name}' has the classes 0 to {classes - 1}. Received: "
                    f"{max(chosen)}"
                )
            found[name] = (*positions, len(chosen) if chosen else classes)
        shape = found[self.teachers[0]]
        if any(other[-1] != shape[-1] for other in found.values()):
            raise ValueError(
                f"The combination '{self.name}' mixes probabilities of the "
                "same classes, but its teachers have other classes than each "
                f"other: {found}. Pass class_maps=: for each teacher with more "
                "classes a list of those that are meant, which "
                "kd.teachers.class_map finds by name. Teachers without common "
                "classes teach by a loss each."
            )
        if not all(sizes_agree(shape[1:], x[1:]) for x in found.values()):
            raise ValueError(
                f"The combination '{self.name}' mixes outputs position by "
                f"position. Received outputs of shapes {found}."
            )
        if shape[-1] == 1:
            raise ValueError(
                f"The combination '{self.name}' mixes softmax probabilities of "
                f"two classes or more. Received outputs of shapes {found}."
            )
        return (None, *shape[1:])

    def compute_output_spec(self, outputs, y=None):
        shape = self.check_shapes({n: outputs[n].shape for n in self.teachers})
        return keras.KerasTensor(shape, "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            "teachers": list(self.teachers),
            "weights": list(self.weights_of_teachers),
            "rule": self.rule,
            "class_maps": {k: list(v) for k, v in self.class_maps.items()},
            "probabilities": plain(self.probabilities),
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Combination":
        return cls(**config)

    def _checked_class_maps(self, class_maps):
        class_maps = {} if class_maps is None else class_maps
        hint = "a dict name of a teacher -> its class for each class"
        checked_mapping("class_maps", class_maps, hint=hint)
        self._checked_names("class_maps", list(class_maps))
        return {
            name: tuple(checked_integers("class_maps", numbers, least=0))
            for name, numbers in class_maps.items()
        }

    def _checked_names(self, argument, names):
        if names != []:
            names = checked_strings(argument, names, or_none=True)
        unknown = sorted(set(names or ()) - set(self.teachers))
        if unknown:
            raise ValueError(
                f"{argument} must name teachers of the combination, "
                f"{list(self.teachers)}. Received: {unknown}"
            )
        return None if names is None else tuple(names)


def mixed(probabilities, shares):
    """Returns `log(sum_i share_i * p_i)`, float32."""
    total = sum(share * p for share, p in zip(shares, probabilities))
    # The smallest normal float32: log stays finite if all say 0.
    return ops.log(ops.maximum(total, 1.2e-38))


def _chooses(label, probabilities):
    """Whether the largest probability is that of a one-hot label, as 1 and 0
    `(batch, ..., 1)`."""
    largest = ops.argmax(probabilities, axis=-1)
    chosen = ops.one_hot(largest, probabilities.shape[-1], dtype="float32")
    return ops.sum(label * chosen, axis=-1, keepdims=True)
