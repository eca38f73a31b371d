"""N replicas update weights as one device does, whatever the optimizer."""

import pytest
from replica_scenarios import compared


@pytest.fixture
def compare(trained):
    return compared(trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "accumulated",
        "accumulated_with_adam",
        "clipped",
        "averaged",
        pytest.param("accumulated_averages", marks=pytest.mark.nightly),
        "overwritten",
        "several_optimizers",
        pytest.param(
            "several_accumulating_optimizers", marks=pytest.mark.nightly
        ),
    ],
)
def test_two_replicas(scenario, compare):
    compare(scenario, (2,))


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "accumulated",
        *(
            pytest.param(name, marks=pytest.mark.nightly)
            for name in (
                "accumulated_with_adam",
                "clipped",
                "averaged",
                "accumulated_averages",
            )
        ),
    ],
)
def test_four_replicas(scenario, compare):
    compare(scenario, (4,))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["accumulated", "overwritten"])
def test_one_device_under_a_strategy(scenario, compare):
    """`MirroredStrategy()` on a machine with one GPU."""
    compare(scenario, (0,))


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "float16",
        pytest.param("accumulated_float16", marks=pytest.mark.nightly),
        "overflowing",
    ],
)
def test_float16_under_loss_scaling(scenario, compare):
    # Half precision rounds differently in other batch sizes.
    compare(scenario, (2,), tolerance=5e-3)
