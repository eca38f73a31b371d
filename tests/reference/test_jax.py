"""The reference cases with Keras on JAX: losses know no backend."""

import importlib.util
import os
import subprocess
import sys

import check
import pytest
from test_reference import FOLDERS

# Of logits, of maps and of the samples of a batch.
SOME = "kd_kl", "at_paper", "rkd_angle"


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)
@pytest.mark.parametrize(
    "groups",
    [
        pytest.param(SOME, marks=pytest.mark.slow, id="some"),
        pytest.param(
            tuple(check.adapter.GROUPS), marks=pytest.mark.nightly, id="all"
        ),
    ],
)
def test_cases_on_jax(groups):
    """In float32: `keras.ops.mean` and others round float64 to it on JAX."""
    for folder in FOLDERS:
        check_on_jax(folder, groups)


def check_on_jax(folder, groups):
    present = [case["group"] for case in check.load_cases(folder, groups)]
    if not present:
        return
    command = [check.__file__, folder, "--dtype", "float32", "--groups"]
    result = subprocess.run(
        [sys.executable, *command, ",".join(dict.fromkeys(present))],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    *lines, summary = result.stdout.splitlines()
    wrong = [line for line in lines if not line.startswith("ok")]
    assert result.returncode == 0, "\n".join(wrong) + result.stderr[-2000:]
    assert len(lines) == len(present)
    assert f"{len(present)} ok" in summary
