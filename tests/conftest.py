import gc
import itertools
import os
import pathlib

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

TESTS_PER_COLLECTION = 25


def pytest_collection_finish():
    """Tracing makes so many objects that the garbage collector takes a third
    of the time; it runs between tests instead."""
    gc.collect()
    gc.freeze()
    gc.disable()


@pytest.fixture(scope="session")
def _count():
    return itertools.count(1)


@pytest.fixture(autouse=True)
def _clean_slate(_count):
    """Every test starts from the same seed, policy and session."""
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
    if next(_count) % TESTS_PER_COLLECTION == 0:
        gc.collect()
        # What is still there stays: it need not be looked at again.
        gc.freeze()


@pytest.fixture(scope="session")
def on_replicas():
    """`on_replicas(2, function, *arguments)`: see `replicas.py`."""
    with replicas.Processes() as run:
        yield run


@pytest.fixture(scope="session")
def trained(on_replicas, tmp_path_factory):
    """`trained(2, train, scenario)`: logs and arrays of a training."""
    return replicas.Trainings(on_replicas, tmp_path_factory.mktemp("trained"))
