"""The examples, as a newcomer runs them."""

import gzip
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

import keras_distill as kd

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SAVED = ROOT / "saved_models"
needs_fashion_mnist = pytest.mark.skipif(
    not pathlib.Path("/usr/share/datasets/fashion-mnist").exists(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        # For a script that lies elsewhere, too.
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{EXAMPLES}"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_quickstart_runs(tmp_path):
    """All of it, but a few steps of two folds, and two of the five files."""
    source = (EXAMPLES / "quickstart.py").read_text()
    for line, shorter in (
        ("= 5, 200, 100, 10, 32\n", "= 2, 200, 5, 2, 32\n"),
        ("OUT = ", f"OUT = pathlib.Path({str(tmp_path)!r})  # "),
        (
            '("float32", "float16", "dynamic", "int8", "int16x8")',
            '("float32", "int8")',
        ),
        ("    max_accuracy_drop=0.5,\n", ""),  # Nothing is trained.
    ):
        assert source.count(line) == 1, line
        source = source.replace(line, shorter)
    script = tmp_path / "quickstart.py"
    script.write_text(source)
    output = run(script)
    assert "distilled - alone, paired by fold" in output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["configuration"]["folds"] == 2
    files = {row["file"] for row in report["verification"]["rows"]}
    assert {"float32", "int8"} <= files
    for name in ("curves.png", "student_int8.tflite", "student.keras"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.nightly
def test_quickstart_keeps_its_promises():
    output = run("quickstart.py")
    report = json.loads((SAVED / "quickstart" / "report.json").read_text())
    assert report["configuration"]["folds"] >= 5
    assert report["configuration"]["seconds"] <= 400
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


@pytest.mark.nightly
@needs_fashion_mnist
def test_fashion_mnist_quick():
    assert "student distilled" in run("fashion_mnist.py", "--quick")
    assert "with unlabelled" in run("studies/what_to_expect.py", "--quick")


@pytest.fixture
def example(monkeypatch):
    """`example(path)`: a file of `examples/` as a module, not run."""

    def load(path):
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.syspath_prepend((EXAMPLES / path).parent)
        spec = importlib.util.spec_from_file_location("x", EXAMPLES / path)
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up.
        monkeypatch.setitem(sys.modules, "x", module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize(
    "path",
    sorted(
        str(p.relative_to(EXAMPLES))
        for p in EXAMPLES.rglob("*.py")
        if p.name != "quickstart.py"  # It has no `main`; see above.
    ),
)
def test_examples_find_what_they_use(path, example):
    """Their runs are nightly: here, what they import, and names of `kd`."""
    example(path)
    source = (EXAMPLES / path).read_text()
    for name in sorted(set(re.findall(r"\bkd((?:\.[a-zA-Z_]\w*)+)", source))):
        value = kd
        for attribute in name.split(".")[1:]:
            if not isinstance(value, types.ModuleType):
                break
            value = getattr(value, attribute)


def test_gap_closed(example):
    reporting = example("_shared/reporting.py")
    assert reporting.gap_closed([0.9], [0.5, 0.7], [0.75]) == "50 %"
    assert reporting.gap_closed([0.6], [0.5, 0.7], [0.75]) == ""


def test_hits_and_misses_of_diagnose(example):
    study = example("studies/diagnosis.py")

    def result(kind, gains, balanced=None):
        """Three seeds, alone at 70 %."""
        measures = np.transpose(
            [gains, gains if balanced is None else balanced]
        )
        zero = {"difference": 0.0, "low": 0.0, "high": 0.0}
        return {
            "facts": {
                "findings": [{"kind": "heads"}, {"kind": kind}],
                "data": {
                    "validation_imbalanced": balanced is not None,
                    "training_samples": 500,
                },
                "student": {"parameters": 1000},
                "headroom": {"accuracy": zero},
            },
            "settings": [4.0, True],
            "teacher": [0.8, 0.8],
            "alone": np.full((3, 2), 0.7),
            "distilled": 0.7 + measures,
        }

    better, unsure = [0.03, 0.02, 0.03], [0.06, 0.0, 0.0]
    expected = {
        "hit": result("limited_by_data", better),
        "miss": result("limited_by_data", unsure),
        "hit too": result("no_clear_headroom", unsure),
        "miss too": result("limited_by_capacity", better),
        "no answer": result("undecided", better),
        # More right decisions that find fewer of the rare class.
        "hit of imbalanced": result(
            "teacher_not_better", better, np.negative(better)
        ),
    }
    for name, case in expected.items():
        row = study.row(name, case)
        assert name.startswith(row[""])
    assert row["distilled - alone"] == "+2.7 ± 1.4"
    assert row["balanced"] == "-2.7 ± 1.4"
    lines = study.summary(expected).splitlines()
    assert lines[0] == "6 pairs, 5 answers, 3 hits"
    assert lines[1].startswith('"distil": 2 pairs, of them 1 with a sure gain')


@pytest.mark.nightly
@pytest.mark.parametrize(
    "path",
    [
        "papers/multitask.py",
        "papers/patience.py",
        "papers/shampoo.py",
        "studies/choosing.py",
        "studies/several_tasks.py",
        "studies/several_teachers.py",
    ],
)
def test_tables_of_quick_runs(path):
    assert "|--" in run(path, "--quick")


@pytest.mark.nightly
@pytest.mark.parametrize(
    "path, data, files",
    [
        (
            "text_classifier",
            "/var/lib/dpkg/info/manpages-de.list",
            ["languages.png", "bag/dynamic.tflite"],
        ),
        ("on_policy", "/usr/lib/bible.data", ["on_policy.png"]),
    ],
)
def test_examples_with_text_quick(path, data, files):
    if not pathlib.Path(data).exists():
        pytest.skip(f"{data} is not installed")
    output = run(f"{path}.py", "--quick")
    folder = SAVED / f"{path}_quick"
    for row in json.loads((folder / "report.json").read_text())["table"]:
        for cell in row.values():
            assert cell in output
    for file in files:
        assert (folder / file).stat().st_size > 0


def test_passages_of_manual_pages(example, tmp_path, monkeypatch):
    shared = example("_shared/manual_pages.py")
    source = (
        ".TH LS 1\n\\fBDies ist\\fP ein kurzer Satz, der steht\\-\\-hier\n"
        ".PP\nand this one is not translated\nein zwei drei\n"
        ".PP\nDiese Zeile steht in beiden Seiten.\n"
    )
    pages = {"man1/ls.1": source, "man3/puts.3": source.split("zwei drei")[1]}
    listed = ["/usr/share/doc/manpages-de/changelog.gz"]
    for name, text in pages.items():
        path = tmp_path / f"usr/share/man/de/{name}.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(text.encode()))
        listed.append(str(path))
    (tmp_path / "manpages-de.list").write_text("\n".join(listed))
    monkeypatch.setattr(shared, "_LISTS", tmp_path)
    page = shared._PAGE.pattern.replace("/usr", f"{tmp_path}/usr")
    monkeypatch.setattr(shared, "_PAGE", re.compile(page))
    parts = shared.read("de")
    assert list(parts) == ["training", "choices", "test"]
    assert sum(parts.values(), []) == ["dies ist ein kurzer satz, der steht"]


@pytest.mark.nightly
def test_diagnosis_quick():
    assert "1 pairs, 1 answers" in run("studies/diagnosis.py", "--quick")


@pytest.mark.nightly
@needs_fashion_mnist
def test_layer_alignment_quick():
    output = run("papers/layer_alignment.py", "--quick")
    out = SAVED / "layer_alignment_quick"
    report = json.loads((out / "report.json").read_text())
    assert [row["student"] for row in report["table"]] == [
        "alone",
        "(the teacher)",
        "Hinton",
        "pairwise",
        "all to all",
        "learned lambda",
        "best of the grid",
    ]
    for row in report["table"]:
        for cell in row.values():
            assert cell in output
    for picture in ("accuracy_by_epoch.png", "alignments_same_layers.png"):
        assert (out / picture).stat().st_size > 10000


def test_alignments_of_unlike_depths(example):
    alignment = example("papers/layer_alignment_experiment.py")
    deeper = alignment.DEPTHS["deeper"]
    pairs = alignment.one_to_one(deeper)
    # The second convolution of each size, and the dense layers.
    np.testing.assert_array_equal(pairs.argmax(axis=0), [1, 3, 5, 6, 7])
    np.testing.assert_array_equal(pairs.sum(axis=0), np.ones(5))
    for name, depths in alignment.DEPTHS.items():
        teacher = alignment.network(alignment.TEACHERS[name], "teacher")
        assert len(depths) == len(alignment.aligned_layers(teacher))
        for shift in (-1, 0, 1):
            near = alignment.window(depths, shift, 1e-3)
            far = alignment.window(depths, shift, 1e3)
            np.testing.assert_allclose(near.sum(axis=0), 1.0)
            np.testing.assert_allclose(far, 1 / len(depths), rtol=1e-4)
    np.testing.assert_array_equal(alignment.window(deeper, 0, 1e-3), pairs)
    # The student's conv2 beside the teacher's conv6; its last stays last.
    later = alignment.window(deeper, 1, 1e-3).argmax(axis=0)
    np.testing.assert_array_equal(later, [3, 5, 6, 7, 7])


@pytest.mark.nightly
def test_cost_of_losses_quick():
    output = run("benchmarks/losses.py", "--quick", "--losses", "Hint", "DIST")
    path = SAVED / "benchmarks_quick" / "losses.json"
    rows = {r["loss"]: r for r in json.loads(path.read_text())["rows"]}
    assert set(rows) == {"plain step", "Hint", "DIST"}
    step = rows["plain step"]
    assert step["per_cent"] == pytest.approx([100.0, 100.0, 100.0])
    assert 0 < rows["DIST"]["processor_ms"] < step["processor_ms"]
    assert step["peak_bytes"] is None or step["peak_bytes"] > 0
    assert "DIST" in output


@pytest.mark.nightly
def test_cost_of_a_step_quick():
    output = run("benchmarks/step.py", "--quick", "--processes", "1")
    path = SAVED / "benchmarks_quick" / "step.json"
    report = json.loads(path.read_text())
    pairs = ["residual", "MobileNetV2", "one-layer"]
    assert list(report["seconds"]) == pairs
    for row in report["rows"]:
        low, middle, high = row["by_clock"]
        assert 0 < low <= middle <= high
        assert f"{middle:.3f}" in output
    for row in report["memory"]:
        assert min(row["floor"] + row["ours"]) > 0


def test_ratios_of_a_step(example):
    benchmark = example("benchmarks/step_experiment.py")
    # Two rounds, by the clock and of processors.
    seconds = {
        benchmark.PLAIN: np.array([[2.0, 1.0], [3.0, 1.0]]),
        benchmark.TEACHER: np.array([[2.0, 1.0], [1.0, 1.0]]),
        benchmark.OURS: np.array([[4.2, 2.0], [4.4, 3.0]]),
        benchmark.STOCK: np.array([[6.3, 2.0], [6.6, 3.0]]),
    }
    comparison = benchmark.Comparison
    ours = comparison((benchmark.OURS,), benchmark.FLOOR, 1.05)
    np.testing.assert_allclose(
        ours.ratios(seconds), [[1.05, 1.0], [1.1, 1.5]], rtol=1e-12
    )
    assert ours.label == "kd.Distiller / floor"
    assert ours.wanted() == "<= 1.05"
    assert (ours.met(1.0549), ours.met(1.0551)) == ("yes", "no")
    stock = comparison((benchmark.STOCK,), (benchmark.OURS,), 1.3, True)
    np.testing.assert_allclose(stock.ratios(seconds)[:, 0], 1.5)
    assert (stock.met(1.31), stock.met(1.29)) == ("yes", "no")
    # The pairs hold what the comparisons need.
    for pair in benchmark.pairs(quick=True).values():
        rows = [r for c in pair.comparisons for r in (*c.of, *c.to)]
        features = {benchmark.OURS_FEATURE, benchmark.STOCK_FEATURE}
        assert bool(features & set(rows)) == (pair.tap is not None)


def test_every_loss_has_a_cost(example):
    benchmark = example("benchmarks/losses.py")
    classes = {
        name
        for name in kd.losses.__all__
        if isinstance(getattr(kd.losses, name), type)
    } - {"DistillationLoss", "LayerPairLoss"}
    # Sides of boxes are as many in both networks; here no layer is as wide.
    classes -= {"LocalizationDistillation"}
    assert {row.loss_class for row in benchmark.ROWS} == classes
    labels = [row.label for row in benchmark.ROWS]
    assert len(set(labels)) == len(labels)


@pytest.mark.slow
def test_peak_bytes_sees_what_is_held():
    """In a process with the settings under which the benchmark asks."""
    code = (
        "import sys; sys.path.insert(0, 'examples/_shared')\n"
        "import measuring, tensorflow as tf\n"
        "x = tf.ones((1024, 1024))\n"
        "@tf.function(autograph=False)\n"
        "def two():\n"
        "    return tf.linalg.matmul(tf.sin(x), tf.cos(x))[0, 0]\n"
        "two()\n"
        "print(measuring.peak_bytes(two))"
    )
    benchmark = {"MALLOC_MMAP_THRESHOLD_": "4096", "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **benchmark},
    )
    if "clear_refs" in done.stderr:
        pytest.skip("this system does not reset the peak of a resident set")
    assert done.returncode == 0, done.stderr[-3000:]
    # Sine, cosine and their product: 3 x 4 MiB, and what the kernel packs.
    assert 12 <= int(done.stdout) / 2**20 <= 18


@pytest.mark.nightly
def test_compare_losses_goes_on_where_it_stopped():
    folder = SAVED / "compare_losses_quick"
    shutil.rmtree(folder, ignore_errors=True)
    run(
        "studies/compare_losses.py",
        "--quick",
        "--processes",
        "1",
        "--rows",
        "Hint",
    )
    before = json.loads((folder / "results.json").read_text())
    assert {"alone/0", "SoftTargets/0", "Hint/0"} < before.keys()
    arguments = ("--quick", "--processes", "1", "--rows")
    output = run("studies/compare_losses.py", *arguments, "Hint", "DIST")
    after = json.loads((folder / "results.json").read_text())
    # Also the seconds are those of the first time: it was not done again.
    assert {key: after[key] for key in before} == before
    assert after.keys() - before.keys() == {"DIST/0"}
    report = json.loads((folder / "report.json").read_text())
    assert [row["loss"] for row in report["table"]][-2:] == ["DIST", "Hint"]
    for row in report["table"]:
        for cell in row.values():
            assert cell in output
    assert (folder / "accuracy.png").stat().st_size > 0


@pytest.mark.nightly
def test_function_matching_goes_on_where_it_stopped():
    folder = SAVED / "function_matching_quick"
    shutil.rmtree(folder, ignore_errors=True)
    arguments = ("papers/function_matching.py", "--quick", "--rows")
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


def test_rows_of_function_matching(example):
    example = example("papers/function_matching.py")
    named = {row.name for row in example.ROWS}
    asked = set()
    for rows in example.QUESTIONS.values():
        asked |= set(rows)
        # Each is compared with another row of the same question.
        assert set(rows.values()) - {None} <= set(rows)
    assert asked == named


@pytest.mark.slow
def test_published_function_matching_trains(example, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    recipe = kd.recipes.function_matching(
        16,
        dataset="pets",
        samples=8,
        epochs=2,
        batch_size=4,
        warmup_steps=1,
        teacher_image_size=24,
    )
    networks = [
        kd.models.small_cnn((4, 4, 4), (size, size, 3), 37, name=name)
        for name, size in (("student", 16), ("teacher", 24))
    ]
    with tfds.testing.mock_data(num_examples=5):
        data = kd.datasets.published("pets", 24, batch_size=4)
        found = example("papers/published_function_matching.py").train(
            *networks, recipe, data, tmp_path, epochs=2
        )
    assert set(found) == {"accuracy", "loss"}
    assert (tmp_path / "student.keras").exists()


@pytest.mark.slow
def test_residual_students_can_share_layers_of_their_dense_teacher(example):
    tables = example("papers/born_again_tables.py")

    def shapes(row):
        model = row.small((14, 14, 1), 10)
        return [model.get_layer(n).kernel.shape for n in row.shared or shared]

    shared = ("stem_conv", "logits")
    teacher = shapes(tables.OF_TEACHER)
    students = [row for row in tables.TABLES[5] if row.shared]
    assert len(students) == 6
    assert all(shapes(row) == teacher for row in students)
    # As published: the maps at the ends of the stages are the teacher's.
    assert tables.stages_of_densenet(15, 60) == (458, 679, 1579)
    columns = tables.columns_of(2)
    assert columns[0] == "Teacher" and columns[-1] == "Ens*3"


@pytest.mark.nightly
@needs_fashion_mnist
def test_born_again_goes_on_where_it_stopped():
    folder = SAVED / "born_again_quick"
    shutil.rmtree(folder, ignore_errors=True)
    run("papers/born_again.py", "--quick", "--jobs", "generations", "CWTM")
    before = json.loads((folder / "results.json").read_text())
    output = run("papers/born_again.py", "--quick")
    after = json.loads((folder / "results.json").read_text())
    # Also the seconds are those of the first time: it was not done again.
    assert {key: after[key] for key in before} == before
    born_again = json.loads((folder / "report.json").read_text())["table"]
    assert len(born_again) == 2 * 11
    for row in born_again:
        for cell in row.values():
            assert str(cell) in output
    assert (folder / "generations.png").stat().st_size > 10000
    for name in ("generation_0.keras", "generation_3.keras", "tensorboard"):
        assert (folder / "generations" / "digits_0" / name).exists()


@pytest.mark.nightly
@needs_fashion_mnist
def test_a_table_of_born_again_quick():
    folder = SAVED / "born_again_table_3_quick"
    shutil.rmtree(folder, ignore_errors=True)
    output = run("papers/born_again.py", "--table", "3", "--quick")
    results = json.loads((folder / "results.json").read_text())
    rows = {f"Wide-ResNet-28-{width}/0" for width in (1, 2, 5, 10)}
    assert rows < results.keys()
    # Published; here.
    error = 100 * results["Wide-ResNet-28-1/0"]["errors"]["Dense-90-60"]
    assert f"24.93; {error:.1f}" in output


@pytest.mark.nightly
def test_language_model_goes_on_where_it_stopped():
    if shutil.which("bible") is None:
        pytest.skip("Debian's package bible-kjv is not installed")
    folder = SAVED / "language_model_quick"
    shutil.rmtree(folder, ignore_errors=True)
    run("papers/language_model.py", "--quick", "--jobs", "generations")
    before = json.loads((folder / "results.json").read_text())
    output = run("papers/language_model.py", "--quick")
    after = json.loads((folder / "results.json").read_text())
    assert {key: after[key] for key in before} == before
    report = json.loads((folder / "report.json").read_text())
    assert len(report["table"]) == 2 * 5
    for row in report["table"]:
        for cell in row.values():
            assert str(cell) in output
    for result in (r for key, r in after.items() if "/" in key):
        for perplexity in result["perplexity"].values():
            # Better than a guess among all words.
            assert perplexity["test"] < 200 and perplexity["validation"] < 200
    assert (folder / "curves.png").stat().st_size > 10000


@pytest.mark.nightly
@needs_fashion_mnist
def test_self_and_online_goes_on_where_it_stopped():
    folder = SAVED / "self_and_online_quick"
    shutil.rmtree(folder, ignore_errors=True)
    run("papers/self_and_online.py", "--quick", "--jobs", "DML")
    before = json.loads((folder / "results.json").read_text())
    output = run("papers/self_and_online.py", "--quick")
    after = json.loads((folder / "results.json").read_text())
    assert {key: after[key] for key in before} == before
    table = json.loads((folder / "report.json").read_text())["table"]
    costs = {
        row["what ships"]: int(row["multiply-accumulates"].replace(",", ""))
        for row in table
    }
    assert len(costs) == 14
    assert costs["BYOT, exit 1"] < costs["BYOT, exit 2"] < costs["plain"]
    assert costs["DML, one of 2"] == costs["plain"] == costs["ONE, one branch"]
    assert costs["DML, ensemble of 2"] == 2 * costs["plain"]
    for row in table:
        for cell in row.values():
            assert str(cell) in output
    assert (folder / "errors.png").stat().st_size > 10000


@pytest.mark.nightly
@needs_fashion_mnist
def test_pretraining_goes_on_where_it_stopped():
    folder = SAVED / "pretraining_quick"
    shutil.rmtree(folder, ignore_errors=True)
    run("studies/pretraining.py", "--quick", "--rows", "from scratch")
    before = json.loads((folder / "results.json").read_text())
    output = run("studies/pretraining.py", "--quick")
    after = json.loads((folder / "results.json").read_text())
    assert {key: after[key] for key in before} == before
    report = json.loads((folder / "report.json").read_text())
    assert len(report["table"]) == 5
    for row in report["table"]:
        for cell in row.values():
            assert str(cell) in output


def test_rows_of_pretraining(example):
    example = example("studies/pretraining.py")
    results = {
        "from scratch/0": {"500": 0.7, "5000": 0.8},
        "from scratch/1": {"500": 0.6, "5000": 0.8},
        "features of turns/1": {"500": 0.65, "5000": 0.79},
    }
    rows = example.table_rows(results, {"labels": [500, 5000]})
    rows = {row["start"]: row for row in rows}
    assert rows["from scratch"]["500 labels, %"].startswith("65.0 ±")
    assert rows["from scratch"]["gain"] == ""
    # Of the seed that both have.
    assert rows["features of turns"]["gain"] == "+5.0"
    assert rows["features of turns"]["gain "] == "-1.0"
    assert rows["features of turns"]["seeds"] == 1


def test_what_quantization_wins_back(example):
    example = example("quantization.py")

    def result(accuracy, calibrated, taught):
        numbers = {
            "float": accuracy,
            "3-bit weights/calibrated only": calibrated,
            "3-bit weights/the float student": taught,
        }
        return {
            "rows": {
                row: {"accuracy": number, "agreement": 1.0}
                for row, number in numbers.items()
            }
        }

    results = {
        "first": {},
        "a/0": result(0.9, 0.7, 0.8),
        "a/1": result(0.8, 0.4, 0.7),
        "another/0": result(0.9, 0.895, 0.893),
        "another/1": result(0.9, 0.895, 0.893),
    }
    network, another = (
        example.Place(results, name, "3-bit weights")
        for name in ("a", "another")
    )
    np.testing.assert_allclose(
        network.won_back("the float student"), [0.5, 0.75]
    )
    assert network.loses and not another.loses
    # Three points of two seeds are far apart, and two others alike.
    assert network.surely("the float student") == 0
    assert another.surely("the float student") == -1
    (row,) = example.won_back_table([network, another])
    assert row["lost"].startswith("30.0 ±")
    assert row["the float student"].startswith("62.5 ±")
    assert row["the teacher"] == ""
    assert (
        "taught by the float student: at least half of the loss is back in 1 "
        "of 1 places; surely above calibrating alone in 0, surely below in 1 "
        "of 2" in example.verdict([network, another])
    )


@pytest.mark.nightly
def test_quantization_goes_on_where_it_stopped():
    folder = SAVED / "quantization_quick"
    shutil.rmtree(folder, ignore_errors=True)
    output = run("quantization.py", "--quick", "--processes", "1")
    report = json.loads((folder / "report.json").read_text())
    rows = report["Test accuracy of the files, %"]
    assert [row["weights"] for row in rows] == [
        "int8, one scale per kernel",
        "int8",
        "3-bit weights",
    ]
    for row in rows:
        for cell in row.values():
            assert cell in output
    # Seconds too: nothing was done again.
    assert run("quantization.py", "--quick") == output


@pytest.mark.nightly
def test_segmentation_quick():
    if not pathlib.Path("/usr/share/openclipart/png").is_dir():
        pytest.skip("needs openclipart-png and fonts")
    output = run("segmentation.py", "--quick")
    folder = SAVED / "segmentation_quick"
    report = json.loads((folder / "report.json").read_text())
    assert (folder / "segmentation.png").is_file()
    assert (folder / "student.html").is_file()
    for row in report["table"]:
        for cell in row.values():
            assert cell in output
    rows = report["verification"]["rows"]
    assert [row["file"] for row in rows[1:]] == ["float32", "int8"]
    assert abs(rows[0]["mean_iou"] - rows[2]["mean_iou"]) < 0.05


@pytest.mark.nightly
def test_multi_worker_quick():
    output = run("multi_worker.py", "--quick")
    # The workers write into what started them.
    assert "val_accuracy" in output
    assert (SAVED / "multi_worker" / "student.tflite").stat().st_size > 0


def test_rows_of_born_again(example):
    example = example("papers/born_again.py")
    errors = dict.fromkeys(example.GENERATIONS, 0.2)
    results = {
        "generations/digits/0": {"errors": {**errors, "plain": 0.25}},
        "generations/digits/1": {"errors": {**errors, "plain": 0.35}},
        "CWTM/digits/1": {"errors": {"CWTM": 0.31}},
    }
    settings = {"data": {"digits": {}}}
    rows = {r["network"]: r for r in example.table_rows(results, settings)}
    assert list(rows) == [*example.GENERATIONS, "CWTM"]
    assert rows["plain"]["test error %"].startswith("30.0 ±")
    assert rows["BAN-1"]["difference from plain"].startswith("-10.0 ±")
    # Of the seed that both have.
    assert rows["CWTM"]["difference from plain"] == "-4.0"
    assert rows["CWTM"]["seeds"] == 1


def test_rows_of_language_model(example):
    example = example("papers/language_model.py")

    def perplexity(**rows):
        return {
            "perplexity": {
                row: {"validation": 2 * value, "test": value}
                for row, value in rows.items()
            }
        }

    results = {
        "generations/LSTM/0": perplexity(teacher=80.0, ensemble=70.0),
        "generations/LSTM/1": perplexity(teacher=90.0, ensemble=82.0),
        "BAN+L/LSTM/1": perplexity(**{"BAN+L": 85.5}),
    }
    first = {"LSTM": {"parameters": 1234}, "CNN-LSTM": {"parameters": 5}}
    rows = {row["row"]: row for row in example.table_rows(results, first)}
    assert list(rows) == ["teacher", "BAN+L", "ensemble"]
    assert rows["teacher"]["test"].startswith("85.00 ±")
    assert rows["teacher"]["validation"].startswith("170.00 ±")
    assert rows["BAN+L"]["validation"] == "171.00"
    assert rows["BAN+L"]["test, published"] == 68.56
    column = "test - teacher's"
    assert rows["teacher"][column] == ""
    assert rows["ensemble"][column].startswith("-9.00 ±")
    # Of the seed that both have.
    assert rows["BAN+L"][column] == "-4.50"


def test_a_thinned_text_keeps_runs_of_lines(example):
    example = example("papers/language_model_experiment.py")
    text = "".join(f"{number}\n" for number in range(200))
    kept = [int(line) for line in example.thinned(text, 2).splitlines()]
    assert kept == [*range(50), *range(100, 150)]


@pytest.mark.nightly
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


@pytest.mark.slow
def test_every_loss_is_compared(example):
    weights = example("studies/published_weights.py")
    experiment = example("studies/compare_losses_experiment.py")
    rows = weights.every_row(temperature=1.0)
    compared = {row.name.split(",")[0] for row in rows} - {"alone"}
    bases = {"DistillationLoss", "LayerPairLoss", "weighted_mean"}
    # Exits have classifiers of their own: self_and_online.py compares them.
    # The losses of kd.pretrain see no labels: pretraining.py does.
    elsewhere = {"EarlyExits", "PatchSimilarity", "QueueSimilarity"}
    # Losses of maps and boxes: segmentation.py, docs/dense.md.
    elsewhere |= {"LocalizationDistillation"}
    elsewhere |= {"MaskedGenerative", "PearsonFeature"}
    # Several tasks: docs/multitask.md.
    elsewhere |= {"MultiTaskFeature"}
    # Divergences for language models: on_policy.py.
    elsewhere |= {"JensenShannon", "SkewKL"}
    # Transformers: docs/transformers.md.
    elsewhere |= {"AttentionProbabilities", "AttentionRelation"}
    elsewhere |= {"HiddenStates"}
    assert compared == set(kd.losses.__all__) - bases - elsewhere
    # Each finds its layers in both networks, and has a weight for each loss.
    teacher = experiment.teacher_network()
    for row in rows:
        if row.make is None:
            continue
        made = row.make(64)
        made = made if isinstance(made, dict) else {"loss": made}
        if isinstance(row.weight, dict):
            assert row.weight.keys() == made.keys()
        kd.Distiller(
            student=experiment.student_network(0),
            teacher=teacher,
            distillation_losses=made,
        )
        assert all(loss.built for loss in made.values()), row.name
        reads_logits = all(
            loss.teacher_layer_name is None for loss in made.values()
        )
        assert row.logits_only == reads_logits, row.name
