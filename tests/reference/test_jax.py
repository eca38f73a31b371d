"""The reference cases with Keras on JAX: losses know no backend."""

import importlib.util
import os
import subprocess
import sys

import check
import pytest
from test_reference import FOLDER


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)
def test_every_case_on_jax():
    """In float32: `keras.ops.mean` and others round float64 to it on JAX."""
    cases = len(check.load_cases(FOLDER, check.adapter.GROUPS))
    result = subprocess.run(
        [sys.executable, check.__file__, FOLDER, "--dtype", "float32"],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    *lines, summary = result.stdout.splitlines()
    wrong = [line for line in lines if not line.startswith("ok")]
    assert result.returncode == 0, "\n".join(wrong) + result.stderr[-2000:]
    assert len(lines) == cases
    assert f"{cases} ok" in summary
