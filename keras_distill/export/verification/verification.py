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
from keras_distill._arguments import checked_ignore_class
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_string
from keras_distill._data.sources import number_of_batches
from keras_distill._data.sources import weighted_batches
from keras_distill._keras.stateless import without_states
from keras_distill._progress import ProgressBar
from keras_distill.export import model_inputs
from keras_distill.export.aware import is_aware
from keras_distill.export.file.notes import range_text
from keras_distill.export.file.notes import ranges_differ
from keras_distill.export.network import check_preprocessing
from keras_distill.export.verification import trained
from keras_distill.export.verification.comparison import Comparison
from keras_distill.export.verification.comparison import answers
from keras_distill.export.verification.comparison import compared_outputs
from keras_distill.export.verification.gate import Gate
from keras_distill.export.verification.labels import LabelReader
from keras_distill.export.verification.labels import by_output
from keras_distill.export.verification.labels import check_by_output
from keras_distill.export.verification.networks import File
from keras_distill.export.verification.networks import KerasNetwork
from keras_distill.export.verification.result import Verification
from keras_distill.export.verification.result import Verifications
from keras_distill.teachers.roles import as_one_teacher
from keras_distill.teachers.roles import as_teacher
from keras_distill.views import Views

FilePath = str | os.PathLike


def verify(
    files: FilePath | Sequence[FilePath] | Mapping[str, FilePath],
    student: keras.Model,
    dataset: Any,
    *,
    teacher: keras.Model | Sequence | Mapping | None = None,
    preprocessing: Views | Callable | None = None,
    output: str | None = None,
    ignore_class: int | None = None,
    max_accuracy_drop: float | None = None,
    metric: str | keras.metrics.Metric | None = None,
    per_class_drop: float | None = None,
    num_threads: int = 1,
    latency_runs: int = 50,
    measure_memory: bool = True,
    verbose: bool = True,
) -> Verification | Verifications:
    """Compares TFLite files with the Keras student they were exported from.

    With the logits `z` of the student and `f` of a file, over all positions
    (samples, tokens, pixels) that count:

        accuracy                  share with argmax f = label
        accuracy_drop_points      100 * (accuracy of z - accuracy of f)
        accuracy_interval         95 % interval that the number allows (Wilson)
        recall, precision         by class; balanced_accuracy is mean recall
        iou, mean_iou             of pixels: intersection over union by class,
                                  and its mean over the classes that occur
        confusion_matrix          positions by label (rows) and decision
        area_under_curve          of two classes, under the ROC curve
        agreement                 share with argmax f = argmax z
        teacher_agreement         share with argmax f = argmax of the teacher
        mean_absolute_difference  mean |f - z|
        max_absolute_difference   max |f - z|
        max_relative_difference   max |f - z| / max |z|

    Padding (the mask that Keras attaches to the student's output), positions
    of `ignore_class` and of sample weight 0 count nowhere. Other weights count
    as in Keras's `weighted_metrics=`: sum(w * right) / sum(w).

    Labels of 0 or 1 for every output unit, with other than one 1 per row, are
    several labels at once: every unit is a decision then, and recall and
    precision are those of the ones. Float labels of the output's shape with
    other values are targets of a regression: rows have
    `mean_absolute_error` and `root_mean_squared_error` in their place. A
    student that ends in a softmax, or was compiled with a categorical loss,
    has one class per position.

    A head of one unit (and of several labels) decides at 0 if its layers show
    that it gives logits. Otherwise it decides at 0.5 if all outputs of the
    student (the teacher) lie in [0, 1], because they are probabilities then,
    and at 0 if not. A file that ends in a softmax or sigmoid of its own is
    compared with that of the student's logits.

    Of a student of `kd.quantization.aware`, with `s` the scale of a file's
    output (the difference between two of its values):

        max_difference_steps      max |f - z| / s
        equal_outputs             share of |f - z| <= s / 2
        equal_kernels             kernels that the file has of the student's,
        equal_ranges              and ranges: how many, and of how many
        integer_throughout        whether the file computes nothing in float

    Each row also has the file's size, its operators and whether all are
    builtin, latency, resident memory, and the student's multiply-accumulates,
    which are the file's too (`kd.cost.multiply_accumulates`).

    Args:
        files: A path, a list of paths, or a dict label -> path.
        student: The built `keras.Model` that was exported.
        dataset: Data that neither training nor quantization has used: a
            `tf.data.Dataset` of `(x, y)`, `(x, y, sample_weight)` or `x`
            batches, any iterable of such batches, or a tuple `(x, y)` of
            arrays. Sparse inputs become dense, as files have no others. Read
            once.
        teacher: A `keras.Model` with the inputs and classes of the student,
            a list of them, or a dict with the names of the outputs that they
            answer, as `kd.Distiller` takes them. Defaults to `None`.
        preprocessing: What turns the dataset's `x` into the input of a
            network: a `kd.views.Views` (such as `distiller.views`; the teacher
            gets its `teacher_evaluation`), a Keras layer or model, or a
            function. Files that contain it get `x` as it is. Defaults to
            `None`.
        output: Which output to compare if the student has several: a key of
            its dict, or `"output_<i>"` of its list. Defaults to `None`: all.
            Labels, weights and the teacher's outputs are then dicts with the
            same keys; an output that they leave out is compared without.
            If the outputs are a list, labels and weights may be a dict with
            the names of its layers, as in `fit`.
        ignore_class: The label of positions without a class, such as 255, as
            in Keras's losses. Defaults to `None`.
        max_accuracy_drop: How much of `metric` a file may lose against the
            Keras student: percentage points, or, for a metric that should
            fall, its own unit. Defaults to `None`: no bound.
        metric: What `max_accuracy_drop` is about: `"accuracy"`,
            `"balanced_accuracy"`, `"mean_iou"` or a `keras.metrics.Metric`,
            which gets the labels, the outputs (logits, if the student gives
            logits) and the weights. It should grow or fall as Keras's
            callbacks take it; one of your own should fall if its name holds
            "error", "loss" or "false". Of several numbers, the largest loss
            counts. Defaults to `None`: the accuracy.
        per_class_drop: How many percentage points of recall a file may lose
            on any class. Defaults to `None`: no bound.
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
        Outputs `(batch, ..., units)`; labels `(batch, ...)`, `(batch, ..., 1)`
        or `(batch, ..., units)`; sample weights `(batch,)` to `(batch, ...)`.

    Returns:
        A `Verification`. For several outputs, a dict of these by output that
        prints and checks all of them.

    Raises:
        VerificationError: If a file lost more than `max_accuracy_drop` or
            `per_class_drop`, or if a network's outputs are not finite.
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
    # A file has no state that goes on from batch to batch.
    student = without_states(checked_model("student", student))
    if teacher is not None:
        teacher = checked_model("teacher", as_teacher(teacher))
        teacher = without_states(teacher)
    checked_string("output", output, or_none=True)
    checked_integer("num_threads", num_threads)
    checked_integer("latency_runs", latency_runs, least=0)
    checked_boolean("measure_memory", measure_memory)
    checked_boolean("verbose", verbose)
    checked_ignore_class(ignore_class)
    gate = Gate(max_accuracy_drop, metric, per_class_drop)
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
    if teacher is not None:
        teacher = KerasNetwork("teacher", teacher, preprocessing, "teacher")
    own = isinstance(metric, keras.metrics.Metric)
    comparisons: list[Comparison] = []
    batch_count = 0
    progress = ProgressBar(steps, "batch", verbose)
    for x, *labels in weighted_batches(dataset, "dataset"):
        y, sample_weight = (by_output(v, student) for v in labels)
        batch = answers(keras_student, opened, teacher, x)
        if not comparisons:
            names = compared_outputs(batch.outputs[0], output, batch.teacher)
            answered = batch.teacher or {}
            if teacher and len(names) == 1 < len(answered):
                if names[0] not in answered:
                    as_one_teacher(teacher.model)
            comparisons = [
                Comparison(
                    keras_student,
                    opened,
                    teacher,
                    LabelReader(student, ignore_class, name),
                    name,
                    metric if own else None,
                    one_of_several=len(names) > 1,
                )
                for name in names
            ]
            check_by_output(y, names)
            if keras.tree.is_nested(sample_weight):
                check_by_output(sample_weight, names, "sample weights")
        for comparison in comparisons:
            comparison.add(batch, y, sample_weight)
        for comparison in _gated(comparisons, gate):
            gate.check_task(comparison.reader.task, comparison.labelled)
        batch_count += 1
        progress.update(batch_count)
    progress.finish()
    if not comparisons or not comparisons[0].samples:
        raise ValueError("`dataset` is empty: there is nothing to verify on.")
    for comparison in comparisons:
        if not comparison.positions:
            where = f" for '{comparison.output}'" * (len(comparisons) > 1)
            raise ValueError(
                f"Nothing in `dataset` counts{where}: all of it is padding, of "
                "weight 0, or of `ignore_class`."
            )
    _warn_of_ranges(opened)
    first = comparisons[0].first
    costs = _costs(keras_student, opened, first, comparisons[0], latency_runs)
    results = {}
    for comparison in comparisons:
        name = comparison.output
        facts = comparison.facts()
        if metric is not None and comparison.metric is None:
            facts["metric"] = metric
        results[name] = Verification(
            [
                {**cost, **network.output_facts(name), **counted}
                for network, cost, counted in zip(
                    comparison.networks, costs, comparison.answers()
                )
            ],
            comparison.samples,
            str(name),
            num_threads,
            latency_runs,
            **facts,
        )
    judged = [results[c.output] for c in _gated(comparisons, gate)]
    if len(results) > 1:
        if not gate.is_open:
            gate.check_all(judged)
        return Verifications(results)
    if not gate.is_open:
        gate.check(*judged)
    return results[comparisons[0].output]


def _gated(comparisons, gate):
    """The comparisons that a gate judges: those with labels of its kind, if
    any has."""
    labelled = [c for c in comparisons if c.labelled] or comparisons[:1]
    return [c for c in labelled if gate.is_for(c.reader.task)] or labelled


def _costs(student, files, samples, comparison, latency_runs):
    """What every network costs and has, whatever it answers: a list of dicts
    for rows."""
    products = _multiply_accumulates(student.model, samples[0])
    rows = []
    for network, sample in zip([student, *files], samples):
        facts = network.facts(comparison.output, sample)
        facts.update(_latency(network, sample, latency_runs))
        facts["multiply_accumulates"] = products
        of_aware = getattr(network, "has_trained_ranges", False)
        if is_aware(student.model) and of_aware:
            facts.update(trained.facts(network.model.filepath, student.model))
        rows.append(facts)
    return rows


def _latency(network, sample, runs):
    times = network.latency(sample, runs) if runs else None
    return {
        f"latency_{name}_ms": (
            None if times is None else float(np.percentile(times, percent))
        )
        for name, percent in (("median", 50), ("95th_percentile", 95))
    }


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
