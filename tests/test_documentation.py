"""Every Python block in README and docstrings runs."""

import ast
import importlib
import inspect
import json
import pathlib
import re
import shutil
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

ROOT = pathlib.Path(__file__).parent.parent
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def public_objects():
    """Public classes and functions of the package with an example."""
    modules = [
        kd,
        kd.calibration,
        kd.callbacks,
        kd.cost,
        kd.datasets,
        kd.export,
        kd.losses,
        kd.metrics,
        kd.models,
        kd.multitask,
        kd.optimizers,
        kd.quantization,
        kd.recipes,
        importlib.import_module("keras_distill.diagnosis"),
        importlib.import_module("keras_distill.pretraining"),
        importlib.import_module(
            "keras_distill.quantization.layerwise.sensitivity"
        ),
        importlib.import_module(
            "keras_distill.quantization.layerwise.proposal"
        ),
        importlib.import_module("keras_distill.report"),
        kd.taps,
        kd.teachers,
        importlib.import_module("keras_distill.teachers.cache.cache"),
        kd.views,
        importlib.import_module("keras_distill.workflow"),
    ]
    seen = {}
    for module in modules:
        for name, thing in vars(module).items():
            if name.startswith("_") or not callable(thing):
                continue
            if not getattr(thing, "__module__", "").startswith("keras_distill"):
                continue
            seen[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return seen


OBJECTS = public_objects()
EXAMPLES = {
    name: BLOCK.findall(inspect.cleandoc(thing.__doc__ or ""))
    for name, thing in OBJECTS.items()
}


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_public_things_are_documented(name):
    assert OBJECTS[name].__doc__, name


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run(name, *blocks)`: runs examples in a folder; the names they leave."""
    monkeypatch.chdir(tmp_path)

    def run(name, *blocks):
        names = taken_for_granted(blocks)
        for code in blocks:
            exec(compile(code, f"<{name}>", "exec"), names)
        return names

    return run


def taken_for_granted(blocks):
    """What examples do not make themselves, as far as they use it."""
    used = {
        node.id
        for code in blocks
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Name)
    }
    x, y = data(64)
    batches = kd.datasets.batches(x, y, batch_size=16)
    datasets = "dataset", "train_dataset", "test_dataset"
    names = {
        **dict.fromkeys((*datasets, "validation", "validation_data"), batches),
        **dict.fromkeys(("x", "x_train", "x_test", "x_unlabelled"), x),
        **dict.fromkeys(("y", "y_train", "y_test"), y),
        "kd": kd,
        "keras": keras,
        "np": np,
        "tf": tf,
        "strategy": tf.distribute.get_strategy(),
        "images": np.ones((2, 224, 224, 3), "float32"),
    }
    for name in used & {"first", "second", "third"}:
        names[name] = convnet()
    if used & {"teacher", "student", "model", "distiller"}:
        teacher, student = convnet(8), convnet()
        names |= {"teacher": teacher, "student": student, "model": student}
        for model in (teacher, student):
            model.compile("adam", crossentropy(), metrics=["accuracy"])
    if "distiller" in used:
        names["distiller"] = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=kd.losses.SoftTargets(),
        )
        names["distiller"].compile("adam", crossentropy())
    return names


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(n for n, e in EXAMPLES.items() if e))
def test_examples_in_docstrings_run(name, run):
    needs_data = (
        "datasets.fashion_mnist",
        "datasets.load",
        "diagnose",
        "glyphs",
        "load_bit_weights",
        "published",
    )
    if name.endswith(needs_data):
        pytest.skip("needs the data set; the module's own tests run it")
    run(f"docstring of {name}", *EXAMPLES[name])


@pytest.fixture(scope="module")
def quickstart_file(tmp_path_factory):
    """The quickstart's int8 file, without its training."""
    path = tmp_path_factory.mktemp("quickstart") / "student_int8.tflite"
    source = (ROOT / "examples" / "quickstart.py").read_text()
    (network,) = (
        node
        for node in ast.parse(source).body
        if getattr(node, "name", None) == "student_network"
    )
    scope = {"keras": keras, "layers": keras.layers}
    exec(ast.unparse(network), scope)
    images = np.random.default_rng(0).uniform(size=(20, 8, 8, 1))
    return kd.export.tflite(
        scope["student_network"](),
        path,
        quantization="int8",
        representative_dataset=images,
        verbose=False,
    )


# `docs/your_own_loss.md` has a test of its own.
PAGES = {
    page: BLOCK.findall((ROOT / page).read_text())
    for page in (
        "README.md",
        "docs/dense.md",
        "docs/quantization.md",
        "docs/several_machines.md",
        "docs/on_the_device.md",
        "docs/several_tasks.md",
        "docs/several_teachers.md",
        "docs/multitask.md",
        "docs/language_models.md",
        "docs/transformers.md",
        "docs/without_a_larger_teacher.md",
    )
}


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_import_what_they_use(page):
    used, imported = set(), set()
    for code in PAGES[page]:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                imported |= {name.asname or name.name for name in node.names}
            elif isinstance(node, ast.Name):
                used.add(node.id)
        assert used & {"kd", "keras", "np", "tf"} <= imported, code


def blocks():
    for page, codes in PAGES.items():
        for index in range(len(codes)):
            yield page, index


@pytest.mark.slow
@pytest.mark.parametrize("page, index", list(blocks()))
def test_examples_in_the_pages_run(page, index, run, request):
    code = PAGES[page][index]
    if "student_int8.tflite" in code:
        shutil.copy(request.getfixturevalue("quickstart_file"), ".")
    names = run(f"{page}, block {index}", code)
    if "student_int8.tflite" in code:
        assert names["logits"].shape == (1, 10)


@pytest.mark.slow
def test_the_page_says_what_the_quickstarts_file_takes(quickstart_file):
    notes = kd.export.metadata(quickstart_file)
    assert notes["inputs"]["image"]["shape"] == [1, 8, 8, 1]
    assert notes["inputs"]["image"]["dtype"] == "float32"
    assert notes["outputs"] == {
        "output_0": {"shape": [1, 10], "dtype": "float32"}
    }
    page = (ROOT / "docs" / "on_the_device.md").read_text()
    page = page.split("Python (`pip install")[1]
    sizes = {
        "python": "(1, 8, 8, 1)",
        "kotlin": "Array(1) { Array(8) { Array(8) { FloatArray(1) } } }",
        "swift": "count: 1 * 8 * 8 * 1",
    }
    for language, size in sizes.items():
        code = page.split(f"```{language}")[1].split("```")[0]
        assert size in code
        for name in ("image", "output_0", notes["signature_name"]):
            assert name in code, f"{name} in {language}"


def test_the_notebook_is_the_quickstart():
    sys.path.insert(0, str(ROOT / "examples" / "_shared"))
    try:
        from make_notebook import notebook
    finally:
        sys.path.pop(0)
    source = (ROOT / "examples" / "quickstart.py").read_text()
    written = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())
    assert written == notebook(source)
    code = "".join(
        "".join(cell["source"]) + "\n"
        for cell in written["cells"]
        if cell["cell_type"] == "code"
    )
    compile(code, "quickstart.ipynb", "exec")


def test_links_in_the_pages_exist():
    pages = [ROOT / "README.md", *ROOT.glob("*/README.md")]
    for page in [*pages, *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
