"""`write_report`: the page that a team reviews before a student ships."""

import datetime
import json
import math
import os
import pathlib
from typing import Any

import keras

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_ignore_class
from keras_distill._arguments import checked_instance
from keras_distill._data.for_network import for_network
from keras_distill._keras.fingerprint import black_boxes
from keras_distill.cost import cost_of_one_sample
from keras_distill.cost import number_of_parameters
from keras_distill.export.aware import weight_bits
from keras_distill.export.paths import check_free
from keras_distill.export.paths import written_whole
from keras_distill.report import provenance
from keras_distill.report.images import first_training_batch
from keras_distill.report.images import on_one_scale
from keras_distill.report.images import picture
from keras_distill.report.inputs import About
from keras_distill.report.inputs import Evidence
from keras_distill.report.inputs import Networks
from keras_distill.report.measuring import Measurement
from keras_distill.report.measuring import measured
from keras_distill.report.runs import exported_run
from keras_distill.report.runs import summarize_runs
from keras_distill.report.summary_text import summary
from keras_distill.report.tally import LARGEST_MATRIX


def write_report(
    path: str | os.PathLike,
    networks: keras.Model | Networks,
    dataset: Any,
    *,
    evidence: Evidence | None = None,
    about: About | None = None,
    ignore_class: int | None = None,
    overwrite: bool = False,
    verbose: bool = True,
) -> pathlib.Path:
    """Writes what is known about a student as a page, and as numbers.

    The page is one HTML file without scripts or anything from elsewhere, for
    a browser, a phone or paper. The numbers are a JSON file beside it
    (`report.html`, `report.json`). Sections without data are left out.
    Networks run on `dataset` as `evaluate` runs them, and are not changed.
    The report is for classifiers of one class per sample or per position of it
    (tokens, pixels). If the student's output is a dict, every output that has
    labels gets its sections, and `report.json` holds them as `"outputs"`.

    Padding (the mask of an output), labels of `ignore_class` and sample
    weights of 0 count nowhere, and other sample weights weigh in every share.
    If the classes are imbalanced (the largest has 1.5 times the mean of the
    others, or more), the summary speaks of the balanced accuracy, the mean of
    the recall of all classes. Intervals come from the size of the test data;
    all positions of a sample count as one sample in them.

    Args:
        path: Where to write the page, ending in `.html`. Missing folders are
            created.
        networks: A `kd.Distiller`, which knows its teacher, views and
            configuration; a built `keras.Model`, the student; or a
            `kd.report.Networks` of student, teacher and student alone.
        dataset: Labelled test data: a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or an iterable of `(x, y)` or
            `(x, y, sample_weight)` batches, or a tuple of such arrays. Labels
            are class numbers or one-hot. It is read once.
        evidence: A `kd.report.Evidence`: verified files, training curves,
            accuracies of several runs, training data.
        about: A `kd.report.About`: title, names of the classes, settings,
            seeds, command.
        ignore_class: The label of positions that count nowhere, such as void
            pixels. Defaults to that of the loss that the Distiller or the
            student was compiled with.
        overwrite: Whether to replace both files if they exist.
        verbose: Whether to show a progress bar.

    Input shapes:
        Outputs `(batch, ..., classes)` or, for two classes, `(batch, ..., 1)`;
        labels `(batch, ...)`, `(batch, ..., 1)` or one-hot
        `(batch, ..., classes)`.

    Returns:
        The `pathlib.Path` of the page.

    Raises:
        FileExistsError: If a file exists and `overwrite` is `False`.
        TypeError, ValueError: If an argument or the first batch does not fit:
            labels are missing, there are too many or too few class names, a
            network is not built or has other classes, the data is empty or
            never ends, or `verification` was made on other data.

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
        "report.html",
        distiller,
        test_dataset,
        evidence=kd.report.Evidence(history=history),
    )
    ```

    Reference: Mitchell et al. 2019, "Model Cards for Model Reporting". The
    calibration is that of Guo et al. 2017, see `kd.calibration`.
    """
    # Only a report needs matplotlib and jinja2.
    from keras_distill.report.page import page

    checked_boolean("`overwrite`", overwrite)
    checked_boolean("`verbose`", verbose)
    page_path = _checked_path(path, overwrite)
    evidence = _checked("evidence", evidence, Evidence)
    about = _checked("about", about, About)
    if not isinstance(networks, Networks):
        checked_instance(
            "`networks`",
            networks,
            keras.Model,
            "kd.report.Networks, a kd.Distiller or a keras.Model",
            or_none=False,
        )
        networks = Networks(networks)
    checked_ignore_class(ignore_class)
    models, views, comparable, configuration = networks.resolve()
    outputs = networks.outputs(models)
    evidence_of = {
        output: evidence if len(outputs) == 1 else evidence.of_output(output)
        for output in outputs
    }
    numbers_name = page_path.with_suffix(".json").name
    facts = {
        "format": "keras_distill report",
        "format_version": 1,
        "title": str(about.title or models["student"].name),
        "numbers": numbers_name,
        "date": _now(),
        "command": str(about.command or provenance.command()),
        "seeds": about.seeds,
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "configuration": {**configuration, **(about.configuration or {})},
        "curves": evidence.history,
        "views": None,
    }
    seen = _seen_networks(models, views)
    measurements = {}
    for output, of_teacher in outputs.items():
        compares = of_teacher and (comparable or output is not None)
        ignored = ignore_class
        if ignored is None:
            ignored = networks.ignore_class(output)
        measurements[output] = Measurement(
            {k: n for k, n in seen.items() if k != "teacher" or compares},
            ignored,
            output,
            *of_teacher,
        )
    measurements = measured(measurements, dataset, verbose)
    pictures: dict = {"disagreements": {}, "views": {}}
    if evidence.train_dataset is not None:
        facts["views"], pictures["views"] = first_training_batch(
            evidence.train_dataset, views, models
        )
    facts = provenance.to_json(facts)
    of_outputs = {}
    for output, measurement in measurements.items():
        of_output = evidence_of[output]
        of_output.check_data(
            measurement.samples, measurement.fingerprint.hexdigest()
        )
        names = about.class_names
        names = names.get(output) if isinstance(names, dict) else names
        found = provenance.to_json(
            _measured_facts(seen, measurement, of_output, about.seeds, names)
        )
        pictures["disagreements"][output] = _pictures(found, measurement)
        found["summary"] = [
            sentence.replace("\u00a0", " ")
            for sentence in summary({**facts, **found})
        ]
        of_outputs[output] = found
    if len(measurements) > 1:
        facts["outputs"] = of_outputs
    else:
        ((output, found),) = of_outputs.items()
        facts |= found
        pictures["disagreements"] = pictures["disagreements"][output]
    with written_whole(page_path, overwrite) as temporary:
        temporary.write_text(page(facts, pictures), encoding="utf-8")
        temporary.with_name(numbers_name).write_text(
            json.dumps(facts, indent=1, allow_nan=False), encoding="utf-8"
        )
    return page_path


def _seen_networks(models, views):
    """A dict from network to `(model, view)`.

    `view` is a function from the dataset's `x` to what the network sees of it.
    """

    def seen(key, model):
        if key == "teacher":
            role, view = "teacher", views.teacher_evaluation
        else:
            role, view = "student", views.evaluation
        return model, lambda x: for_network(model, view(x), role)

    return {key: seen(key, model) for key, model in models.items()}


def _measured_facts(networks, measured, evidence, seeds, class_names):
    """The numbers of one output, as JSON knows them.

    Args:
        networks: A dict from network to `(model, view)`.
        measured: A `Measurement` of those that can be compared.
        evidence: The `Evidence` for this output.
        seeds: As in `About`.
        class_names: The names of its classes, or `None`.
    """
    data = measured.data()
    measured_networks = {
        key: {
            "name": model.name,
            "parameters": number_of_parameters(model),
            "multiply_accumulates": cost_of_one_sample(
                model, view(measured.first_x)
            ),
            "weight_bytes": _weight_bytes(model),
            "weight_bits": weight_bits(model) or None,
            **(measured.facts(key) if key in measured.classifiers else {}),
        }
        for key, (model, view) in networks.items()
    }
    return {
        "data": {
            **data,
            "class_names": _checked_names(class_names, data["classes"]),
        },
        "networks": measured_networks,
        "differences": measured.differences(),
        "runs": summarize_runs(
            evidence.accuracies,
            evidence.agreements,
            exported_run(
                evidence, seeds, measured_networks["student"]["accuracy"]
            ),
        ),
        "verification": _without_folders(evidence.verification),
        "classes": measured.classes(),
        "splits": measured.splits(),
        "disagreements": [row for row, _ in measured.disagreements],
    }


def _pictures(facts, measured):
    """An `<img>` or `None` for each disagreement."""
    names = facts["data"]["class_names"]
    images = on_one_scale([image for _, image in measured.disagreements])
    return [
        image
        if image is None
        else picture(
            image, f"Sample {row['sample']}, labelled {names[row['label']]}"
        )
        for image, row in zip(images, facts["disagreements"])
    ]


def _checked_names(names, classes):
    """Returns the names of all classes as strings."""
    if names is None:
        return [str(number) for number in range(classes)]
    names = [str(name) for name in names]
    if len(names) != classes:
        raise ValueError(
            f"`class_names` has {len(names)} names, the student {classes} "
            "classes. Give one name per class, in their order. Received: "
            f"{names[:5]}{' ...' if len(names) > 5 else ''}"
        )
    return names


def _weight_bytes(model):
    import tensorflow as tf

    if black_boxes(model):
        return None
    return sum(
        math.prod(weight.shape) * tf.as_dtype(weight.dtype).size
        for weight in model.weights
    )


def _without_folders(verification):
    if verification is None:
        return None
    facts = provenance.to_json(verification.as_dict())
    for row in facts["rows"]:
        if row.get("path"):
            row["path"] = provenance.without_folders(row["path"])
        if len(row.get("confusion_matrix") or ()) > LARGEST_MATRIX:
            row["confusion_matrix"] = None
    return facts


def _checked_path(path, overwrite) -> pathlib.Path:
    path = as_path("`path`", path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            "`path` must end in .html: the numbers are written beside it as "
            f".json. Received: '{path}'"
        )
    for file in (path, path.with_suffix(".json")):
        check_free(file, overwrite, folder=False)
    return path


def _checked(argument, value, kind):
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(
            f"`{argument}` must be a kd.report.{kind.__name__}. Received: "
            f"{value!r} of type {type(value).__name__}"
        )
    return value


def _now():
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.strftime("%Y-%m-%d %H:%M UTC")
