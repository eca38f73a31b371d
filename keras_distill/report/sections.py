"""Sections of the page: the summary, the files, the networks, calibration.

Every section is a function of the facts; one that has nothing to show gives
`None` and is left out.
"""

from keras_distill.report.charts import interval_chart
from keras_distill.report.charts import reliability_diagram
from keras_distill.report.html import Markup
from keras_distill.report.html import count
from keras_distill.report.html import element
from keras_distill.report.html import figure
from keras_distill.report.html import percent
from keras_distill.report.html import plus_minus
from keras_distill.report.html import size
from keras_distill.report.html import table
from keras_distill.report.summary_text import NAMES
from keras_distill.report.summary_text import smallest_file

# Key of a row of a Verification, title of its column, how it is printed.
# What the files answer, and what they cost.
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
    ("builtin_operators_only", "all builtin", lambda v: _anything(v)),
    ("foreign_operators", "not builtin", lambda v: ", ".join(v) or "–"),
    ("memory_bytes", "memory", size),
    ("latency_median_ms", "median ms", "{:.3f}".format),
    ("latency_95th_percentile_ms", "95\u00a0% ms", "{:.3f}".format),
)


def section(identifier, title, *content):
    """A section with a heading that the contents list can point to."""
    return element(
        "section",
        element("h2", title, id=identifier),
        content,
        aria_labelledby=identifier,
    )


def summary(facts):
    """The numbers to know, and what they say."""
    items = [
        element("li", text.replace(" %", "\u00a0%"))
        for text in facts["summary"]
    ]
    return section(
        "summary",
        "Summary",
        element("dl", list(_key_numbers(facts)), class_="key"),
        element("ul", items, class_="summary"),
    )


def _key_numbers(facts):
    networks, verification = facts["networks"], facts.get("verification")
    student, row = networks["student"], smallest_file(verification)
    if row is not None and row["accuracy"] is not None:
        yield _key("accuracy", percent(row["accuracy"]), f"{row['file']} file")
    else:
        yield _key("accuracy", percent(student["accuracy"]), "student")
    if student["agreement_with_teacher"] is not None:
        yield _key(
            "agreement",
            percent(student["agreement_with_teacher"]),
            "student with teacher",
        )
    if row is not None:
        yield _key("size", size(row["size_bytes"]), f"{row['file']} file")
    else:
        yield _key("size", size(student["weight_bytes"]), "weights")
    yield _key(
        "calibration error",
        percent(student["expected_calibration_error"]),
        "student, expected",
    )


def _key(title, number, note):
    return element(
        "div", element("dt", title), element("dd", number), element("dd", note)
    )


def files(facts):
    """The table of `kd.export.verify`."""
    found = facts.get("verification")
    if found is None:
        return None
    rows = found["rows"]
    known = [key for key, *_ in (*_FILE_ANSWERS, *_FILE_COSTS)]
    costs = list(_FILE_COSTS)
    for key in dict.fromkeys(k for row in rows for k in row):
        if key not in (*known, "file", "path"):
            costs.append((key, key.replace("_", " "), _anything))
    notes = [
        f"Every file ran over {count(found['samples'])} test "
        f"{facts['data']['kind']}. Size of the Keras student is that of its "
        "weights."
    ]
    if any(row.get("latency_median_ms") is not None for row in rows):
        threads = found["num_threads"]
        notes.append(
            f"Latency is that of one sample on this machine with {threads} "
            f"thread{'' if threads == 1 else 's'} ({found['latency_runs']} "
            "runs), not that of a phone. Memory is what loading the file and "
            "one call add to a process here."
        )
    if found["samples"] != facts["data"]["samples"]:
        notes.append(
            "The other sections of this report are about "
            f"{count(facts['data']['samples'])} {facts['data']['kind']}."
        )
    return section(
        "files",
        "The files",
        _file_table(
            _FILE_ANSWERS,
            rows,
            "Every exported file beside the Keras student it came from",
        ),
        _file_table(costs, rows, "What the files cost"),
        element("p", " ".join(notes), class_="quiet"),
    )


def _file_table(columns, rows, caption):
    """A row per file; a column that says nothing is left out."""
    columns = [
        column
        for column in columns
        if any(row.get(column[0]) not in (None, []) for row in rows)
    ]
    cells = [
        [
            row["file"],
            *(
                "–" if row.get(key) is None else printed(row[key])
                for key, _, printed in columns
            ),
        ]
        for row in rows
    ]
    return table(["file", *(title for _, title, _ in columns)], cells, caption)


def _anything(value):
    """A number of which nothing is known but its key."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_anything(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_anything, value))
    return str(value)


def networks(facts):
    """Teacher, student alone and student side by side."""
    found, runs = facts["networks"], facts.get("runs")
    of_runs = runs or {"accuracy": {}, "agreement_with_teacher": {}}
    keys = [
        (key, run)
        for key, run in (
            ("teacher", "teacher"),
            ("alone", "alone"),
            ("student", "distilled"),
        )
        if key in found or any(run in v for v in _groups(of_runs))
    ]
    number = max((len(v["values"]) for v in _all(of_runs)), default=0)
    columns = [
        ("accuracy", lambda k, r: percent(found.get(k, {}).get("accuracy"))),
        (
            "agreement with teacher",
            lambda k, r: percent(
                found.get(k, {}).get("agreement_with_teacher")
            ),
        ),
    ]
    if number > 1:
        columns += [
            (
                f"accuracy\u00a0%, {number}\u00a0runs",
                lambda k, r: plus_minus(of_runs["accuracy"].get(r)),
            ),
            (
                f"agreement\u00a0%, {number}\u00a0runs",
                lambda k, r: plus_minus(
                    of_runs["agreement_with_teacher"].get(r)
                ),
            ),
        ]
    columns += [
        ("parameters", lambda k, r: count(found.get(k, {}).get("parameters"))),
        (
            "multiply-accumulates",
            lambda k, r: count(found.get(k, {}).get("multiply_accumulates")),
        ),
        ("weights", lambda k, r: size(found.get(k, {}).get("weight_bytes"))),
    ]
    cells = [[cell(k, r) for _, cell in columns] for k, r in keys]
    shown = [
        i for i in range(len(columns)) if any(row[i] != "–" for row in cells)
    ]
    rows = [
        [NAMES[key], *(row[i] for i in shown)]
        for (key, _), row in zip(keys, cells)
    ]
    content = [
        table(
            ["network", *(columns[i][0] for i in shown)],
            rows,
            "Accuracy and agreement on "
            f"{count(facts['data']['samples'])} test {facts['data']['kind']}",
        )
    ]
    if number > 1:
        content += _runs(of_runs, number)
    return section("networks", "The networks", content)


def _groups(runs):
    return [runs["accuracy"], runs["agreement_with_teacher"]]


def _all(runs):
    return [found for group in _groups(runs) for found in group.values()]


def _runs(runs, number):
    """What several runs say: means, intervals, and a chart of all runs."""
    text = f"± is the 95\u00a0% confidence interval of the mean of {number}"
    text += " runs (Student's t)."
    if runs["gain"] is not None and runs["gain"]["low"] is not None:
        gain = runs["gain"]
        text += (
            " Student minus student alone, paired by run: "
            f"{plus_minus(gain, sign='+')} points, interval "
            f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}."
        )
    yield element("p", text, class_="quiet")
    rows = [
        ("student" if key == "distilled" else key, NAMES[key], _times100(found))
        for key, found in runs["accuracy"].items()
    ]
    if rows:
        described = "; ".join(
            f"{name} {plus_minus(found, scale=1)}" for _, name, found in rows
        )
        yield element(
            "div",
            figure(
                interval_chart(
                    rows,
                    "accuracy %",
                    f"Accuracy in percent of all runs: {described}.",
                ),
                Markup(
                    "<b>Accuracy of every run.</b> Rings are runs, the mark "
                    "is their mean, the bar its interval."
                ),
            ),
            class_="charts",
        )


def _times100(found):
    return {
        key: [100 * v for v in value]
        if key == "values"
        else None
        if value is None
        else 100 * value
        for key, value in found.items()
    }


def calibration(facts):
    """Reliability diagrams."""
    pictures = []
    for key in ("student", "teacher", "alone"):
        network = facts["networks"].get(key, {})
        if "reliability" not in network:
            continue
        error = percent(network["expected_calibration_error"])
        confidence = percent(network["mean_confidence"])
        right = percent(network["accuracy"])
        pictures.append(
            figure(
                reliability_diagram(
                    network["reliability"],
                    key,
                    f"Reliability diagram of the {NAMES[key]}: confidence "
                    f"{confidence} on average, right on {right}, expected "
                    f"calibration error {error}.",
                ),
                [
                    element("b", f"{NAMES[key].capitalize()}."),
                    f" Confidence {confidence} on average, right on {right}; "
                    f"expected calibration error {error}.",
                ],
            )
        )
    bins = len(facts["networks"]["student"]["reliability"]["counts"])
    return section(
        "calibration",
        "Calibration: is it right as often as it says?",
        element(
            "p",
            f"The test {facts['data']['kind']} in {bins} bins of confidence. "
            "The bar is the share that is right; the dashed box is what lies "
            "between that and the mean confidence; on the diagonal both are "
            "equal. Pale bars are bins of fewer than 10 "
            f"{facts['data']['kind']}. Below: how many each bin has.",
        ),
        element("div", pictures, class_="charts"),
    )
