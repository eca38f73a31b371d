import gc
import os
import pathlib
import time

# Processes that tests start find the package and `networks` as tests do.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [
        str(pathlib.Path(__file__).parents[1]),
        str(pathlib.Path(__file__).parent),
        os.environ.get("PYTHONPATH", ""),
    ]
).rstrip(os.pathsep)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import plain_graphs  # noqa: F401
import pytest
import replicas

SECONDS_PER_COLLECTION = 5


def pytest_collection_finish():
    """Tracing makes so many objects that the garbage collector takes a third
    of the time; it runs between tests instead."""
    gc.collect()
    gc.freeze()
    gc.disable()


@pytest.fixture(scope="session")
def _collected():
    """When garbage was last collected, in a list of one."""
    return [time.monotonic()]


@pytest.fixture(autouse=True)
def _clean_slate(_collected):
    """Every test starts from the same seed, policy and session."""
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
    if time.monotonic() - _collected[0] > SECONDS_PER_COLLECTION:
        gc.collect()
        _collected[0] = time.monotonic()


@pytest.fixture(scope="session")
def on_replicas():
    """`on_replicas(2, function, *arguments)`: see `replicas.py`."""
    with replicas.Processes() as run:
        yield run


@pytest.fixture(scope="session")
def trained(on_replicas, tmp_path_factory):
    """`trained(2, train, scenario)`: logs and arrays of a training."""
    return replicas.Trainings(on_replicas, tmp_path_factory.mktemp("trained"))
