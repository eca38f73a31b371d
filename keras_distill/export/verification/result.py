"""The numbers of `verify`: as tables, as JSON, as a check."""

import json
from typing import Any

from keras_distill._arguments import checked_number

NO_LABELS = (
    "`max_accuracy_drop` needs labels, but the dataset has none: give batches "
    "(x, y), or leave max_accuracy_drop out."
)
# Title of a column, key of a row, format of a value: what the files answer,
# and what they cost.
_ANSWERS = (
    ("file", "file", str),
    ("accuracy %", "accuracy", lambda value: f"{100 * value:.2f}"),
    ("lost points", "accuracy_drop_points", "{:.2f}".format),
    ("agreement %", "agreement", lambda value: f"{100 * value:.2f}"),
    ("teacher %", "teacher_agreement", lambda value: f"{100 * value:.2f}"),
    ("mean diff", "mean_absolute_difference", "{:.2g}".format),
    ("max diff", "max_absolute_difference", "{:.2g}".format),
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


class VerificationError(AssertionError):
    """An exported file lost more accuracy than was allowed."""


class Verification:
    """The result of `verify`; `print(verification)` shows it as two tables.

    Attributes:
        rows: One dict per network, the Keras student first. Shares are in
            [0, 1], latencies in milliseconds, sizes in bytes; `None` if a
            value does not apply (accuracy without labels). `operators` is a
            dict name -> how many, `builtin_operators_only` whether every
            build of the interpreter has them.
        samples: Number of samples.
        output: Name of the compared output.
        num_threads: Threads of the interpreters.
        latency_runs: Timed calls behind each latency.
    """

    def __init__(
        self,
        rows: list[dict[str, Any]],
        samples: int,
        output: str,
        num_threads: int,
        latency_runs: int,
    ):
        self.rows = rows
        self.samples = samples
        self.output = output
        self.num_threads = num_threads
        self.latency_runs = latency_runs

    def check(self, max_accuracy_drop: float = 0.5) -> "Verification":
        """Raises if a file loses too much accuracy against the student.

        Args:
            max_accuracy_drop: Percentage points that a file may lose against
                the Keras student on the same data. Defaults to 0.5, the bar
                of this project.

        Returns:
            The verification itself.

        Raises:
            VerificationError: If a file lost more; the message names each.
            ValueError: If the data had no labels.
        """
        checked_number("max_accuracy_drop", max_accuracy_drop, "[0, 100]")
        student = self.rows[0]
        if student["accuracy"] is None:
            raise ValueError(NO_LABELS)
        # The slack covers the rounding of a difference of two quotients.
        lost = [
            f"'{row['file']}' lost {row['accuracy_drop_points']:.2f} points "
            f"({row['accuracy']:.2%})"
            for row in self.rows[1:]
            if row["accuracy_drop_points"] > max_accuracy_drop + 1e-9
        ]
        if lost:
            raise VerificationError(
                f"{'; '.join(lost)}: more than the {max_accuracy_drop:g} "
                "percentage points allowed against the Keras student "
                f"({student['accuracy']:.2%} on {self.samples} samples)."
            )
        return self

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as dicts, lists, numbers and strings."""
        return dict(vars(self), rows=[dict(row) for row in self.rows])

    def to_json(self, indent: int | None = 2) -> str:
        """Returns `as_dict()` as JSON text."""
        return json.dumps(self.as_dict(), indent=indent)

    def __str__(self):
        threads = f"{self.num_threads} thread" + "s" * (self.num_threads != 1)
        costs = f"Costs on this machine, not on a phone; {threads}"
        if self.latency_runs:
            costs += f", {self.latency_runs} calls"
        rows = [
            {**row, "operators_printed": _operators(row)} for row in self.rows
        ]
        return "\n".join(
            [*_table(_ANSWERS, rows), "", f"{costs}:", *_table(_COSTS, rows)]
        )


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
