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

from keras_distill.lite_model import LiteModel
from keras_distill.lite_model import milliseconds

# Column of the table -> (key of a row, how a value is printed).
COLUMNS = {
    "file": ("file", "{}"),
    "KiB": ("size_bytes", lambda value: f"{value / 1024:.1f}"),
    "input": ("input_dtype", "{}"),
    "output": ("output_dtype", "{}"),
    "accuracy %": ("accuracy", "{:.2%}"),
    "lost points": ("accuracy_drop_points", "{:.2f}"),
    "agreement %": ("agreement", "{:.2%}"),
    "teacher %": ("teacher_agreement", "{:.2%}"),
    "mean diff": ("mean_absolute_difference", "{:.2g}"),
    "max diff": ("max_absolute_difference", "{:.2g}"),
    "relative": ("max_relative_difference", "{:.1e}"),
    "median ms": ("latency_median_ms", "{:.3f}"),
    "95 % ms": ("latency_95th_percentile_ms", "{:.3f}"),
}


class VerificationError(AssertionError):
    """An exported file lost more accuracy than was allowed."""


class Verification:
    """What `verify` found. `print(verification)` shows a table.

    Attributes:
        rows: One dict per file, the Keras student's first. Shares are in
            [0, 1], times in milliseconds; `None` where nothing can be said
            (accuracy without labels).
        samples: How many samples each network saw.
        num_threads: Threads of the interpreters.
        output: Name of the compared output.
    """

    def __init__(self, rows, samples, num_threads, output):
        self.rows = rows
        self.samples = samples
        self.num_threads = num_threads
        self.output = output

    def check(self, max_accuracy_drop=0.5):
        """Raises if a file is less accurate than the student allows.

        Args:
            max_accuracy_drop: Percentage points a file may lose against the
                Keras student on the same data. Defaults to 0.5.

        Returns:
            The verification itself.

        Raises:
            VerificationError: Naming every file that lost more.
            ValueError: If the data had no labels.
        """
        if self.rows[0]["accuracy"] is None:
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
                f"({self.rows[0]['accuracy']:.2%} on {self.samples} samples)."
            )
        return self

    def as_dict(self):
        """Everything as plain dicts, lists, numbers and strings."""
        return dict(vars(self), rows=[dict(row) for row in self.rows])

    def to_json(self, indent=2):
        """`as_dict()` as JSON."""
        return json.dumps(self.as_dict(), indent=indent)

    def __str__(self):
        columns = []
        for title, (key, form) in COLUMNS.items():
            values = [row[key] for row in self.rows]
            if all(value is None for value in values):
                continue
            form = form.format if isinstance(form, str) else form
            cells = [
                "-" if value is None else form(value).rstrip("%")
                for value in values
            ]
            width = max(map(len, [title, *cells]))
            align = str.ljust if key == "file" else str.rjust
            columns.append([align(cell, width) for cell in [title, *cells]])
        lines = ["  ".join(line).rstrip() for line in zip(*columns)]
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join(lines)


_NO_LABELS = (
    "`max_accuracy_drop` needs labels and the dataset gives none: give batches "
    "(x, y) or leave max_accuracy_drop out."
)


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

    With `z` the student's logits of all samples and `f` those of a file,

        accuracy                  share of positions where argmax f is the label
        agreement                 share where argmax f = argmax z
        teacher_agreement         share where argmax f = argmax of the teacher
        mean_absolute_difference  mean |f - z|
        max_absolute_difference   max |f - z|
        max_relative_difference   max |f - z| / max |z|
        accuracy_drop_points      100 * (accuracy of z - accuracy of f)

    A head of one unit says yes above 0, or above 0.5 if all its outputs lie in
    [0, 1] (then they are probabilities). Sample weights are not used, as in
    Keras's `metrics=`.

    Args:
        files: A path, a list of paths, or a dict label -> path.
        student: The built `keras.Model` that was exported.
        dataset: What neither training nor the choice of a quantization has
            seen: a `tf.data.Dataset` of `(x, y)`, `(x, y, sample_weight)` or
            `x` batches, any iterable of such batches, or a tuple of arrays.
            Labels are class numbers or one-hot. Read once.
        teacher: A `keras.Model` with the student's inputs and classes.
        output: Which output to compare; needed where the student has several
            (the key of a dict, `"output_<i>"` of a list).
        max_accuracy_drop: If given, `check(max_accuracy_drop)` is called.
        num_threads: Threads per interpreter. Defaults to 1, which is the most
            repeatable.
        latency_runs: Timed calls per network for the median and the 95th
            percentile of one sample's latency (on this machine, not on a
            phone; for the student, of its compiled TensorFlow graph). 0 leaves
            latency out. Defaults to 50.
        verbose: Whether to show a progress bar.

    Input shapes:
        Outputs `(batch, ..., classes)`; labels `(batch, ...)`,
        `(batch, ..., 1)` or one-hot `(batch, ..., classes)`.

    Returns:
        A `Verification`.

    Raises:
        VerificationError: If a file lost more than `max_accuracy_drop`.
        FileNotFoundError, ValueError, TypeError: If a file, the data or an
            argument does not fit, before the data is gone through.

    Example:

    ```python
    verification = kd.export.verify(
        {"float32": "student.tflite", "int8": "student_int8.tflite"},
        student,
        test_dataset,  # of (images, labels)
        teacher=teacher,
        max_accuracy_drop=0.5,
    )
    print(verification)
    ```
    """
    models = {
        label: LiteModel(path, num_threads)
        for label, path in _labelled(files).items()
    }
    steps = None
    if isinstance(dataset, tf.data.Dataset):
        steps = int(dataset.cardinality())
        if steps == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "`dataset` never ends. Take a part: dataset.take(batches)."
            )
        steps = None if steps < 0 else steps
    run_student = _as_function(student, "student")
    run_teacher = None if teacher is None else _as_function(teacher, "teacher")

    progress = keras.utils.Progbar(
        steps, verbose=int(bool(verbose)), unit_name="batch"
    )
    totals, samples, first = {}, 0, None
    for x, y in batches(dataset, "dataset"):
        z = run_student(x)
        if first is None:
            first = keras.tree.map_structure(lambda array: array[:1], x)
            output = _chosen_output(z, output)
            totals = {label: _Totals() for label in ["student", *models]}
            if y is None and max_accuracy_drop is not None:
                raise ValueError(_NO_LABELS)
        z = _output(z, output, "student")
        y = None if y is None else _class_numbers(_labels(y, output), z)
        t = None
        if run_teacher is not None:
            t = _output(run_teacher(x), output, "teacher")
            if t.shape != z.shape:
                raise ValueError(
                    "Teacher and student must have outputs of the same shape. "
                    f"Received: {t.shape} and {z.shape}"
                )
        totals["student"].add(z, z, t, y)
        feed = _feed(student, x)
        for label, model in models.items():
            f = _output(model(_renamed(feed, model)), output, label)
            totals[label].add(z, f, t, y)
        samples += len(z)
        progress.add(1)
    if not samples:
        raise ValueError("`dataset` is empty: there is nothing to verify on.")

    def student_once():
        return keras.tree.map_structure(np.asarray, run_student(first))

    rows = [
        {
            "file": "student (Keras)",
            "path": None,
            "size_bytes": sum(
                int(np.prod(v.shape)) * np.dtype(_numpy_name(v.dtype)).itemsize
                for v in student.weights
            ),
            "input_dtype": None,
            "output_dtype": None,
            **totals["student"].results(totals["student"]),
            **_latency(student_once, latency_runs),
        }
    ]
    for label, model in models.items():
        one = _renamed(_feed(student, first), model)
        rows.append(
            {
                "file": label,
                "path": str(model.filepath),
                "size_bytes": model.size_in_bytes,
                "input_dtype": "/".join(model.input_dtypes.values()),
                "output_dtype": _output(model.output_dtypes, output, label),
                **totals[label].results(totals["student"]),
                **_latency(model.measure_latency, latency_runs, one),
            }
        )
    verification = Verification(rows, samples, num_threads, output)
    if max_accuracy_drop is not None:
        verification.check(max_accuracy_drop)
    return verification
