"""One of several teachers: a network, or what a cache holds of one."""

import keras

from keras_distill._data.for_network import for_network
from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.layers import call_model
from keras_distill._keras.precision import computing_in
from keras_distill._keras.precision import in_float32
from keras_distill._keras.untracked import Untracked
from keras_distill.taps.taps import Shape
from keras_distill.teachers.devices import on


@keras.saving.register_keras_serializable(package="keras_distill")
class Member(keras.layers.Wrapper):
    """A network behind its own preprocessing, in its own precision.

    Args:
        layer: The built `keras.Model`.
        preprocessing: A Keras layer or model, or `None`.
        compute_dtype: The precision in which it runs; `None` is its own.
        **kwargs: `name`, by which its layers are tapped (`"name/conv"`).
    """

    def __init__(self, layer, preprocessing=None, compute_dtype=None, **kwargs):
        super().__init__(layer, **{**kwargs, "autocast": False})
        self.preprocessing = preprocessing
        self.precision = compute_dtype
        self.built = True

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, device=None, training=None):
        x = self.own_input(inputs)
        if self.preprocessing is not None:
            x = self.preprocessing(x, training=False)
        with on(device), computing_in(self.layer, self.precision):
            outputs = call_model(self.layer, x, training)
        return outputs if self.precision is None else in_float32(outputs)

    def own_input(self, x):
        """Returns the part of a batch that is meant for this teacher."""
        if isinstance(x, dict) and self.name in x:
            return x[self.name]
        return for_network(self._first(), x, "teacher")

    def symbolic_inputs(self):
        """Returns what it takes as `keras.KerasTensor`s, `None` if that shows
        only on data."""
        first = self._first()
        if self.preprocessing not in (None, first):
            return None
        if not getattr(first, "inputs", None):
            return None
        return symbolic_inputs(first)

    def _first(self):
        """The network whose inputs are those of the data."""
        takes = getattr(self.preprocessing, "inputs", None)
        return self.preprocessing if takes else self.layer

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "layer": serialize(self.layer),
            "preprocessing": self.preprocessing
            and serialize(self.preprocessing),
            "compute_dtype": self.precision,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        config = dict(config)
        for key in ("layer", "preprocessing"):
            config[key] = config[key] and restore(config[key])
        return cls(**config)


class StoredTeacher(keras.layers.Layer):
    """A teacher whose outputs come with the data: `cache.join(data, name=)`.

    It has a layer, which never runs, for each tap of the cache, so that a tap
    is found by its name as in a network.

    Args:
        cache: The `kd.TeacherCache`.
        name: The name of the teacher.
    """

    def __init__(self, cache, name):
        super().__init__(name=name, dtype="float32")
        header = cache.header
        self.cache_path = str(cache.path)
        self.header = Untracked(header)
        # It is part of the fingerprint of all teachers, as of a black box.
        self.source_sha256 = header["teacher"]["fingerprint"]
        self.taps = []
        for tap in header["outputs"]["taps"]:
            places = self.taps
            for part in tap.split("/"):
                found = [layer for layer in places if layer.name == part]
                places.extend([] if found else [_Place(name=part)])
                places = (found or places)[-1].taps
        self.built = True

    def shapes(self):
        """Returns the shapes of the output (or `None`) and of the taps."""
        outputs = self.header.value["outputs"]
        taps = {k: Shape((None, *s)) for k, s in outputs["taps"].items()}
        output = outputs.get("output")
        return output and Shape((None, *output)), taps


class _Place(keras.layers.Layer):
    def __init__(self, name):
        super().__init__(name=name)
        self.taps = []
        self.built = True
