import numpy as np
import pytest

from keras_distill.diagnosis.choosing.halving import LEAST_STEPS
from keras_distill.diagnosis.choosing.halving import best
from keras_distill.diagnosis.choosing.halving import plan
from keras_distill.diagnosis.choosing.halving import survivors


@pytest.mark.parametrize("steps", [600, 3000, 6000, 15_000, 60_000])
@pytest.mark.parametrize("share", [0.2, 1.0, 3.0])
def test_races_cost_at_most_their_share_and_none_is_too_short(steps, share):
    chosen = plan(steps, share, 6)
    racing, total = chosen.candidates, 0
    for length in chosen.steps:
        assert LEAST_STEPS <= length <= steps
        total += racing * length
        racing //= 2
    assert total <= share * steps
    assert racing == (1 if chosen.steps else 0)


def test_more_steps_allow_more_races():
    numbers = [plan(s, 0.2, 6).candidates for s in (3000, 6000, 60_000)]
    assert numbers == [0, 2, 6]


def right(share, n=400):
    return np.arange(n) < share * n


def test_a_later_candidate_must_be_surely_better():
    assert best([right(0.9), right(0.9)]) == 0
    slightly = right(0.93)
    slightly[:10] = False  # 12 more are right, and 10 fewer.
    assert slightly.mean() > 0.9
    assert best([right(0.9), slightly]) == 0
    assert best([right(0.8), right(0.9), right(0.85)]) == 1


def test_the_better_half_goes_on():
    assert survivors([right(0.5), right(0.9), right(0.7)], 2) == [1, 2]
    assert survivors([right(0.5), right(0.5), right(0.5)], 2) == [0, 1]
