"""What exported files really do, compared with the student they came from.

`verify` sends real data through the Keras student and every file exported from
it, batch by batch, and counts. A file is judged by what it predicts, not by a
conversion without errors.
"""

import os
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_distill import cost
from keras_distill._arguments import as_path
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_string
from keras_distill._data.sources import batches
from keras_distill._data.sources import number_of_batches
from keras_distill.export import model_inputs
from keras_distill.export.file.notes import range_text
from keras_distill.export.file.notes import ranges_differ
from keras_distill.export.network import activated
from keras_distill.export.network import check_preprocessing
from keras_distill.export.verification.networks import File
from keras_distill.export.verification.networks import KerasNetwork
from keras_distill.export.verification.result import NO_LABELS
from keras_distill.export.verification.result import Verification
from keras_distill.export.verification.totals import Totals
from keras_distill.export.verification.totals import class_numbers
from keras_distill.views import Views

FilePath = str | os.PathLike


def verify(
    files: FilePath | Sequence[FilePath] | Mapping[str, FilePath],
    student: keras.Model,
    dataset: Any,
    *,
    teacher: keras.Model | None = None,
    preprocessing: Views | Callable | None = None,
    output: str | None = None,
    max_accuracy_drop: float | None = None,
    num_threads: int = 1,
    latency_runs: int = 50,
    measure_memory: bool = True,
    verbose: bool = True,
) -> Verification:
    """Compares TFLite files with the Keras student they were exported from.

    With the logits `z` of the student over all samples and `f` of a file:

        accuracy                  share of samples with argmax f = label
        accuracy_drop_points      100 * (accuracy of z - accuracy of f)
        agreement                 share with argmax f = argmax z
        teacher_agreement         share with argmax f = argmax of the teacher
        mean_absolute_difference  mean |f - z|
        max_absolute_difference   max |f - z|
        max_relative_difference   max |f - z| / max |z|

    A head of one unit decides at 0, or at 0.5 if all outputs of the student
    (the teacher) lie in [0, 1], because they are probabilities then. Sample
    weights are ignored, as in Keras's `metrics=`. A file that ends in a softmax
    or sigmoid of its own is compared with that of the student's logits.

    Each row also has the file's size, its operators and whether all are
    builtin, latency, resident memory, and the student's multiply-accumulates,
    which are the file's too (`kd.cost.multiply_accumulates`).

    Args:
        files: A path, a list of paths, or a dict label -> path.
        student: The built `keras.Model` that was exported.
        dataset: Data that neither training nor quantization has used: a
            `tf.data.Dataset` of `(x, y)`, `(x, y, sample_weight)` or `x`
            batches, any iterable of such batches, or a tuple `(x, y)` of
            arrays. Labels are class numbers or one-hot. Read once.
        teacher: A `keras.Model` with the inputs and classes of the student.
            Defaults to `None`.
        preprocessing: What turns the dataset's `x` into the input of a
            network: a `kd.views.Views` (such as `distiller.views`; the teacher
            gets its `teacher_evaluation`), a Keras layer or model, or a
            function. Files that contain it get `x` as it is. Defaults to
            `None`.
        output: Which output to compare if the student has several: a key of
            its dict, or `"output_<i>"` of its list.
        max_accuracy_drop: If given, `check(max_accuracy_drop)` is called.
        num_threads: Threads per interpreter. Defaults to 1, the most
            repeatable.
        latency_runs: Number of timed calls per network for the median and the
            95th percentile of one sample's latency, on this machine and not
            on a phone. The student's is that of its TensorFlow graph. 0 skips
            it. Defaults to 50.
        measure_memory: Whether to measure `memory_bytes`, in a process of its
            own per file (0.3 s each): how much the resident set grows when
            the file is opened and run once. Defaults to `True`.
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

    Warns:
        UserWarning: If the dataset lies in another range than a file was made
            for.

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
    checked_model("student", student)
    if teacher is not None:
        checked_model("teacher", teacher)
    checked_string("output", output, or_none=True)
    checked_number(
        "max_accuracy_drop", max_accuracy_drop, "[0, 100]", or_none=True
    )
    checked_integer("num_threads", num_threads)
    checked_integer("latency_runs", latency_runs, least=0)
    checked_boolean("measure_memory", measure_memory)
    checked_boolean("verbose", verbose)
    steps = number_of_batches(dataset)
    check_preprocessing(preprocessing)
    _, inputs = model_inputs.input_signature(student)
    keras_student = KerasNetwork(
        "student (Keras)", student, preprocessing, "student"
    )
    has_preprocessing = preprocessing is not None
    opened = [
        File(
            label, path, num_threads, inputs, has_preprocessing, measure_memory
        )
        for label, path in _labelled(files).items()
    ]
    networks = [keras_student, *opened]
    if teacher is not None:
        teacher = KerasNetwork("teacher", teacher, preprocessing, "teacher")
    totals = [Totals() for _ in networks]
    samples = batch_count = 0
    progress = keras.utils.Progbar(
        steps, verbose=1 if verbose else 0, unit_name="batch"
    )
    for x, y in batches(dataset, "dataset"):
        if y is None and max_accuracy_drop is not None:
            raise ValueError(NO_LABELS)
        student_x = keras_student.input(x)
        fed = [student_x, *(file.feed(x, student_x) for file in opened)]
        outputs = [network(value) for network, value in zip(networks, fed)]
        if not samples:
            output = _chosen_output(outputs[0], output)
            first = keras.tree.map_structure(lambda v: v[:1], fed)
        logits = [n.select(o, output) for n, o in zip(networks, outputs)]
        teacher_logits = labels = None
        if teacher is not None:
            teacher_logits = teacher.select(teacher(teacher.input(x)), output)
            _check_shape(teacher_logits, logits[0], "teacher")
        if y is not None:
            labels = class_numbers(y, logits[0], output)
        for total, network, value in zip(totals, networks, logits):
            _check_shape(value, logits[0], network.label)
            expected = np.asarray(activated(logits[0], network.activation))
            total.add(expected, value, teacher_logits, labels)
        samples += len(logits[0])
        batch_count += 1
        progress.update(batch_count)
    progress.update(batch_count, finalize=True)
    if not samples:
        raise ValueError("`dataset` is empty: there is nothing to verify on.")
    _warn_of_ranges(opened)
    products = _multiply_accumulates(student, first[0])
    rows: list[dict[str, Any]] = []
    for network, total, sample in zip(networks, totals, first):
        row = _row(network, total, output, sample, latency_runs)
        row["multiply_accumulates"] = products
        if row["accuracy"] is not None:
            best = (rows or [row])[0]["accuracy"]
            row["accuracy_drop_points"] = 100 * (best - row["accuracy"])
        rows.append(row)
    result = Verification(rows, samples, str(output), num_threads, latency_runs)
    return (
        result if max_accuracy_drop is None else result.check(max_accuracy_drop)
    )


def _row(network, total, output, sample, latency_runs):
    row = {**network.facts(output, sample), **total.results()}
    row["accuracy_drop_points"] = None
    times = network.latency(sample, latency_runs) if latency_runs else None
    for name, percent in ("median", 50), ("95th_percentile", 95):
        row[f"latency_{name}_ms"] = (
            None if times is None else float(np.percentile(times, percent))
        )
    return row


def _warn_of_ranges(files):
    """Warns once for all files that expect the same range."""
    labels = {}
    for file in files:
        for name, measured in file.measured_ranges.items():
            expected = file.expected_ranges.get(name)
            if expected and ranges_differ(expected, measured):
                key = name, *expected, *measured
                labels.setdefault(key, []).append(file.label)
    for (name, *limits), names in labels.items():
        warnings.warn(
            f"The dataset's input '{name}' lies in {range_text(limits[2:])}, "
            f"but {names} expect {range_text(limits[:2])} "
            "(`kd.export.metadata`): were representative and evaluation data "
            "preprocessed alike?",
            stacklevel=3,
        )


def _multiply_accumulates(student, sample):
    """Counts those of the student; `None` if they cannot all be counted."""
    shapes = keras.tree.map_structure(lambda v: tuple(v.shape[1:]), sample)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # layers that are not counted
        for shape in (None, shapes):
            try:
                return int(cost.multiply_accumulates(student, shape))
            except Exception:
                # The user's own `call` may do anything on symbols. One cell is
                # not worth the rest of the table.
                continue
    return None


def _chosen_output(outputs, output):
    if output is None and len(outputs) == 1:
        return next(iter(outputs))
    if output not in outputs:
        raise ValueError(
            f"`output` must be one of {list(outputs)}. Received: {output!r}"
        )
    return output


def _check_shape(logits, student_logits, label):
    if logits.shape != student_logits.shape:
        raise ValueError(
            f"The outputs of '{label}' have the shape {logits.shape}, the "
            f"student's {student_logits.shape}; they must be the same."
        )


def _labelled(files):
    if isinstance(files, Mapping):
        labelled = {k: as_path("`files`", path) for k, path in files.items()}
    else:
        paths = files if isinstance(files, (list, tuple)) else [files]
        paths = [as_path("`files`", path) for path in paths]
        names = [path.name for path in paths]
        unique = len(set(names)) == len(names)
        labelled = {p.name if unique else str(p): p for p in paths}
    if not labelled:
        raise ValueError("`files` is empty: there is nothing to verify.")
    return labelled
