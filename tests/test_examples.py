"""The examples, as a newcomer runs them."""

import importlib
import json
import os
import pathlib
import shutil
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
    assert report["folds"] >= 5
    assert report["seconds"] <= 150
    assert report["gain_points"]["low"] > 0
    files = {row["file"]: row for row in report["files"]["rows"]}
    assert files["int8"]["accuracy_drop_points"] <= 0.5
    assert files["float32"]["agreement"] == 1.0
    # Every number of the printed table is in the report.
    for row in report["table"]:
        for cell in row.values():
            assert cell in output
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
def test_function_matching_goes_on_where_it_stopped():
    folder = SAVED / "function_matching_quick"
    shutil.rmtree(folder, ignore_errors=True)
    arguments = ("function_matching.py", "--quick", "--rows")
    run(*arguments, "function matching")
    before = json.loads((folder / "results.json").read_text())
    output = run(*arguments, "function matching", "cached teacher")
    after = json.loads((folder / "results.json").read_text())
    # Also the seconds are those of the first time: it was not done again.
    assert {key: after[key] for key in before} == before
    assert after.keys() - before.keys() == {"cached teacher/0"}
    live, cached = after["function matching/0"], after["cached teacher/0"]
    assert cached["accuracy"] == pytest.approx(live["accuracy"], abs=0.05)
    report = json.loads((folder / "report.json").read_text())
    for row in report["table"]:
        for cell in row.values():
            assert str(cell) in output
    assert (folder / "cache.png").stat().st_size > 0


def test_rows_of_function_matching(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    example = importlib.import_module("function_matching")
    named = {row.name for row in example.ROWS}
    asked = set()
    for rows in example.QUESTIONS.values():
        asked |= set(rows)
        # Each is compared with another row of the same question.
        assert set(rows.values()) - {None} <= set(rows)
    assert asked == named


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
