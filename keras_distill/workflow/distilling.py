"""`distill`: the whole way from a trained model to a phone file."""

import hashlib
import os
import pathlib
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill._keras.fingerprint import fingerprint
from keras_distill.distillers.generations.directory import describe
from keras_distill.models.mobile_within import checked_budget
from keras_distill.teachers.applications import application_names
from keras_distill.teachers.sources.function import PythonFunction
from keras_distill.workflow import choosing
from keras_distill.workflow import data as images
from keras_distill.workflow import looking
from keras_distill.workflow import shipping
from keras_distill.workflow import teaching
from keras_distill.workflow import training
from keras_distill.workflow.folder import OURS
from keras_distill.workflow.folder import RunFolder
from keras_distill.workflow.result import Distilled
from keras_distill.workflow.result import result_of
from keras_distill.workflow.run import NEEDED
from keras_distill.workflow.run import SHIPPING
from keras_distill.workflow.run import STEPS
from keras_distill.workflow.run import Arguments
from keras_distill.workflow.run import Run
from keras_distill.workflow.screen import Screen
from keras_distill.workflow.settings import Settings
from keras_distill.workflow.settings import plain
from keras_distill.workflow.settings import read

_FUNCTIONS = {
    "look": looking.look,
    "diagnose": teaching.diagnose,
    "choose": choosing.choose,
    "cache": teaching.cache,
    "train": teaching.train,
    "compare": teaching.compare,
    "export": shipping.export,
    "verify": shipping.verify,
    "report": shipping.report,
}
SKIPPABLE = tuple(step for step in STEPS if step not in NEEDED)


def distill(
    teacher: str | os.PathLike | keras.Model | Sequence[keras.Model] | Callable,
    data: Any,
    *,
    student: str | os.PathLike | keras.Model = "auto",
    validation_data: Any = None,
    unlabelled: Any = None,
    budget: Mapping[str, float] | None = None,
    time_limit: float | None = None,
    output: str | os.PathLike = "run",
    settings: str | os.PathLike | Mapping[str, Any] | None = None,
    skip: Sequence[str] = (),
    until: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = True,
) -> Distilled | None:
    """Goes the whole way from a trained model to a phone file.

    It looks at data and teacher, says what there is to gain, chooses how to
    teach, computes the teacher's outputs once, trains the student, trains it
    alone to compare, exports, runs the files on the test images, and writes a
    report. It ends with five lines: what came out, where, what it
    costs, how sure the gain is, and what to do next. If distilling does not
    pay, it says so, and the student trained alone ships.

    If it is killed, the same call goes on where it was, within a training too.
    On the screen is one bar per step; all logs are in `log.txt`. In `output`
    are also `student.keras`, the `.tflite` files, `report.html`,
    `settings.yaml` (each value and why it is that), `verification.json` and
    logs for TensorBoard. Without `validation_data`, a tenth of the images
    chooses and a tenth tests, stratified by class. An interval is that of the
    test images; another seed of the training may give another gain.

    The command is `keras-distill run IMAGES --teacher teacher.keras`.

    Args:
        teacher: The path of a `.keras`, `.tflite` or `.onnx` file, a name in
            keras.applications, a `keras.Model`, a list of them, or a function
            from a NumPy array of images to an array (for images in files, say
            their `image_size` in `settings`). The scale of the images that it
            expects, and whether it gives logits, is found out on images.
        data: A folder with a folder of images per class, or without (then
            there are no labels), a CSV file of path,label, a name of
            tensorflow-datasets, arrays `(x, y)`, or a `tf.data.Dataset` of
            batches, which is taken into memory once. All images are held in
            memory.
        student: `"auto"`: `kd.models.mobile`, with a layer that brings pixels
            of up to 255 to [0, 1]. Or a `keras.Model` that returns logits, or
            the path of one, trained from the weights that it has; it gets such
            a layer if it has none and the images are bytes. Defaults to
            `"auto"`.
        validation_data: Labelled images: one half is to choose settings by,
            the other half is the test set.
            Defaults to a part of `data`.
        unlabelled: Images without labels, of which the teacher tells the
            student what it sees. Defaults to none.
        budget: What `"auto"` may cost: a dict of any of `"kib"`, `"ms"` (on
            this machine) and `"macs"`, see `kd.models.mobile_within`.
            Defaults to `None`: a network of width 1.
        time_limit: Seconds for everything; it shortens the trainings. Defaults
            to `None`: 3600 steps, or 20 passes over the images.
        output: The folder of the run. Defaults to `"run"`.
        settings: Values that are not to be chosen: a dict from name to value,
            or the `settings.yaml` of another run, whose values are taken (the
            other arguments are yours to give again). Names:
            `image_size`, `class_names` (of the teacher, in the order of its
            outputs), `teacher_scale`, `batch_size`, `steps`, `seed`,
            `quantization`, and what is chosen.
        skip: Steps to leave out, of `"diagnose"`, `"choose"` (a rule decides
            then), `"cache"`, `"compare"` (the student trained alone),
            `"export"`, `"verify"`, `"report"`. Defaults to none.
        until: The step after which to stop, one of these or `"look"` or
            `"train"`. Defaults to `None`: the end.
        resume: Whether to go on with a run that is finished: with the steps
            that it skipped. One that is not goes on anyway.
        overwrite: Whether to replace the run in `output`.
        verbose: Whether to show anything.

    Returns:
        A `Distilled` with the student, its files and what was measured; `None`
        if it stopped at `until`.

    Raises:
        FileExistsError: If `output` holds a finished run, another one, or
            something else.
        OSError: If the disk is full.
        TypeError, ValueError: If an argument does not fit: no image, one
            class, other classes than the teacher's, a budget that no student
            meets, a time limit shorter than one pass over the images.

    Example:

    ```python
    distilled = kd.distill(
        teacher,
        (x_train, y_train),
        student=student,
        settings={"steps": 40, "batch_size": 16},
        skip=["diagnose", "choose"],
        output="run",
    )
    print(distilled.files["int8"])
    ```
    """
    arguments = Arguments(
        teacher=_checked_teacher(teacher),
        data=images.in_memory(data, "data"),
        student=_checked_student(student),
        validation_data=images.in_memory(validation_data, "validation_data"),
        unlabelled=images.in_memory(unlabelled, "unlabelled"),
        budget=_checked_budget(budget, student),
        time_limit=checked_number("time_limit", time_limit, or_none=True),
        skip=_checked_skip(skip),
    )
    if arguments.data is None:
        raise TypeError(
            "data must be a folder of images, a CSV file, the name of a data "
            "set, arrays (x, y) or a tf.data.Dataset. Received: None"
        )
    one_of("until", until, (None, *STEPS))
    checked_boolean("resume", resume)
    checked_boolean("overwrite", overwrite)
    checked_boolean("verbose", verbose)
    fixed, _ = read(settings)
    output = as_path("output", output)
    _check_inputs_stay(arguments, output)
    folder = RunFolder(
        output,
        _told_apart(arguments, fixed),
        resume=resume,
        overwrite=overwrite,
    )
    with Screen(folder.path / "log.txt", verbose) as screen:
        run = Run(arguments, folder, screen, Settings(fixed))
        return _go(run, until)


def _go(run, until):
    """Does the steps that are not done yet."""
    folder, settings = run.folder, run.settings
    settings.restore(folder.state.get("settings"))
    if folder.done("look") is not None:
        looking.check_same_images(run)
    if folder.resumes:
        done = ", ".join(s for s in STEPS if folder.done(s) is not None)
        run.screen.line(f"{folder.path}: goes on after {done}")
        if isinstance(run.arguments.student, keras.Model):
            run.screen.line("student: with the initial weights of before")
    for step in STEPS:
        if folder.done(step) is None and not _left_out(run, step):
            _do(run, step)
        if step == until:
            text = (folder.done(step) or {}).get("text")
            if text:
                run.screen.line(f"\n{text}")
            return None
    if folder.done("measure") is None:
        began = time.perf_counter()
        folder.finish_step("measure", plain(shipping.measure(run)), began)
    if folder.done("export") is None:
        shipping.student(run).save(folder.path / "student.keras")
    result = result_of(run)
    folder.finish()
    shipping.clean(run)
    run.screen.line()
    for line in result.lines:
        run.screen.line(line)
    return result


def _do(run, step):
    """Does one step and remembers it."""
    folder, settings = run.folder, run.settings
    expected = settings.facts.get("seconds_expected", {}).get(step)
    began = time.perf_counter()
    with run.screen.step(step, expected) as bar:
        result = _FUNCTIONS[step](run, bar)
    folder.state["settings"] = settings.as_dict()
    # What ships, and what is said of it, depends on all steps before.
    later = STEPS[STEPS.index(step) + 1 :]
    folder.forget(set(later) & set(SHIPPING) | {"measure"})
    folder.finish_step(step, plain(result), began)
    settings.write(folder.path / "settings.yaml", _for_settings(run.arguments))
    training.forget_backup(run, step)


def _left_out(run, step):
    """Whether a step is skipped, or has nothing to work on."""
    if step == "choose":  # Skipped, it takes the rule.
        return False
    if step == "compare":
        if run.data.train[1] is None:
            return True
        return choosing.distils(run.settings) and run.skips(step)
    exported = run.folder.done("export") is not None
    return run.skips(step) or (step == "verify" and not exported)


# Arguments.


def _checked_teacher(teacher):
    several = isinstance(teacher, (list, tuple))
    if several and teacher and all(isinstance(t, keras.Model) for t in teacher):
        return list(teacher)
    if isinstance(teacher, (str, os.PathLike)):
        known = (
            teacher in application_names() or pathlib.Path(teacher).is_file()
        )
    else:
        known = callable(teacher)
    if not known:
        raise ValueError(
            "teacher must be the path of a .keras, .tflite or .onnx file that "
            "exists, a name in keras.applications, a keras.Model, a list of "
            f"them, or a function. Received: {teacher!r}"
        )
    return teacher


def _checked_student(student):
    if isinstance(student, keras.Model):
        return checked_model("student", student)
    path = as_path("student", student)
    if student != "auto" and not path.is_file():
        raise ValueError(
            "student must be 'auto', the path of a .keras file that exists, or "
            f"a keras.Model. Received: {student!r}"
        )
    return student


def _checked_budget(budget, student):
    if budget is None:
        return None
    budget = checked_budget(budget)
    if student != "auto":
        raise ValueError(
            f"budget needs student='auto'. Received: student={student!r}"
        )
    return budget


def _checked_skip(skip):
    skip = [skip] if isinstance(skip, str) else skip
    if not isinstance(skip, (list, tuple)):
        raise TypeError(f"skip must be a list of steps. Received: {skip!r}")
    return tuple(sorted({one_of("skip", name, SKIPPABLE) for name in skip}))


def _check_inputs_stay(arguments, output):
    """Raises if the run would write over what it reads."""
    output = output.resolve()
    for name, value in arguments._asdict().items():
        if not images.is_path(value):
            continue
        path = pathlib.Path(value).resolve()
        if output in path.parents and path.relative_to(output).parts[0] in OURS:
            raise ValueError(
                f"{name}='{value}' is among the files that a run writes into "
                f"output='{output}'. Copy it, or choose another output."
            )


def _told_apart(arguments, fixed):
    """What tells this run from another, for JSON. Skipped steps do not.

    Names of models do not: Keras numbers them anew in every process. Nor do
    the student's initial weights, which the run has kept.
    """

    def known(value):
        if isinstance(value, keras.Model):
            return f"weights {fingerprint(value)[:12]}"
        if isinstance(value, list):
            return [known(v) for v in value]
        if callable(value):
            return f"function {PythonFunction(value).source_sha256[:12]}"
        if value is not None and pathlib.Path(value).is_file():
            with open(value, "rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return f"{os.fspath(value)}, SHA-256 {sha256[:12]}"
        return None if value is None else os.fspath(value)

    student = arguments.student
    return plain(
        {
            "teacher": known(arguments.teacher),
            "data": images.checksum(arguments.data),
            "student": (
                describe(student)
                if isinstance(student, keras.Model)
                else known(student)
            ),
            "validation_data": images.checksum(arguments.validation_data),
            "unlabelled": images.checksum(arguments.unlabelled),
            "budget": arguments.budget,
            "time_limit": arguments.time_limit,
            "settings": fixed,
        }
    )


def _for_settings(arguments):
    """The arguments that a file can hold: paths and numbers."""
    kinds = str, os.PathLike, int, float, dict
    return {
        name: list(value) if name == "skip" else value
        for name, value in arguments._asdict().items()
        if (isinstance(value, kinds) or name == "skip") and value
    }
