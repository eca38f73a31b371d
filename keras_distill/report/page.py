"""The page: one HTML file that needs nothing else.

`page.html.j2` lays out what is computed here from the facts. A section that
has nothing to show is `None` and is left out.
"""

import jinja2

from keras_distill.report import page_classes
from keras_distill.report import provenance
from keras_distill.report.charts import interval_chart
from keras_distill.report.charts import reliability_diagram
from keras_distill.report.curves import training
from keras_distill.report.page_files import files
from keras_distill.report.summary_text import smallest_file
from keras_distill.report.written import NAMES
from keras_distill.report.written import bounds
from keras_distill.report.written import class_name
from keras_distill.report.written import count
from keras_distill.report.written import difference_text
from keras_distill.report.written import percent
from keras_distill.report.written import plus_minus
from keras_distill.report.written import size

# Key of the measured shares, title of their column.
_SHARES = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
)


def page(facts, pictures):
    """Returns the HTML of a report.

    Args:
        facts: The numbers: what report.json holds.
        pictures: `"disagreements"`: an `<img>` or `None` for each, in a dict
            by output if there are several; `"views"`: a dict from role to a
            list of `<img>`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_distill.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(percent=percent, count=count)
    disagreements = pictures["disagreements"]
    if "outputs" in facts:
        parts = [
            _part({**facts, **of_output}, name, disagreements[name])
            for name, of_output in facts["outputs"].items()
        ]
    else:
        parts = [_part(facts, None, disagreements)]
    return environment.get_template("page.html.j2").render(
        facts=parts[0]["facts"],
        parts=parts,
        pictures=pictures,
        training=training(facts),
        views=_views(facts),
        settings=provenance.setting_rows(facts),
        losses=provenance.loss_rows(facts),
    )


def _part(facts, name, pictures):
    """What the page shows of one output."""
    return {
        "facts": facts,
        "name": name,
        "pictures": pictures,
        "key_numbers": list(_key_numbers(facts)),
        "files": files(facts),
        "networks": _networks(facts),
        "calibration": list(_calibration(facts)),
        "classes": page_classes.recalls(facts),
        "precisions": page_classes.precisions(facts),
        "overlaps": page_classes.overlaps(facts),
        "matrices": page_classes.matrices(facts),
        "confusions": page_classes.confusions(facts),
        "splits": page_classes.splits(facts),
        "disagreements": page_classes.disagreements(facts),
    }


def _key_numbers(facts):
    networks, row = facts["networks"], smallest_file(facts["verification"])
    student = networks["student"]
    share, title = _SHARES[facts["data"]["imbalanced"]]
    if row is not None and row.get(share) is not None:
        yield title, percent(row[share]), f"{row['file']} file"
    else:
        yield title, percent(student[share]), "student"
    if student["agreement_with_teacher"] is not None:
        agreement = percent(student["agreement_with_teacher"])
        yield "agreement", agreement, "student with teacher"
    if row is not None:
        yield "size", size(row["size_bytes"]), f"{row['file']} file"
    else:
        yield "size", size(student["weight_bytes"]), "weights"
    error = percent(student["expected_calibration_error"])
    yield "calibration error", error, "student, expected"


def _networks(facts):
    """Teacher, student alone and student side by side."""
    networks = facts["networks"]
    runs = facts["runs"] or {"accuracy": {}, "agreement_with_teacher": {}}
    accuracies, agreements = runs["accuracy"], runs["agreement_with_teacher"]
    intervals = [*accuracies.values(), *agreements.values()]
    number = max((len(i["values"]) for i in intervals), default=0)
    table = {}
    for key in ("teacher", "alone", "student"):
        run = "distilled" if key == "student" else key
        if not (key in networks or run in accuracies or run in agreements):
            continue
        network = networks.get(key, {})
        row = table[NAMES[key]] = _shares(network, facts["data"]["imbalanced"])
        row["agreement with teacher"] = percent(
            network.get("agreement_with_teacher")
        )
        if number > 1:
            title = f"\u00a0%, {number}\u00a0runs"
            row[f"accuracy{title}"] = plus_minus(accuracies.get(run))
            row[f"agreement{title}"] = plus_minus(agreements.get(run))
        row["parameters"] = count(network.get("parameters"))
        row["multiply-accumulates"] = count(network.get("multiply_accumulates"))
        row["weights"] = size(network.get("weight_bytes"))
    majority = facts["data"]["majority"]
    name = class_name(facts, majority["class"])
    table[f"always “{name}”"] = _shares(majority, facts["data"]["imbalanced"])
    columns = [
        title
        for title in table["student"]
        if any(row.get(title, "–") != "–" for row in table.values())
    ]
    rows = [
        [name, *(row.get(title, "–") for title in columns)]
        for name, row in table.items()
    ]
    gain = None
    if number > 1 and runs["gain"] and runs["gain"]["low"] is not None:
        low, high = (f"{100 * runs['gain'][k]:+.1f}" for k in ("low", "high"))
        gain = (
            f"{plus_minus(runs['gain'], '+')} points, interval {low} to {high}"
        )
    chart = None
    if number > 1 and accuracies:
        drawn = [
            ("student" if key == "distilled" else key, NAMES[key], row)
            for key, row in accuracies.items()
        ]
        means = "; ".join(f"{name} {plus_minus(row)}" for _, name, row in drawn)
        chart = interval_chart(
            drawn, "accuracy %", f"Accuracy in percent of all runs: {means}."
        )
    return {
        "table": (["network", *columns], rows),
        "runs": number,
        "gain": gain,
        "chart": chart,
        "differences": _differences(facts),
    }


def _shares(network, imbalanced):
    """Columns of what a network is right on."""
    cells = {}
    for share, title in _SHARES[: 1 + imbalanced]:
        cells[title] = percent(network.get(share))
        cells[f"95\u00a0% interval of {title}"] = bounds(
            network.get(f"{share}_interval")
        )
    if "mean_iou" in network:
        cells["mean IoU"] = percent(network["mean_iou"])
    area = network.get("area_under_curve")
    cells["AUC"] = "–" if area is None else f"{area:.3f}"
    return cells


def _differences(facts):
    """The student minus each of the others, in words."""
    share, title = _SHARES[facts["data"]["imbalanced"]]
    return [
        f"Student minus {NAMES[key]}, {title}: {difference_text(row[share])}"
        for key, row in facts["differences"].items()
    ]


def _calibration(facts):
    """Name, note and reliability diagram of every network."""
    for key in ("student", "teacher", "alone"):
        network = facts["networks"].get(key, {})
        if "reliability" not in network:
            continue
        note = (
            f"onfidence {percent(network['mean_confidence'])} on average, "
            f"right on {percent(network['accuracy'])}; expected calibration "
            f"error {percent(network['expected_calibration_error'])}."
        )
        description = f"Reliability diagram of the {NAMES[key]}: c{note}"
        yield (
            NAMES[key].capitalize(),
            f"C{note}",
            reliability_diagram(network["reliability"], key, description),
        )


def _views(facts):
    """One row per network and input: what it is given in training."""
    views = facts["views"]
    if views is None:
        return None
    return [
        [
            f"{role}, {name}" if name else role,
            " × ".join(map(str, values["shape"])) or "scalar",
            values["dtype"],
            *(f"{values[key]:.4g}" for key in ("min", "max", "mean")),
        ]
        for role in ("teacher", "student")
        if role in views
        for name, values in views[role].items()
    ]
