"""The result of `sensitivity`, and the recipe that it proposes."""

from typing import Any

from keras_distill._arguments import checked_number
from keras_distill._progress import ProgressBar
from keras_distill.quantization.layerwise.layers_in_file import composed


def _percent(value):
    return f"{100 * value:.2f}"


_COLUMNS = (
    ("layer", "layer", str),
    ("class", "kind", str),
    ("as", "quantization", str),
    ("bytes saved", "bytes_saved", "{:,}".format),
    ("divergence", "divergence", "{:.2g}".format),
    ("mean diff", "mean_absolute_difference", "{:.2g}".format),
    ("agreement %", "agreement", _percent),
    ("accuracy %", "accuracy", _percent),
    ("lost points", "accuracy_drop_points", "{:.2f}".format),
)


class Recipe(list):
    """A recipe for `quantization=`: a list of rules, and what it gave.

    `json.dumps` writes the rules, `print` shows what they do.

    Attributes:
        quantizations: A dict name of a layer -> its quantization, or
            `"float32"`.
        row: What the composed file gave on the data: `"accuracy"`,
            `"accuracy_drop_points"`, `"agreement"`, `"divergence"`,
            `"mean_absolute_difference"` and `"size_bytes"`; `None` if a value
            does not apply.
    """

    def __init__(self, rules, quantizations, row):
        super().__init__(rules)
        self.quantizations = quantizations
        self.row = row

    def __str__(self):
        layers: dict[str, list[str]] = {}
        for layer, quantization in self.quantizations.items():
            layers.setdefault(quantization, []).append(layer)
        lines = [
            f"{quantization}: {', '.join(names)}"
            for quantization, names in layers.items()
        ]
        results = [f"{self.row['size_bytes'] / 1024:.1f} KiB"]
        results += [
            f"{title.replace(' %', '')} {text(self.row[key])}"
            + " %" * title.endswith("%")
            for title, key, text in _COLUMNS[4:]
            if self.row[key] is not None
        ]
        return "\n".join([*lines, ", ".join(results)])


class Sensitivity:
    """What quantizing each layer by itself costs; `print` shows a table.

    Attributes:
        rows: One dict per layer and quantization: `"layer"`, `"kind"` (its
            class), `"quantization"`, `"bytes_saved"`, `"divergence"`,
            `"mean_absolute_difference"`, `"agreement"`, `"accuracy"`,
            `"accuracy_drop_points"` and `"size_bytes"`; `None` if a value does
            not apply. `"damage"` is the divergence, or of a regression the
            mean absolute difference.
        student: The same for the float32 file.
    """

    def __init__(self, trials, layers, student, rows, verbose):
        self._trials = trials
        self._verbose = verbose
        self._layers = layers
        self.student = student
        self.rows = rows

    def __str__(self):
        behind = [
            f"{layer.name}: with {', '.join(layer.members[1:])}."
            for layer in self._layers
            if layer.members[1:]
        ]
        float32 = {"layer": "all", "kind": "", "quantization": "float32"}
        rows = [{**self.student, **float32, "bytes_saved": 0}, *self.rows]
        return "\n".join([*_table(rows), "", *behind]).rstrip()

    __repr__ = __str__

    def recipe(
        self,
        *,
        max_accuracy_drop: float | None = None,
        least_accuracy: float | None = None,
        least_agreement: float | None = None,
        max_damage: float | None = None,
    ) -> Recipe:
        """Proposes the recipe of the smallest file that is good enough.

        Steps from float32 to fewer bits are ordered by damage per byte saved,
        and as many of them are taken as the data allows; each composed file is
        run. Then each of the steps that were left is tried by itself, until
        none can be added.

        Give one bound.

        Args:
            max_accuracy_drop: How many percentage points of accuracy the file
                may lose against the student.
            least_accuracy: The accuracy that the file must have, in [0, 1].
            least_agreement: The share of samples on which file and student
                must agree, in [0, 1]. Needs no labels.
            max_damage: The largest `"damage"`: the divergence, or of a
                regression the mean absolute difference. Needs no labels.

        Returns:
            A `Recipe`, a list of rules for `quantization=` of
            `kd.export.tflite`.

        Raises:
            ValueError: If no bound or several are given, if the data does not
                have what a bound is about, or if no file, not even the
                float32 one, keeps it.
        """
        holds = self._bound(
            max_accuracy_drop=max_accuracy_drop,
            least_accuracy=least_accuracy,
            least_agreement=least_agreement,
            max_damage=max_damage,
        )
        progress = ProgressBar(None, "file", self._verbose)
        search = _Search(
            self._trials, self._layers, self.student, holds, progress
        )
        best = search.smallest(ordered_steps(self.rows))
        progress.finish()
        return best

    def _bound(self, **bounds):
        """Returns the function that says whether a row is good enough."""
        chosen = {k: v for k, v in bounds.items() if v is not None}
        if len(chosen) != 1:
            raise ValueError(
                f"Give one of {', '.join(f'`{name}`' for name in bounds)}. "
                f"Received: {chosen or None}"
            )
        ((name, bound),) = chosen.items()
        share = name.startswith("least")
        checked_number(f"`{name}`", bound, "[0, 1]" if share else "[0, inf)")
        key = {
            "max_accuracy_drop": "accuracy_drop_points",
            "least_accuracy": "accuracy",
            "least_agreement": "agreement",
            "max_damage": "damage",
        }[name]
        value = self.student[key]
        if value is None:
            raise ValueError(
                f"`{name}` needs "
                + ("classes" if key == "agreement" else "labels of classes")
                + ", which the data did not have. Give another bound."
            )

        def holds(row):
            return row[key] >= bound if share else row[key] <= bound

        if not holds(self.student):
            raise ValueError(
                f"`{name}`={bound} asks for more than the float32 file gives: "
                f"{value:.4g}."
            )
        return holds


class _Search:
    """Composes files and runs them; each one once."""

    def __init__(self, trials, layers, student, holds, progress):
        self._progress = progress
        self._trials = trials
        self._layers = layers
        self._holds = holds
        self._rows = {("float32",) * len(layers): student}
        self._best = None

    def smallest(self, steps):
        """Returns the `Recipe` of the smallest file found that holds."""
        self._try({})
        # The longest beginning of the steps that holds, if more steps do more
        # damage.
        low, high, middle = 0, len(steps), len(steps)
        while low < high:
            if self._try(dict(steps[:middle])):
                low = middle
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
        kept = dict(steps[:low])
        left, before = steps[low:], None
        while left != before:
            before = left
            for layer, quantization in before:
                if self._try({**kept, layer: quantization}):
                    kept[layer] = quantization
            left = _without_taken(before, kept)
        return self._best

    def _try(self, quantizations):
        """Runs a composed file, and says whether it holds."""
        quantizations = {
            layer.name: quantizations.get(layer.name, "float32")
            for layer in self._layers
        }
        rules = composed(self._layers, quantizations)
        key = tuple(quantizations.values())
        if key not in self._rows:
            self._rows[key] = self._trials.run(rules)
            self._progress.update(self._progress.current + 1)
        row = self._rows[key]
        if row is None:
            return False
        smaller = (
            self._best is None
            or row["size_bytes"] < self._best.row["size_bytes"]
        )
        if self._holds(row) and smaller:
            self._best = Recipe(rules, quantizations, row)
        return self._holds(row)


def _without_taken(steps, kept):
    """The steps that are left, without those a layer has gone beyond."""
    left, beyond = [], set()
    for layer, quantization in reversed(steps):
        if kept.get(layer) == quantization:
            beyond.add(layer)
        elif layer not in beyond:
            left.insert(0, (layer, quantization))
    return left


def ordered_steps(rows):
    """Orders the steps of all layers by damage per byte saved.

    Of each layer only the steps on the lower convex hull of damage over bytes
    count: what lies above is worse than a mix of its neighbours.

    Args:
        rows: As in `Sensitivity.rows`.

    Returns:
        A list of `(layer, quantization)`; a later step of a layer replaces the
        earlier one.
    """
    layers: dict[str, list[Any]] = {}
    for row in rows:
        layers.setdefault(row["layer"], []).append(row)
    steps = []
    for layer, options in layers.items():
        at_bytes, at_damage = 0, 0.0
        left = list(options)
        while left:
            slopes = [
                (row["damage"] - at_damage)
                / max(row["bytes_saved"] - at_bytes, 1)
                for row in left
            ]
            slope = min(slopes)
            row = left[slopes.index(slope)]
            steps.append((slope, layer, row["quantization"]))
            at_bytes, at_damage = row["bytes_saved"], row["damage"]
            left = [r for r in left if r["bytes_saved"] > at_bytes]
    steps.sort(key=lambda step: step[0])
    return [(layer, quantization) for _, layer, quantization in steps]


def _table(rows):
    columns = [
        [title, *(text(row[key]) for row in rows)]
        for title, key, text in _COLUMNS
        if any(row[key] is not None for row in rows)
    ]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(
            cell.ljust(width) if place < 3 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in zip(*columns)
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
