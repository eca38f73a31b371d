"""How many candidates race, for how long, and who goes on."""

import math
from typing import NamedTuple

import numpy as np

# A shorter race picks wrongly: a temperature of 4 loses 5 to 15 points in 240
# steps, and wins in 2400 with as many passes (examples/studies/defaults.py).
LEAST_STEPS = 600


class Plan(NamedTuple):
    """The races that a number of steps allows.

    Attributes:
        candidates: How many start; 0 if there is no race.
        steps: The steps of each race of a round.
    """

    candidates: int
    steps: list[int]


def plan(steps, share, candidates):
    """Returns the `Plan` with the most candidates.

    No round takes more steps than the first: half of the candidates go on, and
    race twice as long, on twice as many samples.

    Args:
        steps: The steps of the whole training.
        share: The share of them that all races together may take.
        candidates: How many there are.
    """
    for number in range(candidates, 1, -1):
        rounds = math.floor(math.log2(number))
        first = int(steps * share / (number * rounds))
        if first >= min(LEAST_STEPS, steps):
            return Plan(
                number, [min(steps, first * 2**r) for r in range(rounds)]
            )
    return Plan(0, [])


def best(correct):
    """Returns the index of the winner.

    A later candidate wins only if it is better than the first by more than the
    standard error of their difference: the first is the more promising one.

    Args:
        correct: A list of booleans `(samples,)`, the most promising first.
    """
    winner = 0
    for number in range(1, len(correct)):
        difference = correct[number].astype(float) - correct[winner]
        error = difference.std() / math.sqrt(len(difference))
        if difference.mean() > error:
            winner = number
    return winner


def survivors(correct, number):
    """Returns the indices of the `number` best, the most promising first."""
    means = [np.mean(c) for c in correct]
    chosen = sorted(range(len(correct)), key=lambda i: -means[i])[:number]
    return sorted(chosen)
