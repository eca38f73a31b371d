"""All numbers of a report, and its pictures."""

import warnings

import keras
import numpy as np

from keras_distill._data.sources import batches
from keras_distill.cost import multiply_accumulates
from keras_distill.export import model_inputs
from keras_distill.report import provenance
from keras_distill.report.images import are_images
from keras_distill.report.images import picture
from keras_distill.report.images import to_bytes
from keras_distill.report.measuring import Measurement
from keras_distill.report.runs import of_runs
from keras_distill.report.summary_text import summary
from keras_distill.views import for_network

# Samples of a batch that are shown as the networks see them.
_SHOWN = 8


def gather(
    *,
    student,
    others,
    teacher_is_comparable,
    views,
    dataset,
    train_dataset,
    class_names,
    verification,
    accuracies,
    agreements,
    verbose,
):
    """Runs the networks and counts.

    Args:
        student: The `keras.Model`.
        others: A dict `"teacher"`, `"alone"` -> `keras.Model` or `None`.
        teacher_is_comparable: Whether the teacher's outputs are scores over
            the student's classes.
        views: A `Views`.
        (the others): As in `write_report`, checked.

    Returns:
        The facts, as JSON knows them, and the pictures that `page` takes.
    """
    models = {"student": student, **others}
    models = {k: m for k, m in models.items() if m is not None}
    seen_by = {
        key: (model, _view(key, model, views)) for key, model in models.items()
    }
    compared = {
        key: pair
        for key, pair in seen_by.items()
        if key != "teacher" or teacher_is_comparable
    }
    found = Measurement(compared, dataset, verbose)
    classes = found.classifiers["student"].classes
    networks = {}
    for key, (model, view) in seen_by.items():
        networks[key] = {
            "name": model.name,
            "parameters": int(model.count_params()),
            "multiply_accumulates": _cost(model, view, found.first_x),
            "weight_bytes": _weight_bytes(model),
            **(found.facts(key) if key in compared else {}),
        }
    raw = for_network(student, found.first_x, "student")
    facts = {
        "data": {
            "samples": len(found.labels),
            "kind": "images" if are_images(raw) else "samples",
            "classes": classes,
            "class_names": checked_names(class_names, classes),
        },
        "networks": networks,
        "runs": of_runs(accuracies, agreements),
        "verification": _without_folders(verification),
        "classes": found.classes(),
        "splits": found.splits(),
        "disagreements": [row for row, _ in found.disagreements],
        "views": None,
    }
    pictures = {
        "disagreements": _pictures(found.disagreements, facts),
        "views": {},
    }
    if train_dataset is not None:
        facts["views"], pictures["views"] = _first_training_batch(
            train_dataset, views, models
        )
    facts["summary"] = [
        sentence.replace("\u00a0", " ") for sentence in summary(facts)
    ]
    return facts, pictures


def checked_names(names, classes):
    """Names of all classes, as texts."""
    if names is None:
        return [str(number) for number in range(classes)]
    names = [str(name) for name in names]
    if len(names) != classes:
        raise ValueError(
            f"`class_names` has {len(names)} names, the student {classes} "
            f"classes. Give one name a class, in their order. Received: "
            f"{names[:5]}{' ...' if len(names) > 5 else ''}"
        )
    return names


def _view(key, model, views):
    """What a network is given for the dataset's `x`, as in evaluation."""
    role = "teacher" if key == "teacher" else "student"
    see = views.teacher_evaluation if key == "teacher" else views.evaluation
    return lambda x: for_network(model, see(x), role)


def _cost(model, view, x):
    """Multiply-accumulates; `None` where the symbolic pass is not possible."""
    inputs = keras.tree.map_structure(
        lambda a: keras.KerasTensor(
            (1, *a.shape[1:]), keras.backend.standardize_dtype(a.dtype)
        ),
        view(x),
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return multiply_accumulates(model, inputs)
    except Exception:
        # The user's own `call` may have no symbolic form; one cell of a
        # table is not worth the rest of the report.
        return None


def _weight_bytes(model):
    return sum(
        keras.ops.convert_to_numpy(weight).nbytes for weight in model.weights
    )


def _without_folders(verification):
    if verification is None:
        return None
    found = provenance.plain(verification.as_dict())
    for row in found["rows"]:
        if row.get("path"):
            row["path"] = provenance.without_folders(row["path"])
    return found


def _pictures(disagreements, facts):
    shown = _on_one_scale([image for _, image in disagreements])
    names = facts["data"]["class_names"]
    return [
        image
        if image is None
        else picture(
            image, f"Sample {row['sample']}, labelled {names[row['label']]}"
        )
        for image, (row, _) in zip(shown, disagreements)
    ]


def _on_one_scale(images):
    """Images of any sizes, or `None`, as bytes; see `to_bytes`."""
    there = [image for image in images if image is not None]
    if not there:
        return images
    values, _ = to_bytes(np.concatenate([np.ravel(image) for image in there]))
    ends = np.cumsum([np.size(image) for image in there])
    parts = iter(np.split(values, ends[:-1]))
    return [
        image if image is None else next(parts).reshape(np.shape(image))
        for image in images
    ]


def _first_training_batch(dataset, views, models):
    """What both networks see of it: facts and pictures."""
    batch = next(batches(dataset, "train_dataset"), None)
    if batch is None:
        raise ValueError("`train_dataset` is empty: there is nothing to show.")
    x = keras.tree.map_structure(keras.ops.convert_to_tensor, batch[0])
    seen = views.training(x, epoch=keras.ops.convert_to_tensor(0))
    facts = {"samples": len(keras.tree.flatten(x)[0]), "scale": {}}
    pictures, inputs = {}, {}
    for role in ("teacher", "student"):
        if role not in models:
            continue
        given = for_network(models[role], getattr(seen, role), role)
        inputs[role] = keras.tree.map_structure(
            keras.ops.convert_to_numpy, given
        )
        facts[role] = _ranges(inputs[role])
        if are_images(inputs[role]):
            shown, words = to_bytes(inputs[role][:_SHOWN])
            facts["scale"][role] = f" ({words})" if words else ""
            pictures[role] = [
                picture(
                    image, f"Training sample {number} as the {role} sees it"
                )
                for number, image in enumerate(shown)
            ]
    facts["same"] = len(inputs) == 2 and _equal(*inputs.values())
    return facts, pictures


def _ranges(given):
    """Shape, dtype and values of one input or of several."""
    named = model_inputs.named_outputs(given)
    if not keras.tree.is_nested(given):
        named = {"": given}
    return {
        str(name): {
            "shape": list(array.shape[1:]),
            "dtype": str(array.dtype),
            **{
                key: float(getattr(np, key)(array.astype("float64")))
                for key in ("min", "max", "mean")
            },
        }
        for name, array in named.items()
        if array.dtype.kind in "iufb" or array.dtype.name == "bfloat16"
    }


def _equal(one, other):
    one, other = keras.tree.flatten(one), keras.tree.flatten(other)
    return len(one) == len(other) and all(map(np.array_equal, one, other))
