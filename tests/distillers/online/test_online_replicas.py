"""Two replicas end with the weights and logs of one device."""

import pytest
from marks import nightly
from online_scenarios import train
from replicas import assert_same


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    ["joint", *nightly("alternating", "native_ensemble", "batch_norm")],
)
def test_two_replicas_are_one_device(scenario, trained):
    one = logs, _ = trained(1, train, scenario)
    assert logs["loss"][-1] < logs["loss"][0]
    assert_same(one, trained(2, train, scenario), tolerance=1e-5)
