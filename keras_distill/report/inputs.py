"""What you tell a report: its networks, its evidence, and what it is about."""

import dataclasses
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_instance
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_models
from keras_distill._arguments import checked_string
from keras_distill._arguments import checked_strings
from keras_distill._arguments import is_number
from keras_distill._keras.heads import output_keys
from keras_distill.distillers import checks
from keras_distill.distillers.base import BaseDistiller
from keras_distill.export.verification.verification import Verification
from keras_distill.export.verification.verification import Verifications
from keras_distill.report import provenance
from keras_distill.teachers.answers import Answers
from keras_distill.teachers.answers import can_answer
from keras_distill.teachers.roles import as_teacher
from keras_distill.teachers.teachers import Teachers
from keras_distill.views import Views
from keras_distill.views.augmented import checked_views

_Shares = Mapping[str, float | Sequence[float]]
_RUNS = ("teacher", "alone", "distilled")


@dataclasses.dataclass
class Networks:
    """The networks that a report compares.

    Args:
        student: A `kd.Distiller`, whose deployable student is reported, with
            its teacher, views and configuration; or a built `keras.Model`.
        teacher: A `keras.Model` with the student's classes, or a list of
            them. Defaults to the Distiller's teacher. If that one has other
            classes, the report gives only its name and size.
        alone: The student's network trained without a teacher, a
            `keras.Model`.
        views: What each network sees, a `kd.views.Views`. Defaults to the
            Distiller's views.
    """

    student: keras.Model
    teacher: keras.Model | Sequence[keras.Model] | None = None
    alone: keras.Model | None = None
    views: Views | None = None

    def __post_init__(self):
        checked_instance(
            "student", self.student, keras.Model, "keras.Model", or_none=False
        )
        checked_models("teacher", self.teacher, or_none=True)
        if not isinstance(self.alone, keras.Model | None):
            raise TypeError(
                "`alone` must be the student's network trained without a "
                "teacher, a keras.Model. Accuracies of several runs go into "
                f"`accuracies`. Received: {self.alone!r} of type "
                f"{type(self.alone).__name__}"
            )
        checked_views(self.views)

    def ignore_class(self, output=None):
        """The label that the student's loss ignores, or `None`.

        Args:
            output: The key of the output, if these are a dict.
        """
        loss = getattr(self.student, "loss", None)
        loss = loss.get(output) if isinstance(loss, dict) else loss
        return getattr(loss, "ignore_class", None)

    def outputs(self, models):
        """The outputs to report on: a dict from key to the teacher's.

        Args:
            models: From `resolve`.

        Returns:
            A dict from the key of an output (`None` if the student has one
            output without a key) to that of the teacher's answer: `(key,)`, or
            `()` if it gives none.
        """
        keys = output_keys(models["student"])
        if keys is None:
            return {None: (None,)}
        if "teacher" not in models:
            return dict.fromkeys(keys, ())
        teacher = models["teacher"]
        of_teacher = output_keys(teacher)
        if isinstance(teacher, (Answers, Teachers)):
            of_teacher = getattr(teacher, "answered", {})
        if of_teacher is not None:
            return {key: (key,) if key in of_teacher else () for key in keys}
        # A teacher of one output answers the tasks whose losses look at it.
        answered = set()
        if isinstance(self.student, BaseDistiller):
            answered = {
                key
                for key, task in (
                    self.student._networks().comparable_tasks.items()
                )
                if task.loss is not None
                and task.loss.teacher_layer_name is None
            }
        return {key: (None,) if key in answered else () for key in keys}

    def resolve(self):
        """Checks the networks and fills in what a Distiller knows.

        Returns:
            A tuple `(models, views, teacher_is_comparable, configuration)`,
            `models` a dict with `"student"` and, if given, `"teacher"` and
            `"alone"`.
        """
        student, comparable = self.student, True
        views, teacher = checked_views(self.views), as_teacher(self.teacher)
        if isinstance(student, BaseDistiller):
            configuration = provenance.distiller_settings(student)
            views = views or student.views
            if teacher is None:
                teacher = student._networks().teacher
                comparable = student._networks().comparable
            student = student.deployable_student()
        else:
            checks.check_student(student)
            configuration = provenance.training_settings(student)
        checked_model("student", student)
        if teacher is not None:
            checks.check_teacher(teacher, student)
        if self.alone is not None:
            checked_model("alone", self.alone)
        models = {"student": student, "teacher": teacher, "alone": self.alone}
        if isinstance(teacher, Teachers):
            models["teacher"] = self._answers(teacher, student, comparable)
        models = {k: model for k, model in models.items() if model is not None}
        return models, views or Views(), comparable, configuration

    def _answers(self, teachers, student, comparable):
        """Returns the teachers that answer what the student answers."""
        networks = None
        if isinstance(self.student, BaseDistiller):
            networks = self.student._networks()
        keys = output_keys(student)
        if keys is None:
            if not comparable:
                return teachers
            answer = None
            if self.teacher is None:
                answer = networks.run_teacher.answer
            if not can_answer(teachers, answer):
                raise ValueError(
                    "A report compares the student with one teacher, and "
                    f"these are {teachers.names}. Say which one: "
                    "kd.report.Networks(distiller, teacher=one), with the "
                    "trained keras.Model of one, or a list of models for the "
                    "mean of their probabilities."
                )
            return Answers(teachers, answer)
        names = {key: key for key in keys}
        if networks is not None:
            for key, task in networks.comparable_tasks.items():
                name = task.loss and task.loss.teacher_layer_name
                names[key] = name or key
        names = {k: n for k, n in names.items() if can_answer(teachers, n)}
        return Answers(teachers, names) if names else teachers


@dataclasses.dataclass(kw_only=True)
class Evidence:
    """What else is known about the student.

    Args:
        verification: What `kd.export.verify` returned for the same dataset.
        accuracies: Test accuracies of several runs (seeds, folds): a dict
            from `"teacher"`, `"alone"`, `"distilled"` to shares in [0, 1], one
            per run. Shown as mean and 95 % confidence interval; distilled
            minus alone is paired by run.
        agreements: The same for the agreement with the teacher.
        exported_run: Which of the runs is the student of this report, counted
            from 0 as in `accuracies`. Defaults to the only run of its
            accuracy, if there is one.
        history: What `fit` returned, or its `.history`; a list of them
            (repetitions); or a dict from the name of a run to either.
        train_dataset: Training data. Its first batch is shown as the views
            give it to both networks.

    Raises:
        TypeError, ValueError: If an argument is not of this form.
    """

    verification: Verification | Verifications | None = None
    accuracies: _Shares | None = None
    agreements: _Shares | None = None
    exported_run: int | None = None
    history: Any = None
    train_dataset: Any = None

    def __post_init__(self):
        if not isinstance(
            self.verification, Verification | Verifications | None
        ):
            raise TypeError(
                "`verification` must be what kd.export.verify returned. "
                f"Received: {self.verification!r} of type "
                f"{type(self.verification).__name__}"
            )
        self.accuracies = checked_shares(self.accuracies, "accuracies")
        self.agreements = checked_shares(self.agreements, "agreements")
        self.history = checked_histories(self.history)
        runs = len(self.accuracies.get("distilled", ()))
        self.exported_run = checked_integer(
            "exported_run",
            self.exported_run,
            0,
            runs - 1,
            or_none=True,
            hint=f"`accuracies['distilled']` has {runs} runs.",
        )

    def of_output(self, output):
        """Returns what is known about one output of several.

        Raises:
            ValueError: If there are numbers that do not say of which output.
        """
        if self.accuracies or self.agreements:
            raise ValueError(
                "`accuracies` and `agreements` are numbers of one output, but "
                "this student has several. Leave them out."
            )
        verification = self.verification
        if isinstance(verification, Verifications):
            verification = verification.get(output)
        elif verification is not None and verification.output != output:
            verification = None
        return dataclasses.replace(self, verification=verification)

    def check_data(self, samples, fingerprint):
        """Checks that `verification` was made on the report's data.

        Args:
            samples: The number of samples of the report's data.
            fingerprint: The `LabelsFingerprint` of the labels that count.
        """
        verified = self.verification
        if verified is None:
            return
        of_labels = getattr(verified, "data_fingerprint", None)
        if verified.samples != samples:
            what = f"it has {verified.samples} samples, `dataset` {samples}"
        elif of_labels not in (None, fingerprint):
            what = "the labels that count are others, or in another order"
        else:
            return
        raise ValueError(
            f"`verification` was made on other data than `dataset`: {what}. "
            "Pass the same data to kd.export.verify and to write_report, with "
            "the same ignore_class and in one order: not shuffled, or as a "
            "list of its batches."
        )


@dataclasses.dataclass(kw_only=True)
class About:
    """What a report is called, and where its student comes from.

    Args:
        title: Heading of the page. Defaults to the student's name.
        class_names: Names of the classes in order. Defaults to their numbers.
            For several outputs, a dict from output to names.
        configuration: A dict of further settings to show.
        seeds: The seed, or a list or dict of seeds.
        command: The command that made all this. Defaults to the running
            command, without the folders it runs in.

    Raises:
        TypeError: If `configuration` is not a dict.
    """

    title: str | None = None
    class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None
    configuration: Mapping[str, Any] | None = None
    seeds: Any = None
    command: str | os.PathLike | None = None

    def __post_init__(self):
        checked_string("`title`", self.title, or_none=True)
        names = self.class_names
        for given in names.values() if isinstance(names, dict) else [names]:
            checked_strings("`class_names`", given, or_none=True)
        if self.command is not None:
            as_path("`command`", self.command)
        if not isinstance(self.configuration, dict | None):
            raise TypeError(
                "`configuration` must be a dict from setting to value. "
                f"Received: {self.configuration!r} of type "
                f"{type(self.configuration).__name__}"
            )


def checked_shares(shares, argument):
    """Returns a dict from network to list of shares, one per run.

    Args:
        shares: A dict from `"teacher"`, `"alone"`, `"distilled"` to one number
            or several, in [0, 1]; or `None`.
        argument: What the user calls it, for messages.
    """
    if shares is None:
        return {}
    if not isinstance(shares, dict) or set(shares) - set(_RUNS):
        raise ValueError(
            f"`{argument}` must be a dict with some of the keys {list(_RUNS)}, "
            f"each with one number per run. Received: {shares!r}"
        )
    checked = {}
    for key in _RUNS:
        if key not in shares:
            continue
        values = np.atleast_1d(shares[key]).tolist()
        wrong = [v for v in values if not is_number(v) or not 0 <= v <= 1]
        if wrong or not values:
            raise ValueError(
                f"`{argument}['{key}']` must be shares in [0, 1], such as 0.93 "
                f"for 93 %, one per run. Received: {shares[key]!r}"
            )
        checked[key] = values
    return checked


def checked_histories(history):
    """Returns a dict from run to list of dicts from term to values by epoch.

    Args:
        history: A `keras.callbacks.History`, its `.history`, a list of these
            (repetitions of one run), a dict from run to any of these, or
            `None`.
    """
    if history is None:
        return {}
    repetitions = _repetitions(history)
    if repetitions is not None:
        return {"training": repetitions}
    if isinstance(history, dict) and history:
        runs = {str(name): _repetitions(h) for name, h in history.items()}
        if None not in runs.values():
            return runs
    raise TypeError(
        "`history` must be what fit() returns (a keras History or its "
        ".history), a list of these, or a dict from name to any of these. "
        f"Received: {history!r} of type {type(history).__name__}"
    )


def _repetitions(history):
    """One run as a list of dicts; `None` if it is something else."""
    if not isinstance(history, (list, tuple)):
        history = [history]
    runs = []
    for one in history:
        if isinstance(one, keras.callbacks.History):
            one = one.history
        elif not isinstance(one, dict):
            return None
        # Metrics of several numbers, one per class, have no curve.
        curves = {str(k): _curve(v) for k, v in one.items()}
        curves = {k: v for k, v in curves.items() if v is not None}
        if one and not curves:
            return None
        runs.append(curves)
    return runs or None


def _curve(values):
    """A list of floats; `None` for anything but numbers."""
    if not isinstance(values, (list, tuple, np.ndarray)):
        return None
    if any(np.ndim(v) or isinstance(v, (str, dict)) for v in values):
        return None
    try:
        return [float(v) for v in values]
    except (TypeError, ValueError):
        return None
