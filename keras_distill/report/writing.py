"""`write_report`: the page that a team reviews before a student ships."""

import datetime
import json
import pathlib

import keras

from keras_distill._data.sources import check_model
from keras_distill.distillers import checks
from keras_distill.distillers.base import BaseDistiller
from keras_distill.export.paths import check_free
from keras_distill.export.paths import written_whole
from keras_distill.export.verification.verification import Verification
from keras_distill.report import provenance
from keras_distill.report.gathering import gather
from keras_distill.report.page import page
from keras_distill.report.runs import checked_histories
from keras_distill.report.runs import checked_shares
from keras_distill.teachers.roles import as_teacher
from keras_distill.views import Views
from keras_distill.views.base import checked_views


def write_report(
    path,
    *,
    student,
    dataset,
    teacher=None,
    alone=None,
    views=None,
    verification=None,
    accuracies=None,
    agreements=None,
    history=None,
    train_dataset=None,
    class_names=None,
    title=None,
    configuration=None,
    seeds=None,
    command=None,
    overwrite=False,
    verbose=True,
):
    """Writes what is known about a student as a page, and as numbers.

    The page is one HTML file without scripts or anything from elsewhere, for a
    browser, a phone or paper; the numbers are a JSON file beside it
    (`report.html`, `report.json`). Sections whose data is not given are left
    out. Networks run on `dataset` as `evaluate` would run them, and are not
    changed. For classifiers with one output.

    Args:
        path: Where to write the page, ending in `.html`. Missing folders are
            made.
        student: A `kd.Distiller`, whose deployable student, teacher, views
            and configuration are taken; or a built `keras.Model`.
        dataset: Labelled test data that chose nothing: a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or an iterable of `(x, y)` batches, or a
            tuple `(x, y)` of arrays. Labels are class numbers or one-hot. Read
            once.
        teacher: A `keras.Model` with the student's classes, or a list of
            them. Defaults to the Distiller's; one of other classes is then
            named with its size only.
        alone: The student's network trained without a teacher, a
            `keras.Model`.
        views: What each network sees, a `kd.views.Views`. Defaults to the
            Distiller's.
        verification: What `kd.export.verify` returned.
        accuracies: Test accuracies of several runs (seeds, folds): a dict of
            `"teacher"`, `"alone"`, `"distilled"` -> a share in [0, 1] a run.
            Shown as mean and 95 % confidence interval; distilled minus alone
            is paired by run.
        agreements: The same for the agreement with the teacher.
        history: What `fit` returned, or its `.history`; a list of them
            (repetitions); or a dict name of a run -> either.
        train_dataset: Training data, of which the first batch is shown as
            the views give it to both networks.
        class_names: Names of the classes in order. Defaults to their numbers.
        title: Heading of the page. Defaults to the student's name.
        configuration: A dict of further settings to show.
        seeds: The seed, or a list or dict of them.
        command: The command that made all this. Defaults to the one that
            runs, without the folders it runs in.
        overwrite: Whether both files may be replaced.
        verbose: Whether to show a progress bar.

    Input shapes:
        Outputs `(batch, classes)` or, for two classes, `(batch, 1)`; labels
        `(batch,)`, `(batch, 1)` or one-hot `(batch, classes)`.

    Returns:
        The `pathlib.Path` of the page.

    Raises:
        FileExistsError: If a file is there and `overwrite` is `False`.
        TypeError, ValueError: If an argument or the first batch does not fit:
            labels are missing, class names are too many or too few, a network
            is not built or has other classes, the data is empty or never ends.

    Example:

    ```python
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
    )
    distiller.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    history = distiller.fit(train_dataset)
    kd.write_report(
        "report.html", student=distiller, dataset=test_dataset, history=history
    )
    ```

    Reference: Mitchell et al. 2019, "Model Cards for Model Reporting". The
    calibration is that of Guo et al. 2017, see `kd.calibration`.
    """
    path = _checked_path(path, overwrite)
    numbers = path.with_suffix(".json")
    views = checked_views(views)
    given = {"teacher": as_teacher(teacher), "alone": alone}
    if isinstance(student, BaseDistiller):
        configured = provenance.of_distiller(student)
        views = views or student.views
        if teacher is None:
            given["teacher"] = student._networks().teacher
        optional = teacher is None and not student._networks().comparable
        student = student.deployable_student()
    else:
        checks.check_student(student)
        configured, optional = provenance.of_training(student), False
    _check_networks(student, **given)
    if verification is not None and not isinstance(verification, Verification):
        raise TypeError(
            "`verification` must be what kd.export.verify returned. Received: "
            f"{verification!r} of type {type(verification).__name__}"
        )
    if configuration is not None and not isinstance(configuration, dict):
        raise TypeError(
            "`configuration` must be a dict setting -> value. Received: "
            f"{configuration!r} of type {type(configuration).__name__}"
        )
    facts = {
        "format": "keras_distill report",
        "format_version": 1,
        "title": str(title or student.name),
        "numbers": numbers.name,
        "date": _now(),
        "command": str(command or provenance.command()),
        "seeds": provenance.plain(seeds),
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "configuration": {
            **configured,
            **provenance.plain(configuration or {}),
        },
        "curves": provenance.plain(checked_histories(history)),
    }
    measured, pictures = gather(
        student=student,
        others=given,
        teacher_is_comparable=not optional,
        views=views or Views(),
        dataset=dataset,
        train_dataset=train_dataset,
        class_names=class_names,
        verification=verification,
        accuracies=checked_shares(accuracies, "accuracies"),
        agreements=checked_shares(agreements, "agreements"),
        verbose=verbose,
    )
    facts = provenance.plain(facts | measured)
    with written_whole(path, overwrite) as temporary:
        temporary.write_text(page(facts, pictures), encoding="utf-8")
        temporary.with_name(numbers.name).write_text(
            json.dumps(facts, indent=1, allow_nan=False), encoding="utf-8"
        )
    return path


def _checked_path(path, overwrite):
    path = pathlib.Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            "`path` must end in .html: the numbers go beside it as .json. "
            f"Received: '{path}'"
        )
    for file in (path, path.with_suffix(".json")):
        check_free(file, overwrite, folder=False)
    return path


def _check_networks(student, teacher, alone):
    check_model(student)
    if teacher is not None:
        checks.check_teacher(teacher, student)
    if alone is not None:
        if not isinstance(alone, keras.Model):
            raise TypeError(
                "`alone` must be the student's network trained without a "
                "teacher, a keras.Model; accuracies of several runs go into "
                f"`accuracies`. Received: {alone!r} of type "
                f"{type(alone).__name__}"
            )
        check_model(alone)


def _now():
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.strftime("%Y-%m-%d %H:%M UTC")
