"""`Generations`: what `kd.born_again` returns."""

from typing import Any

import keras

from keras_distill.teachers.ensemble import Ensemble


class Generations:
    """The networks of all generations and their results.

    Number 0 is the teacher of the first generation: the teacher that you gave,
    or the network trained from labels. `print` shows a table.

    Args:
        models: A list of `keras.Model`s, the teacher first.
        histories: For each model a dict name -> numbers by epoch, as
            `History.history`; empty for a teacher that you gave.
        metrics: For each model a dict name -> number on the validation data;
            empty without such data.
        plain: Whether number 0 was trained here, from labels.

    Attributes:
        models: As in `Args`.
        histories: As in `Args`.
        metrics: As in `Args`.
    """

    def __init__(
        self,
        models: list[keras.Model],
        histories: list[dict[str, Any]],
        metrics: list[dict[str, Any]],
        plain: bool,
    ) -> None:
        self.models = list(models)
        self.histories = list(histories)
        self.metrics = list(metrics)
        self._plain = plain

    def ensemble(self, count: int | None = None) -> Ensemble:
        """Returns the first generations as one network, without the teacher.

            f^k(x) = sum_{i = 1..k} f(x, theta_i) / k      on probabilities

        Args:
            count: k. Defaults to all generations.

        Returns:
            A `kd.Ensemble`. For one with the teacher as a member use
            `kd.Ensemble(generations.models)`.
        """
        last = len(self.models) - 1
        count = last if count is None else count
        if not 1 <= count <= last:
            raise ValueError(
                f"There are {last} generations to make an ensemble of. "
                f"Received: count={count}"
            )
        return Ensemble(self.models[1 : count + 1])

    def __str__(self):
        names = list(dict.fromkeys(n for m in self.metrics for n in m))
        rows = [["generation", "network", "parameters", *names]]
        for number, model in enumerate(self.models):
            metrics = self.metrics[number]
            label = "plain" if self._plain else "teacher"
            rows.append(
                [
                    f"{number} ({label})" if number == 0 else str(number),
                    model.name,
                    f"{model.count_params():,}",
                    *(_text(metrics[n]) if n in metrics else "" for n in names),
                ]
            )
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            "  ".join(
                cell.ljust(width) if place < 2 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join(lines)

    def __repr__(self):
        return f"<Generations: {len(self.models) - 1}>"


def _text(value):
    """A number, or all numbers of a metric that gives several."""
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:.4f}"
