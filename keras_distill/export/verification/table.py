"""A `Verification` as text."""


def _percent(value):
    return f"{100 * value:.2f}"


# Title of a column, key of a row, format of a value: what the files answer,
# and what they cost.
_ANSWERS = (
    ("file", "file", str),
    ("accuracy %", "accuracy", _percent),
    ("lost points", "accuracy_drop_points", "{:.2f}".format),
    ("balanced %", "balanced_accuracy", _percent),
    ("mean IoU %", "mean_iou", _percent),
    ("AUC", "area_under_curve", "{:.4f}".format),
    ("mean error", "mean_absolute_error", "{:.4g}".format),
    ("RMS error", "root_mean_squared_error", "{:.4g}".format),
    (None, "metric_printed", "{:.4g}".format),  # its title is its name
    ("agreement %", "agreement", _percent),
    ("teacher %", "teacher_agreement", _percent),
    ("mean diff", "mean_absolute_difference", "{:.2g}".format),
    ("max diff", "max_absolute_difference", "{:.2g}".format),
    ("max steps", "max_difference_steps", "{:.2f}".format),
    ("equal %", "equal_outputs", _percent),
    ("relative", "max_relative_difference", "{:.1e}".format),
)
_COSTS = (
    ("file", "file", str),
    ("KiB", "size_bytes", lambda value: f"{value / 1024:.1f}"),
    ("input", "input_dtype", str),
    ("output", "output_dtype", str),
    ("MACs", "multiply_accumulates", "{:,}".format),
    ("operators", "operators_printed", str),
    ("memory KiB", "memory_bytes", lambda value: f"{value / 1024:,.0f}"),
    ("median ms", "latency_median_ms", "{:.3f}".format),
    ("95 % ms", "latency_95th_percentile_ms", "{:.3f}".format),
)
# Weights of a byte each; the rest of a file is worth a line from here on.
_QUARTERS, _LARGE = ("dynamic", "int8", "int16x8"), 0.3


def text_of(verification):
    """Returns two tables, each with the lines that explain it."""
    return _joined([*_answers(verification), *_costs(verification)])


def text_of_all(verifications):
    """Returns a table of answers for each output, and one of the costs."""
    parts = []
    for output, verification in verifications.items():
        table, *others = _answers(verification)
        parts += [[f"Output '{output}':", *table], *others]
    return _joined([*parts, *_costs(next(iter(verifications.values())))])


def _joined(parts):
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _answers(verification):
    """The table of what the files answer, and the lines about it."""
    rows = [
        {**row, "metric_printed": _single(row.get("metric"))}
        for row in verification.rows
    ]
    answers = [
        (title or _short(verification.metric), key, text)
        for title, key, text in _ANSWERS
    ]
    return [
        _table(answers, rows),
        [*_about_answers(verification), *_about_trained(verification.rows)],
    ]


def _costs(verification):
    """The table of what the files cost, and the lines about it."""
    rows = [
        {**row, "operators_printed": _operators(row)}
        for row in verification.rows
    ]
    threads = verification.num_threads
    costs = f"Costs on this machine, not on a phone; {threads} thread"
    costs += "s" * (threads != 1)
    if verification.latency_runs:
        costs += f", {verification.latency_runs} calls"
    return [[f"{costs}:", *_table(_COSTS, rows)], list(_about_costs(rows))]


def _about_answers(verification):
    """Yields what the shares are to be compared with, and who lost most."""
    student = verification.rows[0]
    if student.get("metric") is not None:
        unit = " points" * verification.metric_in_points
        if _short(verification.metric) != verification.metric:
            yield f"metric: {verification.metric}."
        for row in verification.rows[1:]:
            if row["metric_drop"] > 0:
                yield (
                    f"'{row['file']}' loses {row['metric_drop']:.4g}{unit} of "
                    f"{verification.metric}."
                )
    if student.get("accuracy") is None:
        return
    counted = f"{verification.samples:,} samples"
    if verification.positions not in (None, verification.samples):
        counted += f", {verification.positions:,} positions that count"
    low, high = map(_percent, student["accuracy_interval"])
    yield f"{counted}: the student's accuracy lies in {low} to {high} % (95 %)."
    if verification.majority_accuracy is not None:
        yield (
            f"Always class {verification.class_name(verification.majority)} "
            f"would be right for {100 * verification.majority_accuracy:.2f} %."
        )
    for row in verification.rows[1:]:
        worst, drop = verification.worst_class(row)
        if worst is not None and drop > 0:
            yield (
                f"'{row['file']}' loses most on class "
                f"{verification.class_name(worst)}: recall "
                f"{_percent(student['recall'][worst])} to "
                f"{_percent(row['recall'][worst])} %."
            )


def _about_trained(rows):
    """Yields what files have of an aware student."""
    for row in rows:
        if "equal_kernels" not in row:
            continue
        weights, ranges = (
            "{} of {}".format(*row[key])
            for key in ("equal_kernels", "equal_ranges")
        )
        kind = (
            "integer throughout" if row["integer_throughout"] else "with floats"
        )
        yield (
            f"'{row['file']}', {kind}, has {weights} kernels and {ranges} "
            "ranges of the student."
        )


def _about_costs(rows):
    """Yields why a quantized file is larger or slower than expected."""
    float32 = [r for r in rows if r.get("quantization") == "float32"]
    for row in rows:
        if row.get("quantization") not in _QUARTERS:
            continue
        ratio = row["size_bytes"] / (4 * max(row["parameters"], 1))
        if ratio > _LARGE:
            parts = ", ".join(
                f"{name} {100 * size / row['size_bytes']:.0f} %"
                for name, size in row["size_parts"].items()
            )
            yield (
                f"'{row['file']}' has {100 * ratio:.0f} % of the bytes of its "
                f"weights in float32: {parts}."
            )
        for other in float32[:1]:
            slow, fast = (r["latency_median_ms"] for r in (row, other))
            if slow is not None and slow > fast:
                yield (
                    f"'{row['file']}' takes {slow / fast:.1f} times as long "
                    f"as '{other['file']}' on this CPU; another may differ."
                )


def _short(name):
    return name if len(name) <= len("lost points") else "metric"


def _single(metric):
    return None if isinstance(metric, list) else metric


def _operators(row):
    """Formats as "9 builtin" or "9, not builtin: FlexErf"."""
    if not row.get("operators"):
        return None
    count = sum(row["operators"].values())
    if row["builtin_operators_only"]:
        return f"{count} builtin"
    return f"{count}, not builtin: {', '.join(row['foreign_operators'])}"


def _table(columns, rows):
    """Returns the lines of a table without its empty columns."""
    printed = []
    for title, key, text in columns:
        values = [row.get(key) for row in rows]
        if all(value is None for value in values):
            continue
        cells = [title, *("-" if v is None else text(v) for v in values)]
        width = max(map(len, cells))
        align = str.ljust if key == "file" else str.rjust
        printed.append([align(cell, width) for cell in cells])
    lines = ["  ".join(cells).rstrip() for cells in zip(*printed)]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
