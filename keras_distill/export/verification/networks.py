"""What `verify` compares: Keras models and files with the same methods."""

import keras
import numpy as np
import tensorflow as tf

from keras_distill._keras.masks import mask_of
from keras_distill.cost import count_parameters
from keras_distill.export import model_inputs
from keras_distill.export import network
from keras_distill.export.file import flatbuffer
from keras_distill.export.file.lite_model import LiteModel
from keras_distill.export.file.lite_model import milliseconds
from keras_distill.export.verification import memory
from keras_distill.export.verification import trained


class ComparedNetwork:
    """What Keras models and files have in common.

    Args:
        label: The name in the table.

    Attributes:
        activation: The activation that the network applies to its logits
            itself, or `None`.
        class_names: A list, or `None` if they are not known.
    """

    activation = class_names = None

    def __init__(self, label):
        self.label = label

    def __call__(self, inputs):
        """Returns the outputs for a batch: a dict name -> array."""
        raise NotImplementedError

    def facts(self, output, sample):
        """Returns the part of a row that needs no labels."""
        raise NotImplementedError

    def output_facts(self, output):
        """Returns the part of a row that is about one output."""
        return {}

    def output_scale(self, output):
        """Returns the step between two values of an output, or `None`."""
        return None

    def latency(self, sample, runs):
        """Measures `(runs,)` milliseconds for a batch of one sample."""
        raise NotImplementedError

    def select(self, outputs, output):
        """Returns the chosen output `(batch, ..., units)`.

        Half precision comes as float32.
        """
        if len(outputs) == 1:
            value = next(iter(outputs.values()))
        elif output in outputs:
            value = outputs[output]
        else:
            raise ValueError(
                f"'{self.label}' has no output '{output}', only "
                f"{list(outputs)}."
            )
        if value.ndim == 1:
            value = value[:, None]
        wide = value.dtype.kind in "iu" or value.dtype == np.float64
        return value if wide else value.astype("float32")


class KerasNetwork(ComparedNetwork):
    """A Keras model from NumPy to NumPy, by the names of its outputs.

    Args:
        label: The name in the table.
        model: The `keras.Model`.
        preprocessing: As in `verify`.
        role: `"student"` or `"teacher"`.
    """

    def __init__(self, label, model, preprocessing, role):
        super().__init__(label)
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"The {label} must be a keras.Model. Received: {model!r}"
            )
        self.model = model
        self._role = role
        self._preprocessed = None
        if preprocessing is not None:
            self._preprocessed = _Traced(
                lambda x: network.student_input(model, x, preprocessing, role)
            )
        self._function = _Traced(self._outputs_and_masks)

    def _outputs_and_masks(self, x):
        # The end of a traced function takes the masks from the tensors.
        outputs = model_inputs.named_outputs(self.model(x, training=False))
        return outputs, {name: mask_of(v) for name, v in outputs.items()}

    def input(self, x):
        """Turns the dataset's `x` into what the model takes, in NumPy."""
        if self._preprocessed is None:
            return network.student_input(self.model, x, None, self._role)
        return keras.tree.map_structure(np.asarray, self._preprocessed(x))

    def __call__(self, x):
        return self.with_masks(x)[0]

    def with_masks(self, x):
        """Returns the outputs and their masks (or `None`s), two dicts."""
        return tuple(
            {k: None if v is None else np.asarray(v) for k, v in part.items()}
            for part in self._function(x)
        )

    def facts(self, output, sample):
        return {
            "file": self.label,
            "path": None,
            "quantization": None,
            "parameters": count_parameters(self.model),
            "size_parts": None,
            "size_bytes": sum(
                int(np.prod(w.shape)) * tf.as_dtype(w.dtype).size
                for w in self.model.weights
            ),
            "input_dtype": None,
            "output_dtype": None,
            "operators": None,
            "builtin_operators_only": None,
            "foreign_operators": None,
            "memory_bytes": None,
        }

    def latency(self, sample, runs):
        return milliseconds(lambda: self(sample), runs)


class _Traced:
    """A function of one batch, traced once for batches of any size."""

    def __init__(self, function):
        self._function = tf.function(function, reduce_retracing=True)
        self._is_traced = False

    def __call__(self, x):
        if not self._is_traced:
            any_batch = keras.tree.map_structure(
                lambda v: tf.TensorSpec((None, *v.shape[1:]), v.dtype), x
            )
            self._function.get_concrete_function(any_batch)
            self._is_traced = True
        return self._function(x)


class File(ComparedNetwork):
    """A TFLite file with the methods of a `KerasNetwork`.

    Args:
        label: The name in the table.
        filepath: The file.
        num_threads: Threads of its interpreter.
        inputs: The student's inputs, from `model_inputs.input_signature`.
        preprocessing: Whether `verify` has a `preprocessing=`.
        measure_memory: Whether `facts` measures memory.

    Attributes:
        has_trained_ranges: Whether it comes from an aware model.
        expected_ranges: dict input -> [low, high] that the file was made for.
        measured_ranges: dict input -> [low, high] of what it was fed with.
    """

    def __init__(
        self,
        label,
        filepath,
        num_threads,
        inputs,
        preprocessing,
        measure_memory,
    ):
        super().__init__(label)
        self.model = LiteModel(filepath, num_threads)
        self._inputs = inputs
        self._measure_memory = measure_memory
        self._num_threads = num_threads
        notes = flatbuffer.read_metadata(filepath) or {}
        self.activation = notes.get("activation")
        self.class_names = notes.get("class_names")
        self._parameters = notes.get("parameters")
        self._quantization = (
            (notes["quantization"] or "float32") if notes else None
        )
        self.has_trained_ranges = bool(notes.get("trained_ranges"))
        self.takes_raw_data = bool(notes.get("preprocessing"))
        # LiteRT sorts inputs by name, data has the order of the call.
        self._order = notes.get("input_order") or self.model.input_names
        self._knows_order = "input_order" in notes or len(self._order) == 1
        if self.takes_raw_data and not preprocessing:
            raise ValueError(
                f"'{label}' contains its preprocessing and takes raw data. "
                "Give `verify` the same `preprocessing=` and a dataset of raw "
                "data."
            )
        self.expected_ranges = {
            name: tensor.get("range")
            for name, tensor in notes.get("inputs", {}).items()
        }
        self.measured_ranges = {}

    def feed(self, x, student_x):
        """Returns a dict input name -> array.

        Args:
            x: The dataset's `x`, for a file that takes raw data.
            student_x: The student's input, for other files.
        """
        names = self.model.input_names
        if not self.takes_raw_data:
            arrays = model_inputs.feed(student_x, self._inputs, "dataset")
            # The file may have names of its own, see `Interface`.
            renamed = set(arrays) != set(names) and len(arrays) == len(names)
            if renamed and self._knows_order:
                arrays = dict(zip(self._order, arrays.values()))
        elif isinstance(x, dict) and set(names) <= set(x):
            arrays = {name: x[name] for name in names}
        else:
            values = x if isinstance(x, (list, tuple)) else [x]
            if isinstance(x, dict) or len(values) != len(names):
                shapes = keras.tree.map_structure(np.shape, x)
                raise ValueError(
                    f"`dataset` does not fit '{self.label}', which takes raw "
                    f"data for {self._order}. Received a batch of shape "
                    f"{shapes}."
                )
            arrays = dict(zip(self._order, values))
        for name, array in arrays.items():
            if array.dtype.kind not in "biuf":
                continue
            low, high = self.measured_ranges.get(name, (np.inf, -np.inf))
            self.measured_ranges[name] = [
                float(min(low, array.min())),
                float(max(high, array.max())),
            ]
        return arrays

    def __call__(self, arrays):
        outputs = self.model(arrays)
        if isinstance(outputs, dict):
            return outputs
        return {self.model.output_names[0]: outputs}

    def facts(self, output, sample):
        operators = flatbuffer.operators(self.model.filepath)
        foreign = [operator for operator in operators if not operator.builtin]
        resident = None
        if self._measure_memory:
            resident = memory.resident_memory(
                self.model.filepath,
                self.model.raw_inputs(sample),
                self._num_threads,
            )
        return {
            "file": self.label,
            "path": str(self.model.filepath),
            "quantization": self._quantization,
            "parameters": self._parameters,
            "size_parts": flatbuffer.size_parts(self.model.filepath),
            "size_bytes": self.model.size_in_bytes,
            "input_dtype": "/".join(self.model.input_dtypes.values()),
            **self.output_facts(output),
            "operators": flatbuffer.operator_counts(operators),
            "builtin_operators_only": not foreign,
            "foreign_operators": list(flatbuffer.operator_counts(foreign)),
            "memory_bytes": resident,
        }

    def output_facts(self, output):
        dtypes = self.model.output_dtypes
        dtype = dtypes.get(output) or next(iter(dtypes.values()))
        return {"output_dtype": dtype}

    def output_scale(self, output):
        numbers = self.model.output_numbers
        number = numbers.get(output, next(iter(numbers.values())))
        return trained.output_scale(self.model.filepath, number)

    def latency(self, sample, runs):
        return self.model.measure_latency(sample, runs)
