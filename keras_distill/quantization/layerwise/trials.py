"""One student, quantized in many ways and run on one sample of data."""

import keras
import numpy as np
import tensorflow as tf

from keras_distill.export import model_inputs
from keras_distill.export.conversion import conversion
from keras_distill.export.file import flatbuffer
from keras_distill.export.request import ExportRequest
from keras_distill.export.request import Interface
from keras_distill.export.request import RepresentativeDataset
from keras_distill.export.temporary import temporary_folder
from keras_distill.export.verification.comparison import Comparison
from keras_distill.export.verification.comparison import answers
from keras_distill.export.verification.comparison import compared_outputs
from keras_distill.export.verification.labels import CLASSES
from keras_distill.export.verification.labels import LABELS
from keras_distill.export.verification.labels import LabelReader
from keras_distill.export.verification.labels import by_output
from keras_distill.export.verification.networks import File
from keras_distill.export.verification.networks import KerasNetwork

# As in Keras: the logarithm of 0 is not a number.
_EPSILON = 1e-7
_KEPT = (
    "accuracy",
    "accuracy_drop_points",
    "agreement",
    "divergence",
    "mean_absolute_difference",
    "size_bytes",
)


class Trials:
    """Quantizes a student by recipes, and compares each file with it.

    Args:
        student: A built `keras.Model`.
        batches: A list of NumPy batches `(x, y, sample_weight)`, on which
            ranges are measured and files are run.
        output: As in `kd.export.verify`.
        ignore_class: As in `kd.export.verify`.
        verbose: Whether to show the progress of the calibration.

    Attributes:
        operators: The file's operators, a list of `LayerOperator`.
    """

    def __init__(self, student, batches, output, ignore_class, verbose):
        self._student = student
        self._batches = [
            (x, by_output(y, student), by_output(weight, student))
            for x, y, weight in batches
        ]
        self._ignore_class = ignore_class
        self._network = KerasNetwork("student", student, None, "student")
        signature = _signature(student, batches[0][0])
        _, self._inputs = model_inputs.input_signature(student, signature)
        data = [(x, y) for x, y, _ in batches]
        samples = sum(len(_first(x)) for x, _ in data)
        model_inputs.representative_samples(data, samples, self._inputs, "data")
        self._output = self._compared_output(output)
        request = ExportRequest(
            student,
            "student.tflite",
            quantization="int4",
            representative_dataset=RepresentativeDataset(data, samples),
            interface=Interface(input_signature=signature),
            overwrite=True,
        )
        self._io_rules = request.io_rules
        self._file = conversion.float_file(request)
        self._file.calibrate(request.samples, [], verbose)
        self.operators = self._file.operators

    def _compared_output(self, output):
        """The name of the one output that damages are about."""
        x = self._network.input(self._batches[0][0])
        names = compared_outputs(self._network(x), output, None)
        if len(names) > 1:
            raise ValueError(
                f"The student has the outputs {names}, and damages are those "
                "of one of them: sensitivity(output=...)."
            )
        return names[0]

    def quantizes(self, recipe):
        """Whether a recipe quantizes anything."""
        return self._file.quantizes(recipe)

    def run(self, recipe):
        """Quantizes and runs a file.

        Args:
            recipe: A list of rules; without any, the file stays float.

        Returns:
            A row of results: a dict, or `None` if LiteRT cannot run the file.
        """
        data = self._file.data
        if recipe:
            data = self._file.quantized(recipe, self._io_rules)
        with temporary_folder("keras_distill-") as folder:
            path = folder / "student.tflite"
            path.write_bytes(data)
            try:
                file = File("file", path, 1, self._inputs, False, False)
            except RuntimeError:
                return None
            comparison = _Divergence(
                self._network,
                [file],
                None,
                LabelReader(self._student, self._ignore_class, self._output),
                self._output,
                None,
            )
            for x, y, sample_weight in self._batches:
                answered = answers(self._network, [file], None, x)
                comparison.add(answered, y, sample_weight)
            parts = flatbuffer.size_parts(path)
        row = {
            **comparison.answers()[1],
            "divergence": comparison.divergence(),
            "size_bytes": len(data),
        }
        row = {key: row[key] for key in _KEPT}
        row["damage"] = row["divergence"]
        if row["damage"] is None:
            row["damage"] = row["mean_absolute_difference"]
        row["weights_bytes"] = parts["weights"] + parts["scales"]
        return row


class _Divergence(Comparison):
    """A comparison of one file that adds its divergence from the student."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._sums = dict.fromkeys((CLASSES, LABELS), 0.0)
        self._weight = 0.0
        self._is_logits = self.gives_logits

    def _count(self, values, teacher, read, weights, counted):
        super()._count(values, teacher, read, weights, counted)
        student, file = (v[counted].astype("float64") for v in values)
        weights = np.asarray(weights)[counted]
        self._is_logits |= bool(student.min() < 0.0 or student.max() > 1.0)
        each = {
            CLASSES: divergence(student, file, self._is_logits),
            LABELS: divergences(student, file, self._is_logits).sum(axis=-1),
        }
        for task, values in each.items():
            self._sums[task] += (weights * values).sum()
        self._weight += weights.sum()

    def divergence(self):
        """The mean divergence; `None` for a regression."""
        task = self.reader.task
        if task not in self._sums or not self._weight:
            return None
        return float(max(self._sums[task] / self._weight, 0.0))


def divergence(student, file, is_logits):
    """KL(student || file) of classes: arrays `(n, units)` -> `(n,)`.

    Args:
        student, file: Outputs.
        is_logits: Whether they are logits, or else probabilities.
    """
    if student.shape[-1] == 1:
        return divergences(student, file, is_logits)[..., 0]
    p, q = (_log_softmax(v) if is_logits else _log(v) for v in (student, file))
    return (np.exp(p) * (p - q)).sum(axis=-1)


def divergences(student, file, is_logits):
    """The same for units that say yes or no: `(n, units)` -> `(n, units)`."""
    if is_logits:
        p, q = (_log_softmax(np.stack([v, 0 * v], -1)) for v in (student, file))
    else:
        p, q = (_log(np.stack([v, 1 - v], -1)) for v in (student, file))
    return (np.exp(p) * (p - q)).sum(axis=-1)


def _log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _log(probabilities):
    """The logarithm of what sums to 1, but for the rounding of int8."""
    clipped = np.clip(probabilities, _EPSILON, 1.0)
    return np.log(clipped / clipped.sum(axis=-1, keepdims=True))


def _signature(student, x):
    """The student's inputs, with the sizes that a batch has."""
    signature, inputs = model_inputs.input_signature(student)
    arrays = model_inputs.feed(x, inputs, "data")
    return keras.tree.map_structure(
        lambda spec: tf.TensorSpec(
            (1, *arrays[spec.name].shape[1:]), spec.dtype, spec.name
        ),
        signature,
    )


def _first(x):
    if isinstance(x, dict):
        x = list(x.values())
    return x[0] if isinstance(x, (list, tuple)) else x
