"""Killed again and again, while saving too: the same bits as without."""

import os
import pathlib
import subprocess
import sys

import pytest
from marks import nightly

WORKER = pathlib.Path(__file__).parent / "kill_worker.py"


@pytest.mark.slow
@pytest.mark.parametrize("trainings", [1, *nightly(5)])
def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path, trainings):
    seeds = range(trainings)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", WORKER, tmp_path, *map(str, seeds)],
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [int(row[0]) for row in rows] == [-1, *seeds], done.stderr[-2000:]
    assert sum(int(row[1]) for row in rows) == 4 * trainings
    assert len({row[2] for row in rows}) == 1, rows
