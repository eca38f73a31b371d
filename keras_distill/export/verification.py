"""What exported files really do, beside the student they came from.

`verify` sends real data through the Keras student and every file exported from
it, one batch at a time, and counts. A file is accepted for what it predicts,
not for having been converted without an error.
"""

import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_distill.export import model_inputs
from keras_distill.export.comparison import Totals
from keras_distill.export.comparison import class_numbers
from keras_distill.export.lite_model import LiteModel
from keras_distill.export.lite_model import milliseconds

_NO_LABELS = (
    "`max_accuracy_drop` needs labels and the dataset gives none: give batches "
    "(x, y), or leave max_accuracy_drop out."
)
# Title of a column of the table, key of a row, how a value is printed.
_COLUMNS = (
    ("file", "file", str),
    ("KiB", "size_bytes", lambda value: f"{value / 1024:.1f}"),
    ("input", "input_dtype", str),
    ("output", "output_dtype", str),
    ("accuracy %", "accuracy", lambda value: f"{100 * value:.2f}"),
    ("lost points", "accuracy_drop_points", "{:.2f}".format),
    ("agreement %", "agreement", lambda value: f"{100 * value:.2f}"),
    ("teacher %", "teacher_agreement", lambda value: f"{100 * value:.2f}"),
    ("mean diff", "mean_absolute_difference", "{:.2g}".format),
    ("max diff", "max_absolute_difference", "{:.2g}".format),
    ("relative", "max_relative_difference", "{:.1e}".format),
    ("median ms", "latency_median_ms", "{:.3f}".format),
    ("95 % ms", "latency_95th_percentile_ms", "{:.3f}".format),
)


class VerificationError(AssertionError):
    """An exported file lost more accuracy than was allowed."""


class Verification:
    """What `verify` found; `print(verification)` shows it as a table.

    Attributes:
        rows: One dict per network, the Keras student first. Shares are in
            [0, 1], latencies in milliseconds; `None` where there is nothing
            to say (accuracy without labels).
        samples: Number of samples each network saw.
        output: Name of the compared output.
        num_threads: Threads of the interpreters.
        latency_runs: Timed calls behind each latency.
    """

    def __init__(self, rows, samples, output, num_threads, latency_runs):
        self.rows = rows
        self.samples = samples
        self.output = output
        self.num_threads = num_threads
        self.latency_runs = latency_runs

    def check(self, max_accuracy_drop=0.5):
        """Raises if a file is too much less accurate than the student.

        Args:
            max_accuracy_drop: Percentage points a file may lose against the
                Keras student on the same data. Defaults to 0.5, this
                project's own bar.

        Returns:
            The verification itself.

        Raises:
            VerificationError: Naming every file that lost more.
            ValueError: If the data had no labels.
        """
        student = self.rows[0]
        if student["accuracy"] is None:
            raise ValueError(_NO_LABELS)
        # The slack is for the rounding of a difference of two quotients.
        lost = [
            f"'{row['file']}' lost {row['accuracy_drop_points']:.2f} points "
            f"({row['accuracy']:.2%})"
            for row in self.rows[1:]
            if row["accuracy_drop_points"] > max_accuracy_drop + 1e-9
        ]
        if lost:
            raise VerificationError(
                f"{'; '.join(lost)}: more than the {max_accuracy_drop:g} "
                "percentage points allowed against the Keras student "
                f"({student['accuracy']:.2%} on {self.samples} samples)."
            )
        return self

    def as_dict(self):
        """Everything as dicts, lists, numbers and strings."""
        return dict(vars(self), rows=[dict(row) for row in self.rows])

    def to_json(self, indent=2):
        """`as_dict()` as JSON text."""
        return json.dumps(self.as_dict(), indent=indent)

    def __str__(self):
        columns = []
        for title, key, printed in _COLUMNS:
            values = [row[key] for row in self.rows]
            if all(value is None for value in values):
                continue
            cells = ["-" if v is None else printed(v) for v in values]
            width = max(len(cell) for cell in [title, *cells])
            align = str.ljust if key == "file" else str.rjust
            columns.append([align(cell, width) for cell in [title, *cells]])
        lines = ["  ".join(cells).rstrip() for cells in zip(*columns)]
        rule = "-" * max(len(line) for line in lines)
        return "\n".join([lines[0], rule, *lines[1:]])


def verify(
    files,
    student,
    dataset,
    *,
    teacher=None,
    output=None,
    max_accuracy_drop=None,
    num_threads=1,
    latency_runs=50,
    verbose=True,
):
    """Compares TFLite files with the Keras student they were exported from.

    With `z` the student's logits over all samples and `f` those of a file:

        accuracy                  share where argmax f is the label
        accuracy_drop_points      100 * (accuracy of z - accuracy of f)
        agreement                 share where argmax f = argmax z
        teacher_agreement         share where argmax f = argmax of the teacher
        mean_absolute_difference  mean |f - z|
        max_absolute_difference   max |f - z|
        max_relative_difference   max |f - z| / max |z|

    A head of one unit says yes above 0, or above 0.5 if the student's (the
    teacher's) outputs all lie in [0, 1]: they are probabilities then. Sample
    weights are ignored, as in Keras's `metrics=`.

    Args:
        files: A path, a list of paths, or a dict label -> path.
        student: The built `keras.Model` that was exported.
        dataset: Data that neither training nor quantization has seen: a
            `tf.data.Dataset` of `(x, y)`, `(x, y, sample_weight)` or `x`
            batches, any iterable of such batches, or a tuple `(x, y)` of
            arrays. Labels are class numbers or one-hot. Read once.
        teacher: A `keras.Model` with the inputs and classes of the student.
            Defaults to `None`.
        output: Which output to compare, where the student has several: a key
            of its dict, `"output_<i>"` of its list.
        max_accuracy_drop: If given, `check(max_accuracy_drop)` is called.
        num_threads: Threads per interpreter. Defaults to 1: the most
            repeatable.
        latency_runs: Timed calls per network behind the median and the 95th
            percentile of one sample's latency, on this machine and not on a
            phone; the student's is that of its TensorFlow graph. 0: none.
            Defaults to 50.
        verbose: Whether to show a progress bar.

    Input shapes:
        Outputs `(batch, ..., classes)`; labels `(batch, ...)`,
        `(batch, ..., 1)` or one-hot `(batch, ..., classes)`.

    Returns:
        A `Verification`.

    Raises:
        VerificationError: If a file lost more than `max_accuracy_drop`.
        FileNotFoundError, TypeError, ValueError: If a file, an argument or
            the first batch does not fit.

    Example:

    ```python
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    x = np.random.normal(size=(200, 6)).astype("float32")
    y = np.random.randint(0, 3, 200)
    files = {
        name: kd.export.tflite(
            student,
            f"{name}.tflite",
            quantization=name,
            representative_dataset=x[:100],
        )
        for name in ("float16", "int8")
    }
    verification = kd.export.verify(files, student, (x[100:], y[100:]))
    print(verification)
    verification.check(max_accuracy_drop=5.0)
    ```
    """
    steps = _number_of_batches(dataset)
    _, inputs = model_inputs.input_signature(student)
    networks = [_KerasNetwork("student (Keras)", student)]
    networks += [
        _File(label, LiteModel(path, num_threads), inputs)
        for label, path in _labelled(files).items()
    ]
    teacher = None if teacher is None else _KerasNetwork("teacher", teacher)
    totals = [Totals() for _ in networks]
    samples = seen = 0
    progress = keras.utils.Progbar(
        steps, verbose=1 if verbose else 0, unit_name="batch"
    )
    for x, y in model_inputs.batches(dataset, "dataset"):
        if y is None and max_accuracy_drop is not None:
            raise ValueError(_NO_LABELS)
        outputs = [network(x) for network in networks]
        if not samples:
            output = _chosen_output(outputs[0], output)
            one = keras.tree.map_structure(lambda v: v[:1], x)
        logits = [n.selected(o, output) for n, o in zip(networks, outputs)]
        t = None if teacher is None else teacher.selected(teacher(x), output)
        labels = None if y is None else class_numbers(y, logits[0], output)
        for total, network, f in zip(totals, networks, logits):
            _same_shape(logits[0], f, network.label)
            if t is not None:
                _same_shape(logits[0], t, "teacher")
            total.add(logits[0], f, t, labels)
        samples += len(logits[0])
        seen += 1
        progress.update(seen)
    progress.update(seen, finalize=True)
    if not samples:
        raise ValueError("`dataset` is empty: there is nothing to verify on.")
    rows = []
    for network, total in zip(networks, totals):
        row = {**network.facts(output), **total.results()}
        row["accuracy_drop_points"] = None
        if row["accuracy"] is not None:
            best = (rows or [row])[0]["accuracy"]
            row["accuracy_drop_points"] = 100 * (best - row["accuracy"])
        times = network.latency(one, latency_runs) if latency_runs else None
        for name, percent in ("median", 50), ("95th_percentile", 95):
            row[f"latency_{name}_ms"] = (
                None if times is None else float(np.percentile(times, percent))
            )
        rows.append(row)
    found = Verification(rows, samples, output, num_threads, latency_runs)
    return (
        found if max_accuracy_drop is None else found.check(max_accuracy_drop)
    )


class _KerasNetwork:
    """A Keras model from NumPy to NumPy, by the names of its outputs."""

    def __init__(self, label, model):
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"The {label} must be a keras.Model. Received: {model!r}"
            )
        self.label = label
        self.model = model
        self._function = tf.function(
            lambda x: model(x, training=False), reduce_retracing=True
        )

    def __call__(self, x):
        outputs = model_inputs.named_outputs(self._function(x))
        return {name: np.asarray(value) for name, value in outputs.items()}

    def selected(self, outputs, output):
        """-> the chosen output, half precision as float32."""
        if len(outputs) == 1:
            value = next(iter(outputs.values()))
        elif output in outputs:
            value = outputs[output]
        else:
            raise ValueError(
                f"'{self.label}' has no output '{output}', only "
                f"{list(outputs)}."
            )
        wide = value.dtype.kind in "iu" or value.dtype == np.float64
        return value if wide else value.astype("float32")

    def facts(self, output):
        return {
            "file": self.label,
            "path": None,
            "size_bytes": sum(
                int(np.prod(w.shape)) * tf.as_dtype(w.dtype).size
                for w in self.model.weights
            ),
            "input_dtype": None,
            "output_dtype": None,
        }

    def latency(self, one, runs):
        return milliseconds(lambda: self(one), runs)


class _File(_KerasNetwork):
    """A TFLite file behind the same methods, fed as the student is."""

    def __init__(self, label, model, inputs):
        self.label = label
        self.model = model
        self.inputs = inputs

    def _feed(self, x):
        arrays = model_inputs.feed(x, self.inputs, "dataset")
        if len(arrays) == len(self.model.input_names) == 1:
            return dict(zip(self.model.input_names, arrays.values()))
        return arrays

    def __call__(self, x):
        outputs = self.model(self._feed(x))
        if isinstance(outputs, dict):
            return outputs
        return {self.model.output_names[0]: outputs}

    def facts(self, output):
        dtypes = self.model.output_dtypes
        return {
            "file": self.label,
            "path": str(self.model.filepath),
            "size_bytes": self.model.size_in_bytes,
            "input_dtype": "/".join(self.model.input_dtypes.values()),
            "output_dtype": dtypes.get(output) or next(iter(dtypes.values())),
        }

    def latency(self, one, runs):
        return self.model.measure_latency(self._feed(one), runs)


def _chosen_output(outputs, output):
    if output is None and len(outputs) == 1:
        return next(iter(outputs))
    if output not in outputs:
        raise ValueError(
            f"`output` must be one of {list(outputs)}. Received: {output!r}"
        )
    return output


def _same_shape(z, other, label):
    if z.shape != other.shape:
        raise ValueError(
            f"The outputs of '{label}' have the shape {other.shape}, the "
            f"student's {z.shape}; they must be the same."
        )


def _labelled(files):
    if isinstance(files, dict):
        labelled = files
    else:
        single = isinstance(files, (str, pathlib.Path))
        paths = [pathlib.Path(p) for p in ([files] if single else files)]
        names = [path.name for path in paths]
        unique = len(set(names)) == len(names)
        labelled = {p.name if unique else str(p): p for p in paths}
    if not labelled:
        raise ValueError("`files` is empty: there is nothing to verify.")
    return labelled


def _number_of_batches(dataset):
    if not isinstance(dataset, tf.data.Dataset):
        return None
    steps = int(dataset.cardinality())
    if steps == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`dataset` never ends. Give a part of it: dataset.take(batches)."
        )
    return None if steps < 0 else steps
