"""The tables of the exported files."""

from keras_distill.report.written import count
from keras_distill.report.written import percent
from keras_distill.report.written import size

# Key of a row of a Verification, title of its column, how it is written:
# what the files answer, and what they cost.
_FILE_ANSWERS = (
    ("accuracy", "accuracy", lambda v: percent(v, 2)),
    ("accuracy_drop_points", "points lost", "{:.2f}".format),
    ("balanced_accuracy", "balanced accuracy", lambda v: percent(v, 2)),
    ("mean_iou", "mean IoU", lambda v: percent(v, 2)),
    ("area_under_curve", "AUC", "{:.4f}".format),
    ("agreement", "agrees with student", lambda v: percent(v, 2)),
    ("teacher_agreement", "agrees with teacher", lambda v: percent(v, 2)),
    ("mean_absolute_difference", "mean difference", "{:.2g}".format),
    ("max_absolute_difference", "largest difference", "{:.2g}".format),
    ("max_difference_steps", "largest in steps", "{:.2f}".format),
    ("equal_outputs", "equal outputs", lambda v: percent(v, 2)),
    ("equal_kernels", "student's kernels", "{0[0]} of {0[1]}".format),
    ("equal_ranges", "student's ranges", "{0[0]} of {0[1]}".format),
    ("integer_throughout", "integer throughout", lambda v: _text(v)),
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
# Not for a table: the JSON file has them.
_NOT_SHOWN = (
    "accuracy_interval",
    "iou",
    "recall",
    "precision",
    "confusion_matrix",
    "metric_drop",
    "quantization",
    "parameters",
    "size_parts",
)


def files(facts):
    """The tables of `kd.export.verify`; `None` without a verification."""
    verification = facts["verification"]
    if verification is None:
        return None
    rows = verification["rows"]
    answers = [
        column
        for column in _FILE_ANSWERS
        if column[0] != "balanced_accuracy" or facts["data"]["imbalanced"]
    ]
    answers.append(("metric", verification.get("metric"), _text))
    known = {"file", "path", "metric", *_NOT_SHOWN}
    known |= {key for key, *_ in _FILE_ANSWERS + _FILE_COSTS}
    others = [key for row in rows for key in row if key not in known]
    costs = [
        *_FILE_COSTS,
        *((key, key.replace("_", " "), _text) for key in dict.fromkeys(others)),
    ]
    return {
        "answers": _file_table(answers, rows),
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
