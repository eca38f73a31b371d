"""The examples, as a newcomer runs them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SAVED = ROOT / "saved_models"


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / script, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_quickstart_keeps_its_promises():
    output = run("quickstart.py")
    report = json.loads((SAVED / "quickstart" / "report.json").read_text())
    assert report["configuration"]["folds"] >= 5
    assert report["configuration"]["seconds"] <= 150
    assert report["runs"]["gain"]["low"] > 0
    files = {row["file"]: row for row in report["verification"]["rows"]}
    assert files["int8"]["accuracy_drop_points"] <= 0.5
    assert files["float32"]["agreement"] == 1.0
    # The printed table and the report are the same numbers.
    for group in ("accuracy", "agreement_with_teacher"):
        for found in report["runs"][group].values():
            cell = (
                f"{100 * found['mean']:.1f} ± {100 * found['half_width']:.1f}"
            )
            assert cell in output
    page = (SAVED / "quickstart" / "report.html").read_text()
    assert "The teacher changed its accuracy by +" in page
    for name in ("curves.png", "student_int8.tflite", "student.keras"):
        assert (SAVED / "quickstart" / name).stat().st_size > 0
    assert list((SAVED / "quickstart" / "tensorboard").rglob("events*"))


@pytest.mark.slow
def test_fashion_mnist_quick():
    if not pathlib.Path("/usr/share/datasets/fashion-mnist").exists():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    assert "student distilled" in run("fashion_mnist.py", "--quick")
    assert "difference" in run("what_to_expect.py", "--quick")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    path = ROOT / "examples" / "quickstart.ipynb"
    notebook = nbformat.read(path, as_version=4)
    # The same cells with a tenth of the steps: that it runs is the question.
    for cell in notebook.cells:
        cell.source = cell.source.replace(
            "FOLDS, LABELS, STEPS, EPOCHS, BATCH = 5, 200, 100, 10, 32",
            "FOLDS, LABELS, STEPS, EPOCHS, BATCH = 2, 200, 20, 2, 32",
        ).replace('"saved_models"', f'"{tmp_path}"')
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        resources={"metadata": {"path": str(ROOT / "examples")}},
    )
    client.execute()
