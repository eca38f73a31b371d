"""Sections about classes, single samples, and what the networks see."""

import math

from keras_distill.report.charts import class_dots
from keras_distill.report.charts import legend
from keras_distill.report.html import count
from keras_distill.report.html import element
from keras_distill.report.html import figure
from keras_distill.report.html import percent
from keras_distill.report.html import table
from keras_distill.report.sections import section
from keras_distill.report.summary_text import NAMES
from keras_distill.report.summary_text import class_name

_MOST_CLASSES = 20


def classes(facts):
    """Accuracy by class, those first where student and teacher part."""
    found = facts["classes"]
    shown = found[:_MOST_CLASSES]
    keys = [k for k in ("teacher", "alone", "student") if k in shown[0]]
    with_teacher = "agreement" in shown[0]
    lowest = min(row[key] for row in shown for key in keys)
    low = min(0.9, math.floor(10 * lowest) / 10)
    header = ["class", facts["data"]["kind"], *(NAMES[key] for key in keys)]
    if with_teacher:
        header.append("agreement")
    header.append(f"accuracy, {100 * low:.0f} to 100\u00a0%")
    rows = []
    for row in shown:
        dots = class_dots(
            [(key, row[key]) for key in keys],
            low,
            ", ".join(f"{NAMES[key]} {percent(row[key])}" for key in keys),
        )
        cells = [count(row["samples"]), *(percent(row[key]) for key in keys)]
        if with_teacher:
            cells.append(percent(row["agreement"]))
        rows.append([class_name(facts, row["class"]), *cells, dots])
    order = "Where student and teacher agree least comes first."
    caption = "Accuracy on the test data by class, and share of it on which "
    caption += "student and teacher agree"
    if not with_teacher:
        order = "The least accurate come first."
        caption = "Accuracy on the test data by class"
    if len(found) > len(shown):
        order += (
            f" {len(shown)} of {count(len(found))} classes; "
            f"{facts['numbers']} has them all."
        )
    return section(
        "classes",
        "Class by class",
        element("p", order),
        legend([(key, NAMES[key]) for key in keys]),
        table(header, rows, caption),
        _splits(facts),
    )


def _splits(facts):
    found = facts["splits"]
    if not found:
        return None
    rows = [
        [
            class_name(facts, row["teacher"]),
            class_name(facts, row["student"]),
            count(row["samples"]),
            count(row["teacher_right"]),
            count(row["student_right"]),
        ]
        for row in found
    ]
    header = [
        "teacher says",
        "student says",
        facts["data"]["kind"],
        "teacher is right",
        "student is right",
    ]
    return table(
        header, rows, "The most frequent disagreements", text_columns=2
    )


def disagreements(facts, pictures):
    """The samples on which both networks are certain, and differ."""
    found = facts["disagreements"]
    if not found:
        return None
    text = (
        f"The {len(found)} test {facts['data']['kind']} on which student and "
        "teacher decide differently and both are most certain, ordered by the "
        "smaller of their two confidences; ✓ is the label, ✗ is not."
    )
    title = "Where they are certain and differ"
    if pictures[0] is None:
        rows = [
            [
                row["sample"],
                class_name(facts, row["label"]),
                *_decisions(facts, row),
            ]
            for row in found
        ]
        header = ["sample", "label", "teacher", "student"]
        shown = table(header, rows, "The test data has no images to show", 4)
    else:
        shown = element(
            "ol",
            [
                _sample(facts, row, picture)
                for row, picture in zip(found, pictures)
            ],
            class_="samples",
        )
    return section("disagreements", title, element("p", text), shown)


def _decisions(facts, row):
    for key in ("teacher", "student"):
        right = row[key] == row["label"]
        yield (
            f"{class_name(facts, row[key])}, ",
            element(
                "span",
                f"{percent(row[f'{key}_confidence'], 0)}\u00a0",
                element(
                    "span",
                    "✓" if right else "✗",
                    role="img",
                    aria_label="right" if right else "wrong",
                ),
                class_="verdict",
            ),
        )


def _sample(facts, row, picture):
    teacher, student = _decisions(facts, row)
    terms = [
        ("label", class_name(facts, row["label"])),
        ("teacher", teacher),
        ("student", student),
        ("number", row["sample"]),
    ]
    pairs = [(element("dt", t), element("dd", d)) for t, d in terms]
    return element("li", picture, element("dl", pairs))


def views(facts, pictures):
    """The same samples as the student and as the teacher is given them."""
    found = facts.get("views")
    if found is None:
        return None
    rows = [
        [
            f"{role}, {name}" if name else role,
            " × ".join(map(str, seen["shape"])) or "scalar",
            seen["dtype"],
            *(f"{seen[key]:.4g}" for key in ("min", "max", "mean")),
        ]
        for role in ("teacher", "student")
        if role in found
        for name, seen in found[role].items()
    ]
    text = (
        f"The first training batch, {count(found['samples'])} "
        f"{facts['data']['kind']}, after the views."
    )
    if found["same"]:
        text += " Both networks see the same."
    strips = [
        figure(
            element("div", pictures[role], class_="strip"),
            [element("b", f"The {role} sees"), found["scale"][role]],
        )
        for role in ("teacher", "student")
        if pictures.get(role)
    ]
    if not strips:
        text += " These are no images: here are the ranges of their values."
    header = ["network", "shape of a sample", "dtype", "min", "max", "mean"]
    return section(
        "views",
        "What the networks saw",
        element("p", text),
        strips,
        table(header, rows, "Inputs in training", text_columns=3),
    )
