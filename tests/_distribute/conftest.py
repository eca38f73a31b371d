import numpy as np
import pytest
from replica_scenarios import train
from replicas import assert_same


@pytest.fixture
def compare(trained):
    """`compare(scenario, replicas)`: they end as one device does."""

    def compare(scenario, replicas, tolerance=1e-5):
        logs, weights = trained(1, train, scenario)
        assert np.isfinite(logs["loss"]).all()
        # A teacher that moves away can raise the whole.
        name = "student_loss" if scenario == "moving_teacher" else "loss"
        assert logs[name][-1] < logs[name][0]
        assert_same(
            (logs, weights),
            trained(replicas, train, scenario),
            tolerance,
            relative=tolerance,
            message=f"{replicas} replicas,",
        )

    return compare
