"""The tables of the classes: found, confused, disputed."""

import math

from markupsafe import Markup

from keras_distill.report.charts import class_dots
from keras_distill.report.charts import legend_mark
from keras_distill.report.written import NAMES
from keras_distill.report.written import class_name
from keras_distill.report.written import count
from keras_distill.report.written import percent

_MOST_CLASSES = 20
# On a page; a larger matrix is not for reading.
_LARGEST_MATRIX = 12


def recalls(facts):
    """Recall by class, those first on which the networks disagree."""
    shown = facts["classes"][:_MOST_CLASSES]
    keys = [key for key in ("teacher", "alone", "student") if key in shown[0]]
    lowest = min(row[key] for row in shown for key in keys)
    low = min(0.9, math.floor(10 * lowest) / 10)
    with_teacher = "agreement" in shown[0]
    header = ["class", _counted(facts), *(NAMES[key] for key in keys)]
    header += ["agreement"] if with_teacher else []
    header.append(f"recall, {100 * low:.0f} to 100\u00a0%")
    rows = []
    for row in shown:
        description = ", ".join(f"{NAMES[k]} {percent(row[k])}" for k in keys)
        rows.append(
            [
                class_name(facts, row["class"]),
                count(row["samples"]),
                *(percent(row[key]) for key in keys),
                *([percent(row["agreement"])] if with_teacher else []),
                class_dots([(k, row[k]) for k in keys], low, description),
            ]
        )
    return {
        "with_teacher": with_teacher,
        "legend": [(legend_mark(key), NAMES[key]) for key in keys],
        "table": (header, rows),
    }


def precisions(facts):
    """Header and rows of the precision by class, as in `recalls`."""
    shown = facts["classes"][:_MOST_CLASSES]
    keys = [key for key in NAMES if key in shown[0]["precision"]]
    rows = [
        [
            class_name(facts, row["class"]),
            *(percent(row["precision"][key]) for key in keys),
        ]
        for row in shown
    ]
    return ["class", *(NAMES[key] for key in keys)], rows


def overlaps(facts):
    """Header and rows of the intersection over union by class.

    `None` if the networks do not decide on the pixels of maps.
    """
    shown = facts["classes"][:_MOST_CLASSES]
    if "iou" not in shown[0]:
        return None
    keys = [key for key in NAMES if key in shown[0]["iou"]]
    rows = [
        [
            class_name(facts, row["class"]),
            *(percent(row["iou"][key]) for key in keys),
        ]
        for row in shown
    ]
    means = [facts["networks"][key]["mean_iou"] for key in keys]
    rows.append(["mean of the classes that occur", *map(percent, means)])
    return ["class", *(NAMES[key] for key in keys)], rows


def matrices(facts):
    """Name and rows of every network's confusion matrix.

    A row is the class and, for each decision, the number and its share of the
    row. Without rows if there are too many classes.
    """
    if facts["data"]["classes"] > _LARGEST_MATRIX:
        return []
    return [
        (
            NAMES[key].capitalize(),
            [
                [
                    class_name(facts, number),
                    *((count(value), value / (sum(row) or 1)) for value in row),
                ]
                for number, row in enumerate(network["confusion_matrix"])
            ],
        )
        for key, network in _measured(facts)
    ]


def confusions(facts):
    """Name and rows of every network's most frequent mistakes."""
    samples = {row["class"]: row["samples"] for row in facts["classes"]}
    return [
        (
            NAMES[key].capitalize(),
            [
                [
                    class_name(facts, row["label"]),
                    class_name(facts, row["decided"]),
                    count(row["samples"]),
                    percent(row["samples"] / samples[row["label"]]),
                ]
                for row in network["largest_confusions"]
            ],
        )
        for key, network in _measured(facts)
    ]


def _measured(facts):
    for key in ("student", "alone", "teacher"):
        network = facts["networks"].get(key, {})
        if "accuracy" in network:
            yield key, network


def _counted(facts):
    """What the numbers of a class count."""
    return "weight" if facts["data"]["weighted"] else facts["data"]["kind"]


def splits(facts):
    """The most frequent pairs of different decisions."""
    return [
        [
            class_name(facts, row["teacher"]),
            class_name(facts, row["student"]),
            *(
                count(row[key])
                for key in ("samples", "teacher_right", "student_right")
            ),
        ]
        for row in facts["splits"]
    ]


def disagreements(facts):
    """Number, label and the two decisions of every sample shown."""
    return [
        (
            _place(row),
            class_name(facts, row["label"]),
            _decision(facts, row, "teacher"),
            _decision(facts, row, "student"),
        )
        for row in facts["disagreements"]
    ]


def _place(row):
    """The number of a sample, and the position in it if there are several."""
    position = row["position"]
    if not position:
        return row["sample"]
    return f"{row['sample']}, at {', '.join(map(str, position))}"


def _decision(facts, row, network):
    right = row[network] == row["label"]
    return Markup(
        '{}, <span class="verdict">{}\u00a0'
        '<span role="img" aria-label="{}">{}</span></span>'
    ).format(
        class_name(facts, row[network]),
        percent(row[f"{network}_confidence"], 0),
        *(("right", "✓") if right else ("wrong", "✗")),
    )
