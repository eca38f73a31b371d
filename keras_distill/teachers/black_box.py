"""A teacher of which only the output is known."""

import importlib
import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_distill._arguments import checked_integers
from keras_distill._arguments import checked_string
from keras_distill._arguments import checked_strings
from keras_distill._arguments import one_of
from keras_distill.losses.values import look_like_probabilities
from keras_distill.teachers.sources.function import PythonFunction

# A trial run shows the shape of the output, and whether its rows sum to 1.
_TRIAL_SAMPLES = 4
# Of a free image size.
_TRIAL_SIZE = 224
# Sources that need another library, by class. Their modules are imported late.
_FILES = {
    "ONNXFile": "keras_distill.teachers.sources.onnx",
    "TFLiteFile": "keras_distill.teachers.sources.tflite",
}


@keras.saving.register_keras_serializable(package="keras_distill")
class BlackBox(keras.Model):
    """A function from NumPy to NumPy as a teacher.

    It may call a network of another framework, a TFLite or ONNX interpreter
    (`kd.load_teacher` makes those from their files), or a service. It goes
    wherever a teacher goes. Only its output is known: losses that compare
    layers inside of the networks refuse it.

    It is best run once, by `kd.TeacherCache.build`. In `kd.Distiller` it runs
    in every step, outside of TensorFlow's graph: on the CPU, one call at a
    time, without XLA (`jit_compile`), and in its own precision whatever
    `teacher_dtype` says.

    It has no weights. Caches and saved Distillers know it again by a
    fingerprint: the SHA-256 of the file, and of a function that of its source
    or of `version`.

    Args:
        function: A function that takes a batch as a NumPy array `(batch, ...)`
            of the type that your data has (half precision comes as float32),
            and returns an array `(batch, ..., classes)`. Of several inputs it
            takes a dict name -> array.
        input_shape: Shape of one sample, such as `(224, 224, 3)`; `None` for
            a free size. A dict name -> shape for several inputs.
        version: A text that you change when the function computes something
            else. It is needed if the source of the function cannot be read,
            and wise if it depends on more than its source, such as a file of
            weights. Defaults to a hash of the source.
        activation: `"softmax"` or `"sigmoid"` if the output is probabilities,
            `None` for logits. Defaults to `"auto"`: softmax if all rows of a
            trial run sum to 1, otherwise logits.
        class_names: The names of the classes, in the order of the output.
            Defaults to `None`: not known.
        name: The name of the model.

    Attributes:
        source_sha256: The fingerprint, 64 hexadecimal digits.
        output_activation: `"softmax"`, `"sigmoid"` or `None`.

    Returns:
        `(batch, ..., classes)`, float32.

    Raises:
        TypeError, ValueError: If the function fails on a trial run of four
            samples, does not return one array with a row per sample, or its
            source cannot be read and there is no `version`.

    Example:

    ```python
    def by_hand(images):
        brightness = images.mean(axis=(1, 2, 3))
        return np.stack([1.0 - brightness, brightness], axis=-1)

    dark_or_bright = kd.BlackBox(by_hand, (8, 8, 3), version="1")
    cache = kd.TeacherCache.build(dark_or_bright, x_train, "outputs")
    ```
    """

    is_black_box = True

    def __init__(
        self,
        function: Callable,
        input_shape: Sequence[int | None]
        | Mapping[str, Sequence[int | None]]
        | None = None,
        *,
        version: str | None = None,
        activation: str | None = "auto",
        class_names: Sequence[str] | None = None,
        name: str = "black_box",
    ):
        super().__init__(name=name, dtype="float32", autocast=False)
        if not callable(function):
            raise TypeError(
                "function must be a function from a NumPy array (batch, ...) "
                f"to one (batch, ..., classes). Received: {function!r} of type "
                f"{type(function).__name__}. Of a file, kd.load_teacher(path) "
                "makes a black box."
            )
        version = checked_string("version", version, or_none=True)
        options = ("auto", "softmax", "sigmoid", None)
        one_of("activation", activation, options)
        class_names = checked_strings("class_names", class_names, or_none=True)
        self._given = version, activation
        self._function = function
        if not hasattr(function, "source_sha256"):
            function = PythonFunction(function, version)
        # A file knows its inputs; free sizes may be given.
        known = getattr(function, "inputs", None)
        self._inputs = _symbols(known, input_shape)
        self.source_sha256 = function.source_sha256
        self._call_source = function
        self._one_at_a_time = threading.Lock()
        self._output_shape: tuple | None = None
        trial = self._tried()
        if activation == "auto":
            activation = getattr(function, "activation", None)
            if activation is None and look_like_probabilities(trial, "softmax"):
                activation = "softmax"
        self.output_activation = activation
        self.class_names = class_names or getattr(function, "class_names", None)
        _check_number(self.class_names, self._output_shape)
        self.supports_jit = False
        self.trainable = False
        self.built = True

    # As of a Functional model, see `Ensemble`.

    @property
    def inputs(self):
        """The symbolic inputs, a list."""
        return list(self._inputs.values())

    @property
    def input(self):
        """The symbolic input; a dict name -> input if there are several."""
        several = len(self._inputs) > 1
        return dict(self._inputs) if several else self.inputs[0]

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs):
        import tensorflow as tf

        arrays = [_without_half(x) for x in self._in_order(inputs)]
        if tf.executing_eagerly():
            # An error of the function then comes as it is.
            arrays = [ops.convert_to_numpy(x) for x in arrays]
            return tf.convert_to_tensor(self._run(*arrays))
        batch = arrays[0].shape[0]
        output = tf.numpy_function(self._run, arrays, tf.float32)
        output.set_shape((batch, *self._output_shape))
        return output

    def _in_order(self, inputs):
        """Returns the inputs as a list, in the order of their names here."""
        if isinstance(inputs, dict) and set(inputs) >= set(self._inputs):
            return [inputs[name] for name in self._inputs]
        given = keras.tree.flatten(inputs)
        if isinstance(inputs, dict) or len(given) != len(self._inputs):
            received = list(inputs) if isinstance(inputs, dict) else len(given)
            raise ValueError(
                f"The black box '{self.name}' has the inputs "
                f"{list(self._inputs)}. Received: {received}"
            )
        return given

    def _run(self, *arrays):
        several = len(self._inputs) > 1
        given = dict(zip(self._inputs, arrays)) if several else arrays[0]
        with (
            self._one_at_a_time
        ):  # Interpreters serve one thread; replicas are several.
            output = self._call_source(given)
        if isinstance(output, (dict, list, tuple)):
            raise ValueError(
                f"The function of the black box '{self.name}' must return one "
                "array (batch, ..., classes). Received: a "
                f"{type(output).__name__}"
            )
        output = np.asarray(output)
        expected = (len(arrays[0]), *(self._output_shape or output.shape[1:]))
        if output.ndim < 2 or any(
            wanted not in (None, size)
            for size, wanted in zip(output.shape, expected, strict=True)
        ):
            raise ValueError(
                f"The function of the black box '{self.name}' must return an "
                f"array of shape {expected} for {len(arrays[0])} samples, at "
                f"least two axes. Received: {output.shape}"
            )
        return output.astype("float32")

    def _tried(self):
        """Runs the function on some numbers and notes its output's shape."""
        draw = np.random.default_rng(0)
        arrays = [
            draw.uniform(
                size=(_TRIAL_SAMPLES, *(n or _TRIAL_SIZE for n in x.shape[1:]))
            ).astype(x.dtype)
            for x in self.inputs
        ]
        try:
            output = self._run(*arrays)
        except Exception as error:
            shapes = {x.name: a.shape for x, a in zip(self.inputs, arrays)}
            error.add_note(
                f"This was the trial run of the black box '{self.name}', on "
                f"arrays of shape {shapes}; its sizes come from input_shape."
            )
            raise
        free = any(None in x.shape[1:] for x in self.inputs)
        sizes = output.shape[1:-1]
        sizes = (None,) * len(sizes) if free else sizes
        self._output_shape = (*sizes, output.shape[-1])
        return output

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        version, activation = self._given
        shapes = {name: x.shape[1:] for name, x in self._inputs.items()}
        several = len(shapes) > 1
        return {
            "function": serialize(self._function),
            "input_shape": shapes if several else next(iter(shapes.values())),
            "version": version,
            "activation": activation,
            "class_names": self.class_names and list(self.class_names),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BlackBox":
        function = config["function"]
        if function["class_name"] in _FILES:
            importlib.import_module(_FILES[function["class_name"]])
        function = keras.saving.deserialize_keras_object(function)
        return cls(**{**config, "function": function})


def _symbols(known, input_shape):
    """Returns the symbolic inputs, a dict by name.

    Args:
        known: A dict name -> (shape of one sample, dtype) of a file, or `None`.
        input_shape: As in `BlackBox`.
    """
    shapes = input_shape
    if shapes is not None and not isinstance(shapes, Mapping):
        shapes = {next(iter(known)) if known else "input": shapes}
    shapes = {
        name: _checked_shape(shape) for name, shape in (shapes or {}).items()
    }
    if known is None:
        known = {name: (shape, "float32") for name, shape in shapes.items()}
    if not known:
        raise ValueError(
            "input_shape must be the shape of one sample, such as (224, 224, "
            "3), or a dict name -> shape: a function does not tell what it "
            f"takes. Received: {input_shape!r}"
        )
    for name, shape in shapes.items():
        wanted = known.get(name, ((), ""))[0]
        if len(wanted) != len(shape) or any(
            None not in sizes and sizes[0] != sizes[1]
            for sizes in zip(wanted, shape)
        ):
            takes = {name: shape for name, (shape, _) in known.items()}
            raise ValueError(
                f"input_shape={input_shape!r}: this black box takes {takes}."
            )
    return {
        name: keras.KerasTensor(
            (None, *shapes.get(name, shape)), dtype, name=name
        )
        for name, (shape, dtype) in known.items()
    }


def _checked_shape(shape):
    sizes = shape
    if isinstance(shape, (list, tuple)):
        sizes = [1 if size is None else size for size in shape]
    checked_integers("input_shape", sizes, hint="the shape of one sample")
    return tuple(size and int(size) for size in shape)


def _check_number(class_names, output_shape):
    classes = output_shape[-1]
    names = class_names and len(class_names)
    if names and names != classes and (names, classes) != (2, 1):
        raise ValueError(
            f"class_names has {names} names, but the black box gives {classes} "
            f"numbers per sample. Received: {list(class_names)[:10]}"
        )


def _without_half(x):
    dtype = keras.backend.standardize_dtype(x.dtype)
    return ops.cast(x, "float32") if dtype in ("float16", "bfloat16") else x
