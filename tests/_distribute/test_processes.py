"""The process that runs what tests ask of replicas (`replicas.py`)."""

import os

import pytest
from replicas import Processes


def replicas_of(strategy):
    return strategy.num_replicas_in_sync


def fails(strategy, why):
    raise RuntimeError(why)


def dies(strategy):
    os.write(2, b"last words")
    os._exit(7)


@pytest.mark.slow
def test_what_fails_in_it_fails_here_and_it_goes_on():
    with Processes() as run:
        assert run(2, replicas_of) == 2
        with pytest.raises(AssertionError, match="RuntimeError: broken"):
            run(2, fails, "broken")
        assert run(1, replicas_of) == 1
        with pytest.raises(AssertionError, match="(?s)ended with 7.*words"):
            run(2, dies)
        assert run(2, replicas_of) == 2
