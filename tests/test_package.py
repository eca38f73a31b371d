"""What a newcomer meets first: layout, import, version."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

import keras_distill as kd

ROOT = pathlib.Path(__file__).parent.parent
HEAVY = (
    "keras_cv",
    "tensorflow_datasets",
    "ai_edge_litert",
    "PIL",
    "matplotlib",
    "jinja2",
    "keras_distill.report",
    # Losses need no TensorFlow of ours.
    "keras_distill._training.step",
)


def python(code, env=None):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    ).stdout.split()


@pytest.mark.slow
def test_import_is_light():
    # Processor time, and as a share of what tensorflow and keras take: 7 s on a
    # slow machine. 260 modules, 0.8 ms each. And the best of up to three. A
    # collection of tensorflow's garbage, due now or later, is not ours.
    code = (
        "import gc, sys, time; start = time.process_time(); "
        "import tensorflow, keras; before = set(sys.modules); "
        "theirs = time.process_time() - start; "
        "gc.disable(); start = time.process_time(); import keras_distill; "
        "print(7 * (time.process_time() - start) / theirs); "
        "import keras_distill.export; "
        f"print(sorted(set({HEAVY}) & set(sys.modules) - before))"
    )
    for _ in range(3):
        seconds, *heavy = python(code)
        assert heavy == ["[]"]
        if float(seconds) <= 0.45:
            return
    pytest.fail(f"{seconds} s")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)
def test_import_without_tensorflow():
    """Losses run on Keras's other backends, without it."""
    code = (
        "import sys; sys.modules['tensorflow'] = None; "
        "import keras_distill as kd; "
        "print(kd.losses.SoftTargets().name, kd.teachers.Ensemble.__name__)"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    assert python(code, environment) == ["soft_targets", "Ensemble"]


@pytest.mark.slow
def test_saved_models_load_where_the_package_alone_is_imported():
    """What is imported late registers no class, but these two sources.

    `BlackBox` imports those before it is loaded.
    """
    code = (
        "import importlib, pkgutil, keras, keras_distill; "
        "names = keras.saving.get_custom_objects; before = set(names()); "
        "modules = pkgutil.walk_packages("
        "keras_distill.__path__, 'keras_distill.'); "
        "[importlib.import_module(x.name) for x in modules "
        "if not x.name.endswith('__main__')]; "
        "print(*sorted(set(names()) - before))"
    )
    assert python(code) == [
        f"keras_distill>{name}" for name in ("ONNXFile", "TFLiteFile")
    ]


def test_top_level_layout_and_version():
    for name in (
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "examples",
        "saved_models/README.md",
        ".ci/run",
        "keras_distill/py.typed",
    ):
        assert (ROOT / name).exists(), name
    assert kd.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_no_module_grows_past_400_lines():
    for path in (ROOT / "keras_distill").rglob("*.py"):
        lines = len(path.read_text().splitlines())
        assert lines <= 400, f"{path.name} has {lines} lines"


def test_only_public_keras():
    # Keras offers no public way to the state of its global generator.
    allowed = ROOT / "keras_distill" / "_keras" / "global_seed.py"
    for path in (ROOT / "keras_distill").rglob("*.py"):
        assert "keras.src" not in path.read_text() or path == allowed, path
