"""The page: one HTML file that needs nothing else.

`page.html.j2` lays out what is computed here from the facts. A section that
has nothing to show is `None` and is left out.
"""

import math

import jinja2
from markupsafe import Markup

from keras_distill.report import provenance
from keras_distill.report.charts import class_dots
from keras_distill.report.charts import interval_chart
from keras_distill.report.charts import legend_mark
from keras_distill.report.charts import reliability_diagram
from keras_distill.report.curves import training
from keras_distill.report.summary_text import NAMES
from keras_distill.report.summary_text import class_name
from keras_distill.report.summary_text import count
from keras_distill.report.summary_text import percent
from keras_distill.report.summary_text import plus_minus
from keras_distill.report.summary_text import size
from keras_distill.report.summary_text import smallest_file

_MOST_CLASSES = 20
# Key of a row of a Verification, title of its column, how it is written:
# what the files answer, and what they cost.
_FILE_ANSWERS = (
    ("accuracy", "accuracy", lambda v: percent(v, 2)),
    ("accuracy_drop_points", "points lost", "{:.2f}".format),
    ("agreement", "agrees with student", lambda v: percent(v, 2)),
    ("teacher_agreement", "agrees with teacher", lambda v: percent(v, 2)),
    ("mean_absolute_difference", "mean difference", "{:.2g}".format),
    ("max_absolute_difference", "largest difference", "{:.2g}".format),
    ("max_relative_difference", "relative", "{:.1e}".format),
)
_FILE_COSTS = (
    ("size_bytes", "size", size),
    ("input_dtype", "input", str),
    ("output_dtype", "output", str),
    ("multiply_accumulates", "multiply-accumulates", count),
    ("operators", "operators", lambda v: count(sum(v.values()))),
    ("builtin_operators_only", "all builtin", lambda v: _text(v)),
    ("foreign_operators", "not builtin", lambda v: ", ".join(v) or "–"),
    ("memory_bytes", "memory", size),
    ("latency_median_ms", "median ms", "{:.3f}".format),
    ("latency_95th_percentile_ms", "95\u00a0% ms", "{:.3f}".format),
)


def page(facts, pictures):
    """Returns the HTML of a report.

    Args:
        facts: The numbers: what report.json holds.
        pictures: `"disagreements"`: an `<img>` or `None` for each;
            `"views"`: a dict from role to a list of `<img>`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_distill.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(percent=percent, count=count)
    return environment.get_template("page.html.j2").render(
        facts=facts,
        pictures=pictures,
        key_numbers=list(_key_numbers(facts)),
        files=_files(facts),
        networks=_networks(facts),
        training=training(facts),
        calibration=list(_calibration(facts)),
        classes=_classes(facts),
        splits=_splits(facts),
        disagreements=_disagreements(facts),
        views=_views(facts),
        settings=provenance.setting_rows(facts),
        losses=provenance.loss_rows(facts),
    )


def _key_numbers(facts):
    networks, row = facts["networks"], smallest_file(facts["verification"])
    student = networks["student"]
    if row is not None and row["accuracy"] is not None:
        yield "accuracy", percent(row["accuracy"]), f"{row['file']} file"
    else:
        yield "accuracy", percent(student["accuracy"]), "student"
    if student["agreement_with_teacher"] is not None:
        agreement = percent(student["agreement_with_teacher"])
        yield "agreement", agreement, "student with teacher"
    if row is not None:
        yield "size", size(row["size_bytes"]), f"{row['file']} file"
    else:
        yield "size", size(student["weight_bytes"]), "weights"
    error = percent(student["expected_calibration_error"])
    yield "calibration error", error, "student, expected"


def _files(facts):
    """The tables of `kd.export.verify`."""
    verification = facts["verification"]
    if verification is None:
        return None
    rows = verification["rows"]
    known = {"file", "path", *(key for key, *_ in _FILE_ANSWERS + _FILE_COSTS)}
    others = [key for row in rows for key in row if key not in known]
    costs = [
        *_FILE_COSTS,
        *((key, key.replace("_", " "), _text) for key in dict.fromkeys(others)),
    ]
    return {
        "answers": _file_table(_FILE_ANSWERS, rows),
        "costs": _file_table(costs, rows),
        "timed": any(row.get("latency_median_ms") is not None for row in rows),
    }


def _file_table(columns, rows):
    """Header and rows, without the columns in which nothing is known."""
    columns = [
        column
        for column in columns
        if any(row.get(column[0]) not in (None, []) for row in rows)
    ]
    cells = [
        [
            row["file"],
            *(
                "–" if row.get(key) is None else write(row[key])
                for key, _, write in columns
            ),
        ]
        for row in rows
    ]
    return ["file", *(title for _, title, _ in columns)], cells


def _text(value):
    """A value of which only the key is known."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)


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
        row = table[key] = {
            "accuracy": percent(network.get("accuracy")),
            "agreement with teacher": percent(
                network.get("agreement_with_teacher")
            ),
        }
        if number > 1:
            title = f"\u00a0%, {number}\u00a0runs"
            row[f"accuracy{title}"] = plus_minus(accuracies.get(run))
            row[f"agreement{title}"] = plus_minus(agreements.get(run))
        row["parameters"] = count(network.get("parameters"))
        row["multiply-accumulates"] = count(network.get("multiply_accumulates"))
        row["weights"] = size(network.get("weight_bytes"))
    columns = [
        title
        for title in table["student"]
        if any(row[title] != "–" for row in table.values())
    ]
    rows = [
        [NAMES[key], *(row[title] for title in columns)]
        for key, row in table.items()
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
    }


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


def _classes(facts):
    """Accuracy by class, those first on which the networks disagree."""
    shown = facts["classes"][:_MOST_CLASSES]
    keys = [key for key in ("teacher", "alone", "student") if key in shown[0]]
    lowest = min(row[key] for row in shown for key in keys)
    low = min(0.9, math.floor(10 * lowest) / 10)
    with_teacher = "agreement" in shown[0]
    header = ["class", facts["data"]["kind"], *(NAMES[key] for key in keys)]
    header += ["agreement"] if with_teacher else []
    header.append(f"accuracy, {100 * low:.0f} to 100\u00a0%")
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


def _splits(facts):
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


def _disagreements(facts):
    """Number, label and the two decisions of every sample shown."""
    return [
        (
            row["sample"],
            class_name(facts, row["label"]),
            _decision(facts, row, "teacher"),
            _decision(facts, row, "student"),
        )
        for row in facts["disagreements"]
    ]


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
