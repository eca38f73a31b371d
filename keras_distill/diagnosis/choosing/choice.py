"""What `kd.choose` returns."""

from typing import Any

import tensorflow as tf

from keras_distill.distillers import Distiller


class Choice:
    """A compiled Distiller, its data, and how its settings were chosen.

    `str()` gives the table of what was tried.

    Attributes:
        distiller: The compiled `kd.Distiller` of the student. It has no
            teacher: the data carries the teacher's outputs.
        dataset: The endless training data, with the teacher's outputs.
        epochs: The number of epochs.
        steps_per_epoch: The number of steps in each.
        steps: Their product: the learning rate is 0 after as many.
        settings: A dict of dicts: the `value` of each setting, and `why`.
        table: A list of dicts, one for each candidate: its name and settings,
            and the `steps` and `accuracy` of its last race, `None` if it did
            not race.
        distils: Whether a teacher takes part: not if the student alone won.
    """

    def __init__(
        self,
        distiller: Distiller,
        dataset: tf.data.Dataset,
        *,
        epochs: int,
        steps_per_epoch: int,
        settings: dict,
        table: list[dict],
        races: Any,
    ):
        self.distiller = distiller
        self.dataset = dataset
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.settings = settings
        self.table = table
        # A temporary folder of the teacher's outputs lives as long as the data.
        dataset.races = races

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def distils(self) -> bool:
        return self.settings["temperature"]["value"] is not None

    def fit_arguments(self) -> dict[str, Any]:
        """Arguments for `distiller.fit(**dict)`; add `callbacks` and others."""
        return {
            "x": self.dataset,
            "epochs": self.epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "shuffle": False,
        }

    def __str__(self):
        head = (
            "",
            "temperature",
            "alpha",
            "rate",
            "crops",
            "steps",
            "accuracy",
        )
        rows = [tuple(head), *(_cells(row) for row in self.table)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0])]
                + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
            ).rstrip()
            for row in rows
        ]
        lines += [
            f"{name}: {chosen['value']} ({chosen['why']})"
            for name, chosen in self.settings.items()
        ]
        return "\n".join(lines)


def _cells(row):
    accuracy = row["accuracy"]
    return [
        row["name"],
        "-" if row["temperature"] is None else f"{row['temperature']:g}",
        f"{row['alpha']:g}",
        f"{row['learning_rate']:g}",
        "yes" if row["crop_area"] else "no",
        str(row["steps"] or "-"),
        "-" if accuracy is None else f"{100 * accuracy:.1f} %",
    ]
