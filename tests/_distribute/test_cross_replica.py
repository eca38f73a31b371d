"""Losses that compare samples: 2 replicas are one device."""

import numpy as np
import pytest
from marks import nightly
from networks import data
from relation_scenarios import train


@pytest.fixture
def largest_difference(trained):
    def largest_difference(name, replicas=2):
        logs, weights = trained(1, train, name)
        other_logs, other_weights = trained(replicas, train, name)
        assert logs.keys() == other_logs.keys()
        assert weights.keys() == other_weights.keys()
        assert all(np.isfinite(v).all() for v in [*logs.values()])
        assert logs["loss"][-1] != logs["loss"][0]
        pairs = [(logs[k], other_logs[k]) for k in logs]
        pairs += [(weights[k], other_weights[k]) for k in weights]
        return max(np.abs(np.subtract(a, b)).max() for a, b in pairs)

    return largest_difference


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "memories",
        "outputs",
        "maps",
        "moments",
        *nightly(
            "distance",
            "angle",
            "similarity",
            "congruence",
            "transfer",
            "relation",
            "channels",
            "pearson",
            "sides",
            "queue",
        ),
    ],
)
def test_two_replicas_give_what_one_device_gives(name, largest_difference):
    assert largest_difference(name) < 2e-5


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name", ["memories", "distance", "similarity", "transfer", "outputs"]
)
def test_four_replicas(name, largest_difference):
    assert largest_difference(name, replicas=4) < 2e-5


@pytest.mark.slow
def test_a_stand_in_is_not_remembered(trained):
    """One replica of two is empty in a step; its stand-in has the index 0."""
    _, arrays = trained(2, train, "memories")
    (labels,) = (a for k, a in arrays.items() if k.endswith("label_memory"))
    _, y = data(21)
    assert y[0] != 0
    np.testing.assert_array_equal(labels, y)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "local_outputs"])
def test_without_cross_replica_the_replicas_are_on_their_own(
    name, largest_difference
):
    """Or the tests above would show nothing."""
    assert largest_difference(name) > 1e-4
