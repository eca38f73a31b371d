"""Several teachers, each by its name."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_distill._arguments import checked_layer
from keras_distill._arguments import checked_mapping
from keras_distill._arguments import one_of
from keras_distill._keras.heads import final_activation
from keras_distill._keras.precision import check_remembers_nothing
from keras_distill._keras.symbolic_pass import with_free_batch
from keras_distill._shapes import sizes_agree
from keras_distill.teachers.combination import Combination
from keras_distill.teachers.devices import device_of
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.teachers.ensemble import gives_probabilities
from keras_distill.teachers.member import Member
from keras_distill.teachers.member import StoredTeacher

_DTYPES = "float32", "bfloat16", "float16"


@keras.saving.register_keras_serializable(package="keras_distill")
class Teachers(keras.Model):
    """Several teachers by name, as one Keras model.

        f(x) = {name: f_name(preprocessing_name(x_name))}

    Wherever it is a `teacher=`, a loss says what it learns from:

        kd.losses.SoftTargets(teacher_layer_name="shape")         # its output
        kd.losses.Hint(teacher_layer_name="texture/conv4", ...)   # a layer
        kd.losses.SoftTargets(teacher_layer_name="both")          # combined

    Each teacher runs once in a step, however many losses read it. One that no
    loss reads does not run.

    Args:
        teachers: A dict name -> teacher. A teacher is a trained `keras.Model`,
            a list of them (`kd.Ensemble`), or a `kd.TeacherCache`: then the
            data carries its outputs, `fit(cache.join(dataset, name=name))`,
            while the others run. Teachers may differ in everything: inputs,
            resolution, classes, precision and device.
        preprocessing: A dict name -> Keras layer or model that is applied to
            the batch for this teacher alone, such as
            `keras.layers.Resizing(224, 224)`. Defaults to none.
        dtypes: A dict name -> `"float32"`, `"bfloat16"` or `"float16"`: the
            precision in which a teacher computes, as `teacher_dtype` of
            `kd.Distiller`, before which it goes. Defaults to their own.
        combinations: A dict name -> `kd.teachers.Combination`, or a list of
            names of teachers for the mean of their probabilities. Defaults to
            none.
        name: The name of the model.

    Attributes:
        members: A dict name -> layer, all teachers.
        combinations: A dict name -> `kd.teachers.Combination`.

    Input shapes:
        The batch, as `kd.Distiller` gives it to its teacher. If it is a dict,
        a teacher takes what has its own name (`"shape"`), or else what has the
        names of its inputs, or else all of it. So a teacher of images and
        texts teaches beside one of images a student of images.

    Returns:
        A dict name -> output of the teacher, of those that are not cached.

    Raises:
        TypeError, ValueError: If a teacher is not built, a name is used twice
            or holds "/" or "#", or a combination cannot be made of its
            teachers.

    Example:

    ```python
    teachers = kd.Teachers(
        {"small": first, "large": second},
        preprocessing={"small": keras.layers.Rescaling(1 / 255)},
        combinations={"both": ["small", "large"]},
    )
    distiller = kd.Distiller(
        student=student,
        teacher=teachers,
        distillation_losses={
            "soft": kd.losses.SoftTargets(teacher_layer_name="both"),
            "hint": kd.losses.Hint(
                teacher_layer_name="large/conv2", student_layer_name="conv2"
            ),
        },
    )
    ```
    """

    # A batch that is a dict goes to each teacher, which takes its own part.
    splits_inputs = True

    def __init__(
        self,
        teachers: Mapping[str, Any],
        *,
        preprocessing: Mapping[str, keras.layers.Layer] | None = None,
        dtypes: Mapping[str, str] | None = None,
        combinations: Mapping[str, Combination | Sequence[str]] | None = None,
        name: str = "teachers",
    ):
        # Each teacher casts the inputs to its own policy.
        super().__init__(name=name, autocast=False)
        hint = "name -> a trained keras.Model"
        teachers = dict(checked_mapping("teachers", teachers, hint=hint))
        if not teachers:
            raise ValueError(f"teachers must be a dict {hint}. Received: {{}}")
        # In the order of their names, as structures of tensors are.
        teachers = {
            key: _checked_teacher(key, teachers[key])
            for key in sorted(teachers, key=str)
        }
        preprocessing = _by_name("preprocessing", preprocessing, teachers)
        dtypes = _by_name("dtypes", dtypes, teachers)
        members = {}
        for key, teacher in teachers.items():
            if not isinstance(teacher, keras.Model):
                members[key] = StoredTeacher(teacher, key)
                continue
            dtype = one_of("dtypes", dtypes.get(key), (None, *_DTYPES))
            check_remembers_nothing(teacher, dtype)
            layer = checked_layer("preprocessing", preprocessing.get(key))
            members[key] = Member(teacher, layer, dtype, name=key)
        self.members = members
        self.combinations = {
            key: self._combination(key, value)
            for key, value in _mapping("combinations", combinations).items()
        }
        if self.inputs:
            # Called once, Keras knows the input shape.
            self(with_free_batch(self.input))
        self.built = True

    def only(self, names):
        """Returns a model of some of these teachers, which shares them."""
        part = Teachers.__new__(Teachers)
        keras.Model.__init__(part, name=self.name, autocast=False)
        part.members = {name: self.members[name] for name in names}
        part.combinations = {}
        part.built = True
        return part

    @property
    def live(self) -> dict[str, Member]:
        """The teachers that run, not cached ones: a dict name -> layer."""
        return {k: m for k, m in self.members.items() if isinstance(m, Member)}

    @property
    def names(self) -> list[str]:
        """The names of all teachers and combinations."""
        return [*self.members, *self.combinations]

    @property
    def models(self) -> list[keras.Model]:
        """The networks of these teachers."""
        return [member.layer for member in self.live.values()]

    def activation_of(self, name):
        """The activation that a teacher ends in, as `final_activation`."""
        member = self.members.get(name)
        return None if member is None else _head(member)

    # As of a Functional model, see `Ensemble`.

    @property
    def inputs(self):
        """The symbolic inputs, a list; `None` if they show only on data."""
        found = self.input
        return None if found is None else keras.tree.flatten(found)

    @property
    def input(self):
        """One tensor if all take the same one, or a dict of all by name."""
        taken = [member.symbolic_inputs() for member in self.live.values()]
        if not taken or any(x is None for x in taken):
            return None
        flat = [keras.tree.flatten(x) for x in taken]
        shapes = [tuple(x[0].shape[1:]) for x in flat]
        alike = all(sizes_agree(shape, shapes[0]) for shape in shapes)
        if alike and all(len(x) == 1 for x in flat):
            return flat[0][0]
        named = {}
        for tensor in (tensor for x in flat for tensor in x):
            other = named.setdefault(tensor.name, tensor)
            if not sizes_agree(tensor.shape[1:], other.shape[1:]):
                return None
        return named

    def build(self, input_shape=None):
        # The teachers are built.
        self.built = True

    def call(self, inputs, training=None):
        devices = {k: device_of(m.layer) for k, m in self.live.items()}
        several = len(set(devices.values()) - {None}) > 1
        return {
            key: member(
                inputs,
                device=devices[key] if several else None,
                training=training,
            )
            for key, member in self.live.items()
        }

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        live = self.live
        return {
            "teachers": {
                key: serialize(live[key].layer)
                if key in live
                else {"cache": member.cache_path}
                for key, member in self.members.items()
            },
            "preprocessing": {
                key: serialize(member.preprocessing)
                for key, member in live.items()
                if member.preprocessing is not None
            },
            "dtypes": {
                key: member.precision
                for key, member in live.items()
                if member.precision is not None
            },
            "combinations": {
                key: serialize(value)
                for key, value in self.combinations.items()
            },
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Teachers":
        config, restore = dict(config), keras.saving.deserialize_keras_object
        for key in ("teachers", "preprocessing", "combinations"):
            config[key] = {
                name: _opened(value["cache"])
                if set(value) == {"cache"}
                else restore(value)
                for name, value in config[key].items()
            }
        return cls(**config)

    def _combination(self, key, value):
        """Returns a combination under its name, for these teachers."""
        _check_name("combinations", key)
        if key in self.members:
            raise ValueError(
                f"combinations: '{key}' is the name of a teacher. Give the "
                "combination another one."
            )
        if not isinstance(value, Combination):
            if not isinstance(value, (list, tuple)):
                raise TypeError(
                    "combinations must be a dict name -> "
                    "kd.teachers.Combination or a list of names of teachers. "
                    f"Received: {value!r} for '{key}'"
                )
            value = Combination(value)
        unknown = [n for n in value.teachers if n not in self.members]
        if unknown:
            raise ValueError(
                f"combinations: '{key}' combines {unknown}, but the teachers "
                f"are {list(self.members)}."
            )
        probabilities = value.probabilities
        if probabilities is None:
            probabilities = [
                n for n in value.teachers if _ends_in_softmax(self.members[n])
            ]
        for name in value.teachers:
            member = self.members[name]
            if name not in probabilities and _head(member) == "sigmoid":
                raise ValueError(
                    f"combinations: '{key}' mixes softmax probabilities, but "
                    f"the teacher '{name}' ends in a sigmoid. Take a loss for "
                    "each of these teachers."
                )
        probabilities = list(probabilities)
        config = {"probabilities": probabilities, "name": key}
        return type(value).from_config({**value.get_config(), **config})


def _checked_teacher(key, teacher):
    """Returns a `keras.Model` or a `kd.TeacherCache`."""
    _check_name("teachers", key)
    if isinstance(teacher, (list, tuple)):
        teacher = Ensemble(teacher)
    if hasattr(teacher, "header"):
        return teacher
    if not isinstance(teacher, keras.Model) or isinstance(teacher, Teachers):
        raise TypeError(
            f"teachers['{key}'] must be a trained keras.Model, a list of them "
            f"or a kd.TeacherCache. Received: {teacher!r} of type "
            f"{type(teacher).__name__}"
        )
    if callable(getattr(teacher, "follow", None)):
        raise ValueError(
            f"teachers['{key}'] is a moving teacher, which is part of the "
            "Distiller: pass it alone, kd.Distiller(teacher=...)."
        )
    if not teacher.built:
        raise ValueError(
            f"teachers['{key}'] ('{teacher.name}') is not built: it has no "
            "weights, so it cannot have been trained. Call it on a batch, or "
            "`build(input_shape)`, and load its weights first."
        )
    return teacher


def _check_name(argument, name):
    if not isinstance(name, str) or not name or set(name) & set("/#"):
        raise ValueError(
            f'{argument}: a name must be a text without "/" and "#", since '
            f'layers are named "name/layer". Received: {name!r}'
        )
    if name in ("student", "teacher"):
        raise ValueError(
            f"{argument}: '{name}' is the name of a role, which a dict of "
            "inputs may have too. Give another name."
        )


def _mapping(argument, value):
    return checked_mapping(argument, {} if value is None else value)


def _by_name(argument, value, teachers):
    """Returns a dict whose keys are names of teachers that run."""
    value = _mapping(argument, value)
    live = [k for k, v in teachers.items() if isinstance(v, keras.Model)]
    unknown = [key for key in value if key not in live]
    if unknown:
        raise ValueError(
            f"{argument} must name teachers that run, {live}. Received: "
            f"{unknown}"
        )
    return value


def _head(member):
    if isinstance(member, StoredTeacher):
        return member.header.value["teacher"]["head"]
    return final_activation(member.layer)


def _ends_in_softmax(member):
    if isinstance(member, StoredTeacher):
        return _head(member) == "softmax"
    return gives_probabilities(member.layer)


def _opened(path):
    from keras_distill.teachers.cache.cache import TeacherCache

    return TeacherCache(path)
