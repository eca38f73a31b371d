"""What exported files really do, beside the student they came from.

`verify` sends real data through the Keras student and every file exported from
it, one batch at a time, and counts. A file is accepted for what it predicts,
not for having been converted without an error.
"""

import pathlib
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_distill import cost
from keras_distill._data.sources import batches
from keras_distill.export import model_inputs
from keras_distill.export.file import ranges
from keras_distill.export.network import activated
from keras_distill.export.network import check_preprocessing
from keras_distill.export.verification.compared import File
from keras_distill.export.verification.compared import KerasNetwork
from keras_distill.export.verification.comparison import Totals
from keras_distill.export.verification.comparison import class_numbers
from keras_distill.export.verification.result import NO_LABELS
from keras_distill.export.verification.result import Verification


def verify(
    files,
    student,
    dataset,
    *,
    teacher=None,
    preprocessing=None,
    output=None,
    max_accuracy_drop=None,
    num_threads=1,
    latency_runs=50,
    measure_memory=True,
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
    weights are ignored, as in Keras's `metrics=`. A file that ends in a softmax
    (or sigmoid) of its own is compared with that of the student's logits.

    Beside that, per file: size, operators and whether all are builtin,
    latency, resident memory; and the student's multiply-accumulates, which are
    the file's too (`kd.cost.multiply_accumulates`).

    Args:
        files: A path, a list of paths, or a dict label -> path.
        student: The built `keras.Model` that was exported.
        dataset: Data that neither training nor quantization has seen: a
            `tf.data.Dataset` of `(x, y)`, `(x, y, sample_weight)` or `x`
            batches, any iterable of such batches, or a tuple `(x, y)` of
            arrays. Labels are class numbers or one-hot. Read once.
        teacher: A `keras.Model` with the inputs and classes of the student.
            Defaults to `None`.
        preprocessing: What makes a network's input of the dataset's `x`: a
            `kd.views.Views` (such as `distiller.views`; the teacher gets its
            `teacher_evaluation`), a Keras layer or model, or a function. Files
            that hold it inside see `x` as it is. Defaults to `None`.
        output: Which output to compare, where the student has several: a key
            of its dict, `"output_<i>"` of its list.
        max_accuracy_drop: If given, `check(max_accuracy_drop)` is called.
        num_threads: Threads per interpreter. Defaults to 1: the most
            repeatable.
        latency_runs: Timed calls per network behind the median and the 95th
            percentile of one sample's latency, on this machine and not on a
            phone; the student's is that of its TensorFlow graph. 0: none.
            Defaults to 50.
        measure_memory: Whether to measure `memory_bytes`, in a process of its
            own per file (0.3 s each): by how much the resident set grows when
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
    steps = _number_of_batches(dataset)
    check_preprocessing(preprocessing)
    _, inputs = model_inputs.input_signature(student)
    keras_student = KerasNetwork(
        "student (Keras)", student, preprocessing, "student"
    )
    files = [
        File(
            label,
            path,
            num_threads,
            inputs,
            preprocessing is not None,
            measure_memory,
        )
        for label, path in _labelled(files).items()
    ]
    networks = [keras_student, *files]
    if teacher is not None:
        teacher = KerasNetwork("teacher", teacher, preprocessing, "teacher")
    totals = [Totals() for _ in networks]
    samples = seen = 0
    progress = keras.utils.Progbar(
        steps, verbose=1 if verbose else 0, unit_name="batch"
    )
    for x, y in batches(dataset, "dataset"):
        if y is None and max_accuracy_drop is not None:
            raise ValueError(NO_LABELS)
        student_x = keras_student.input(x)
        given = [student_x, *(file.feed(x, student_x) for file in files)]
        outputs = [network(value) for network, value in zip(networks, given)]
        if not samples:
            output = _chosen_output(outputs[0], output)
            ones = keras.tree.map_structure(lambda v: v[:1], given)
        logits = [n.selected(o, output) for n, o in zip(networks, outputs)]
        z = logits[0]
        t = None
        if teacher is not None:
            t = teacher.selected(teacher(teacher.input(x)), output)
            _same_shape(z, t, "teacher")
        labels = None if y is None else class_numbers(y, z, output)
        for total, network, f in zip(totals, networks, logits):
            _same_shape(z, f, network.label)
            expected = activated(z, network.activation)
            total.add(np.asarray(expected), f, t, labels)
        samples += len(z)
        seen += 1
        progress.update(seen)
    progress.update(seen, finalize=True)
    if not samples:
        raise ValueError("`dataset` is empty: there is nothing to verify on.")
    _warn_of_ranges(files)
    products = _multiply_accumulates(student, ones[0])
    rows = []
    for network, total, one in zip(networks, totals, ones):
        row = {**network.facts(output, one), **total.results()}
        row["accuracy_drop_points"] = None
        if row["accuracy"] is not None:
            best = (rows or [row])[0]["accuracy"]
            row["accuracy_drop_points"] = 100 * (best - row["accuracy"])
        times = network.latency(one, latency_runs) if latency_runs else None
        for name, percent in ("median", 50), ("95th_percentile", 95):
            row[f"latency_{name}_ms"] = (
                None if times is None else float(np.percentile(times, percent))
            )
        row["multiply_accumulates"] = products
        rows.append(row)
    found = Verification(rows, samples, output, num_threads, latency_runs)
    return (
        found if max_accuracy_drop is None else found.check(max_accuracy_drop)
    )


def _warn_of_ranges(files):
    """Warns once for all files that expect the same."""
    found = {}
    for file in files:
        for name, seen in file.seen.items():
            expected = file.expected.get(name)
            if expected and ranges.differ(expected, seen):
                labels = found.setdefault((name, *expected, *seen), [])
                labels.append(file.label)
    for (name, *limits), labels in found.items():
        warnings.warn(
            f"The dataset's input '{name}' lies in "
            f"{ranges.shown(limits[2:])}, but {labels} expect "
            f"{ranges.shown(limits[:2])} (`kd.export.metadata`): "
            "were representative and evaluation data preprocessed alike?",
            stacklevel=3,
        )


def _multiply_accumulates(student, one):
    """Of the student, or `None` where they cannot all be counted."""
    shapes = keras.tree.map_structure(lambda v: tuple(v.shape[1:]), one)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # layers that are not counted
        for shape in (None, shapes):
            try:
                return int(cost.multiply_accumulates(student, shape))
            except Exception:
                # The user's own `call` may do anything on symbols; one cell
                # of a table is not worth the rest of it.
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
