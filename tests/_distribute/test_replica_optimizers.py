"""N replicas update weights as one device does, whatever the optimizer."""

import pytest
from marks import nightly


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "clipped",
        "accumulated_averages",
        "shampoo",
        "shared_heads",
        *nightly(
            "several_optimizers",
            "accumulated",
            "accumulated_with_adam",
            "averaged",
            "overwritten",
            "several_accumulating_optimizers",
        ),
    ],
)
def test_two_replicas(scenario, compare):
    compare(scenario, 2)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "scenario",
    [
        "accumulated",
        "accumulated_with_adam",
        "clipped",
        "averaged",
        "accumulated_averages",
    ],
)
def test_four_replicas(scenario, compare):
    compare(scenario, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    ["accumulated_averages", *nightly("accumulated", "overwritten")],
)
def test_one_device_under_a_strategy(scenario, compare):
    """`MirroredStrategy()` on a machine with one GPU."""
    compare(scenario, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    ["overflowing", *nightly("float16", "accumulated_float16")],
)
def test_float16_under_loss_scaling(scenario, compare):
    # Half precision rounds differently in other batch sizes.
    compare(scenario, 2, tolerance=5e-3)
