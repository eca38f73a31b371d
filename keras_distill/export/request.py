"""A checked export: everything that can be refused before the conversion is.

What TFLite's converter refuses, it refuses in the terms of MLIR.
"""

import dataclasses
import re
from typing import Any

import keras
import tensorflow as tf

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_string
from keras_distill._arguments import one_of
from keras_distill._keras.stateless import without_states
from keras_distill.export import aware
from keras_distill.export import model_inputs
from keras_distill.export import recipes
from keras_distill.export.aware_preprocessing import rounded_preprocessing
from keras_distill.export.file import notes
from keras_distill.export.file_inputs import choose_file_inputs
from keras_distill.export.network import ACTIVATIONS
from keras_distill.export.network import Network
from keras_distill.export.network import check_activation
from keras_distill.export.network import check_preprocessing
from keras_distill.export.paths import checked_path
from keras_distill.multitask.merging import merged

QUANTIZATIONS = recipes.CONVERTED
# What the activations of an integer file are.
_INTEGERS = {"int8": "int8", "int4": "int8", "int16x8": "int16"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interface:
    """What an app passes to a TFLite file, gets back, and has to bring.

    Args:
        input_signature: As in `keras.Model.export`, such as
            `[tf.TensorSpec((1, 96, 96, 3), tf.float32, name="image")]`: for
            models that leave sizes open, and with `preprocessing=`. For a
            camera's image it is uint8, and may have any size:
            `(1, None, None, 3)`. Defaults to `None`: the model's own inputs,
            by name.
        batch_size: Number of samples per call, or `None` to choose it at each
            call. Defaults to 1. `input_signature` decides itself.
        activation: `"softmax"` or `"sigmoid"`, applied to every output. For
            models that give logits: a model that ends in a softmax or a
            sigmoid is refused. Defaults to `None`.
        integer_io: Whether inputs and outputs of `"int8"` and `"int4"`
            (`"int16x8"`) files are int8 (int16) too, and those of a recipe
            what its rules make of them. Defaults to `False`: they stay
            float32.
        signature_name: Name of the file's signature. Defaults to TensorFlow's
            `"serving_default"`.
        allow_select_tf_ops: Whether TensorFlow operators (Flex) may stay if
            TFLite has no operator of that kind. The app then has to bring
            TensorFlow's Flex delegate, and the file cannot run here. Defaults
            to `False`.

    Raises:
        ValueError: If an argument is none of the above.
    """

    input_signature: Any = None
    batch_size: int | None = 1
    activation: str | None = None
    integer_io: bool = False
    signature_name: str = "serving_default"
    allow_select_tf_ops: bool = False

    def __post_init__(self):
        one_of("`activation`", self.activation, ACTIVATIONS)
        checked_integer(
            "`batch_size`",
            self.batch_size,
            or_none=True,
            hint="None to choose it at each call",
        )
        checked_boolean("`integer_io`", self.integer_io)
        checked_boolean("`allow_select_tf_ops`", self.allow_select_tf_ops)
        checked_string("`signature_name`", self.signature_name)
        _check_signature(self.input_signature)
        if not re.fullmatch(r"[A-Za-z]\w*", self.signature_name):
            raise ValueError(
                "`signature_name` must consist of letters, digits and "
                "underscores, and begin with a letter. Received: "
                f"{self.signature_name!r}"
            )


@dataclasses.dataclass(frozen=True)
class RepresentativeDataset:
    """Data for calibration, and how much of it to use.

    Args:
        dataset: As for `representative_dataset` in `kd.export.tflite`.
        samples: How many samples to use at most: the first of a dataset,
            evenly spaced ones of arrays. Defaults to 500, the upper end of
            what TensorFlow's guide to post-training quantization advises
            (100 to 500).

    Raises:
        ValueError: If `samples` is less than 1.
    """

    dataset: Any
    samples: int = 500

    def __post_init__(self):
        checked_integer("`samples`", self.samples)


def _check_signature(signature):
    specs = keras.tree.flatten(signature)
    if (
        signature is None
        or specs
        and all(
            hasattr(spec, "shape") and hasattr(spec, "dtype") for spec in specs
        )
    ):
        return
    raise ValueError(
        "`input_signature` must hold a tf.TensorSpec for each input, such as "
        '[tf.TensorSpec((1, 96, 96, 3), tf.float32, name="image")], or be '
        f"None. Received: {signature!r}"
    )


class ExportRequest:
    """A checked export to TFLite: what to convert, how, and what to note.

    Args:
        model, filepath, quantization, representative_dataset, preprocessing,
            interface, metadata, overwrite: As in `kd.export.tflite`.

    Attributes:
        network: The `Network` that the file computes.
        is_aware: Whether it has its ranges (`kd.quantization.aware`).
        signature: Its inputs, as `ExportArchive.add_endpoint` takes them.
        inputs: Its inputs by name, from `model_inputs.input_signature`.
        file_inputs: How the inputs of the file differ from them.
        output_dtype: dtype of the file's outputs, if it is an integer file.
        recipe: The rules for ai-edge-quantizer, or `None`.
        samples: The calibration samples of an integer file: a list of dicts
            name -> array `(1, ...)`. `None` for files that need none.
        has_preprocessing: Whether the file contains a preprocessing.
        input_ranges: dict name -> [low, high] or `None`.
        class_names, user_metadata: From `metadata`.

    Raises:
        TypeError, ValueError, FileExistsError: As in `kd.export.tflite`.
    """

    def __init__(
        self,
        model,
        filepath,
        *,
        quantization=None,
        representative_dataset=None,
        preprocessing=None,
        interface=None,
        metadata=None,
        overwrite=False,
    ):
        model = without_states(merged(model))
        check_preprocessing(preprocessing)
        self.model = model
        self.has_preprocessing = preprocessing is not None
        self.overwrite = checked_boolean("`overwrite`", overwrite)
        self.filepath = checked_path(filepath, "litert", overwrite)
        quantization, self.recipe = recipes.checked_quantization(quantization)
        self.quantization = quantization
        self.is_aware = aware.is_aware(model)
        if self.is_aware:
            aware.check_exportable(model, quantization, representative_dataset)
        self.interface = _checked_interface(interface, quantization)
        check_activation(model, self.interface.activation)
        self.class_names, input_range, self.user_metadata = (
            notes.checked_metadata(metadata, model)
        )
        signature, inputs = _signature(model, preprocessing, self.interface)
        self.output_dtype = "float32"
        if self.interface.integer_io:
            self.output_dtype = _INTEGERS.get(quantization, "float32")
        self.file_inputs = choose_file_inputs(
            inputs,
            model,
            preprocessing,
            quantization,
            self.output_dtype,
            self.is_aware,
        )
        needs_samples = self.is_integer or (
            self.recipe is not None and recipes.needs_data(self.recipe)
        )
        if needs_samples:
            _check_no_strings(inputs)
        if quantization == "int16x8":
            _check_dtypes(model, inputs)
        self.signature = self.file_inputs.of_graph(signature)
        self.inputs = self.file_inputs.of_graph(inputs)
        if input_range is None:
            input_range = self.file_inputs.range
        self.network = self._network(preprocessing, input_range)
        self.network.check_shapes(self.signature)

        samples = None
        if needs_samples and not self.is_aware:
            samples = _samples(
                representative_dataset, self.inputs, quantization
            )
        if self.is_aware and input_range is None and preprocessing is None:
            input_range = aware.input_range(model)
        self.input_ranges = notes.input_ranges(
            samples, input_range, self.inputs
        )
        self.samples = samples and self.file_inputs.calibration(samples)

    def _network(self, preprocessing, input_range):
        is_bytes = self.file_inputs.dtype == "uint8"
        if self.is_aware and (preprocessing is not None or is_bytes):
            preprocessing = rounded_preprocessing(
                self.model, preprocessing, self.inputs, input_range, is_bytes
            )
        return Network(self.model, preprocessing, self.interface.activation)

    @property
    def is_integer(self):
        """Whether all activations are meant to be integers."""
        return self.quantization in _INTEGERS

    @property
    def io_rules(self):
        """The rules for the inputs and outputs of a recipe without any."""
        rules = []
        if self.file_inputs.dtype == "uint8":
            rules += [recipes.rule("", "INPUT", activations=8, unsigned=True)]
        elif not self.interface.integer_io:
            rules += [recipes.rule("", "INPUT", weights=None)]
        if not self.interface.integer_io:
            rules += [recipes.rule("", "OUTPUT", weights=None)]
        return rules


def _checked_interface(interface, quantization):
    interface = Interface() if interface is None else interface
    if not isinstance(interface, Interface):
        raise TypeError(
            "`interface` must be a kd.export.Interface. Received: "
            f"{interface!r} of type {type(interface).__name__}"
        )
    integers = (*_INTEGERS, recipes.RECIPE)
    if interface.integer_io and quantization not in integers:
        raise ValueError(
            '`integer_io=True` needs quantization="int8", "int4" or '
            '"int16x8", or a recipe. '
            f"Received: quantization={quantization!r}"
        )
    return interface


def _signature(model, preprocessing, interface):
    """Returns the file's inputs, see `model_inputs.input_signature`."""
    signature, source = interface.input_signature, model
    if preprocessing is not None and signature is None:
        if not isinstance(preprocessing, keras.Model) or (
            not preprocessing.built
        ):
            raise ValueError(
                "With `preprocessing`, `input_signature` must say what the "
                "app passes: interface=kd.export.Interface(input_signature="
                '[tf.TensorSpec((1, 480, 640, 3), tf.uint8, name="image")]), '
                "or (1, None, None, 3) for any size."
            )
        source = preprocessing
    positional, inputs = model_inputs.input_signature(
        source, signature, interface.batch_size
    )
    for key, spec in inputs.items() if signature is None else ():
        if None in tuple(spec.shape)[1:]:
            raise ValueError(
                f"The input '{key}' of '{model.name}' leaves sizes open: "
                f"{tuple(spec.shape)}. A TFLite file needs them: "
                "interface=kd.export.Interface(input_signature="
                "[tf.TensorSpec((1, ...), tf.float32, "
                f'name="{spec.name}")]).'
            )
    return positional, inputs


def _check_dtypes(model, inputs):
    """Raises if an int16x8 file cannot have the inputs, or the model's."""
    for tensors in inputs.values(), getattr(model, "inputs", None) or []:
        dtypes = {t.name: tf.as_dtype(t.dtype).name for t in tensors}
        others = {k: v for k, v in dtypes.items() if v != "float32"}
        if others:
            listed = ", ".join(f"'{k}' is {v}" for k, v in others.items())
            raise ValueError(
                f'quantization="int16x8" needs float32 inputs: {listed}. '
                "TFLite neither measures the range of others for 16 bits, nor "
                'casts them. Choose "int8", "dynamic" or "float16".'
            )


def _check_no_strings(inputs):
    """Raises for strings, on which nothing can be calibrated."""
    for spec in inputs.values():
        if spec.dtype == tf.string:
            raise ValueError(
                f"The input '{spec.name}' is a string, and TFLite cannot run "
                "such a network for calibration. Choose quantization="
                '"dynamic" or "float16", or turn strings into ids before the '
                "network."
            )


def _described(quantization):
    if quantization == recipes.RECIPE:
        return "This recipe for `quantization`"
    return f'quantization="{quantization}"'


def _samples(dataset, inputs, quantization):
    if dataset is None:
        raise ValueError(
            f"{_described(quantization)} needs `representative_dataset=`: "
            "some hundred inputs, such as the training dataset."
        )
    if not isinstance(dataset, RepresentativeDataset):
        dataset = RepresentativeDataset(dataset)
    return model_inputs.representative_samples(
        dataset.dataset, dataset.samples, inputs
    )
