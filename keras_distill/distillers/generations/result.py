"""What `kd.born_again` gives back."""

from keras_distill.teachers.ensemble import Ensemble


class Generations:
    """The networks of all generations, with what was measured of them.

    Number 0 is the teacher of the first generation: the one that was given,
    or the plainly trained network. `str()` gives a table.

    Args:
        models: A list of `keras.Model`s, the teacher first.
        histories: One for each: a dict name -> numbers by epoch, as
            `History.history`; empty for a given teacher.
        metrics: One for each: a dict name -> number on the validation data;
            empty without such data.
        plain: Whether number 0 was trained here.

    Attributes:
        models, histories, metrics: As given.
    """

    def __init__(self, models, histories, metrics, plain):
        self.models = list(models)
        self.histories = list(histories)
        self.metrics = list(metrics)
        self._plain = plain

    def ensemble(self, count=None):
        """The first generations as one network, the teacher not among them.

            f^k(x) = sum_{i = 1..k} f(x, theta_i) / k      on probabilities

        Args:
            count: k. Defaults to all generations.

        Returns:
            A `kd.Ensemble`. With the teacher as a member:
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
        for number, (model, found) in enumerate(zip(self.models, self.metrics)):
            label = "plain" if self._plain else "teacher"
            rows.append(
                [
                    f"{number} ({label})" if number == 0 else str(number),
                    model.name,
                    f"{model.count_params():,}",
                    *(_shown(found[n]) if n in found else "" for n in names),
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


def _shown(value):
    """A number; of a metric of several (F1 of each class) all of them."""
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    return f"{value:.4f}"
