"""`Heads`: values, structures, saving, merging, bad input."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_distill as kd
from keras_distill import multitask
from keras_distill.export.file import flatbuffer

TASKS = {"shape": 2, "texture": 3, "colour": 1}
STRUCTURES = {
    "none": None,
    "feature": multitask.FeatureTransformation(0.02),
    "smooth": multitask.FeatureTransformation(0.02, epsilon=0.01),
    "rows": multitask.FeatureTransformation(0.02, transformation="identity"),
    "clustering": multitask.TaskClustering(2, 0.02, 0.01),
    "decomposition": multitask.ParameterDecomposition(
        [("linf", 0.02), ("l1", 0.01)]
    ),
}
every_structure = pytest.mark.parametrize(
    "structure", STRUCTURES.values(), ids=STRUCTURES
)
X = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")


def network(structure=None, **kwargs):
    inputs = keras.Input((8,), name="x")
    x = layers.Dense(6, activation="relu", name="trunk")(inputs)
    heads = multitask.Heads(TASKS, structure, name="heads", **kwargs)
    return keras.Model(inputs, heads(x), name="student"), heads


def assert_same(one, other, atol=1e-6):
    assert list(one) == list(other) or set(one) == set(other)
    for task in one:
        np.testing.assert_allclose(one[task], other[task], atol=atol)


@every_structure
def test_logits_are_those_of_the_merged_kernel(structure):
    model, heads = network(structure)
    heads.bias.assign(np.arange(6.0))
    features = keras.Model(model.input, model.get_layer("trunk").output)(X)
    wanted = features @ np.asarray(heads.merged_kernel()) + heads.bias.numpy()
    assert_same(
        model(X),
        {
            "shape": wanted[:, :2],
            "texture": wanted[:, 2:5],
            "colour": wanted[:, 5:],
        },
    )
    assert {t: x.shape[-1] for t, x in model.output.items()} == TASKS


def test_it_starts_as_independent_layers_do():
    """Glorot's limit of each task, whatever the structure, and its seed."""
    kernels = []
    for structure in STRUCTURES.values():
        keras.utils.set_random_seed(0)
        heads = multitask.Heads({"wide": 300, "narrow": 1}, structure)
        heads.build((None, 300))
        kernels.append(np.asarray(heads.merged_kernel()))
    assert 0.95 < abs(kernels[0][:, :300]).max() / np.sqrt(6 / 600) <= 1.0
    assert 0.95 < abs(kernels[0][:, 300:]).max() / np.sqrt(6 / 301) <= 1.0
    for kernel, name in zip(kernels, STRUCTURES):
        if name != "clustering":  # It has a lower rank.
            np.testing.assert_allclose(kernel, kernels[0], atol=1e-7)


@every_structure
def test_saved_and_loaded(structure, tmp_path):
    model, heads = network(structure)
    heads.bias.assign(np.arange(6.0))
    model.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert_same(loaded(X), model(X), atol=0)
    again = loaded.get_layer("heads").structure
    assert type(again) is type(structure)
    assert structure is None or again.get_config() == structure.get_config()


@every_structure
@pytest.mark.parametrize("kind", ["functional", "sequential", "nested"])
def test_merged_is_plain_and_gives_the_same(structure, kind, tmp_path):
    model, heads = network(structure, use_bias=kind != "nested")
    if kind == "sequential":
        heads = multitask.Heads(TASKS, structure, name="heads")
        model = keras.Sequential([keras.Input((8,)), layers.Dense(6), heads])
    if kind == "nested":
        inputs = keras.Input((8,))
        model = keras.Model(inputs, model(inputs))
    plain = multitask.merged(model)
    assert_same(plain(X), model(X), atol=1e-5)
    plain.save(tmp_path / "plain.keras")
    loaded = keras.models.load_model(tmp_path / "plain.keras")
    assert_same(loaded(X), model(X), atol=1e-5)
    modules = {
        type(layer).__module__.split(".")[0]
        for layer in loaded._flatten_layers()
    }
    assert modules == {"keras"}
    # Its trunk is the student's, and further training of that is seen.
    assert plain.name == model.name
    if kind == "functional":
        assert plain.get_layer("trunk") is model.get_layer("trunk")
        assert plain.get_layer("heads_shape").units == 2


def test_a_compiled_network_is_merged():
    def error(y, prediction):
        return keras.ops.mean((y - prediction) ** 2)

    model, _ = network()
    model.compile("sgd", {name: error for name in TASKS})
    plain = multitask.merged(model)
    assert_same(plain(X), model(X))
    assert not plain.compiled


def test_names_of_merged_layers():
    """Names that no layer may have, or that others have."""
    inputs = keras.Input((8,))
    x = layers.Dense(6, name="heads_a_b")(inputs)
    tasks = {"a/b": 1, "a b": 2, "c": 1}
    heads = multitask.Heads(tasks, name="heads", trainable=False)
    model = keras.Model(inputs, heads(x))
    plain = multitask.merged(model)
    assert_same(plain(X), model(X))
    assert {layer.name: layer.units for layer in plain.layers[1:]} == {
        "heads_a_b": 6,
        "heads_a_b_1": 1,
        "heads_a_b_2": 2,
        "heads_c": 1,
    }
    assert not plain.get_layer("heads_c").trainable


def test_the_network_of_an_int8_file():
    model, _ = network(STRUCTURES["decomposition"])
    aware = kd.quantization.aware(model, calibration_data=X)
    assert_same(aware(X), model(X), atol=0.1)


def test_merged_returns_what_has_no_heads():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6)])
    assert multitask.merged(model) is model


@pytest.mark.slow
def test_the_file_has_no_structure(tmp_path):
    student, _ = network(STRUCTURES["decomposition"])
    path = kd.export.export_model(student, tmp_path / "a.tflite", verbose=False)
    operators = flatbuffer.operator_counts(flatbuffer.operators(path))
    # The trunk and three heads.
    assert operators == {"FULLY_CONNECTED": 4}
    assert_same(kd.export.load(path)(X), student(X), atol=1e-5)


def test_any_number_of_axes_masks_and_half_precision():
    heads = multitask.Heads(TASKS, dtype="mixed_float16")
    x = layers.Masking()(np.ones((2, 4, 8), "float32"))
    logits = heads(x)
    assert logits["texture"].shape == (2, 4, 3)
    assert logits["texture"].dtype == "float16"
    assert heads.bias.dtype == "float32"


def test_assigned_kernel():
    kernel = np.random.default_rng(0).normal(size=(8, 6))
    for name, structure in STRUCTURES.items():
        heads = multitask.Heads(TASKS, structure)
        heads.build((None, 8))
        heads.assign_kernel(kernel, np.ones(6))
        found = np.asarray(heads.merged_kernel())
        if name == "clustering":  # The nearest kernel of rank 2.
            values = np.linalg.svd(kernel, compute_uv=False)
            distance = np.linalg.norm(found - kernel)
            np.testing.assert_allclose(
                distance, np.sqrt(np.sum(values[2:] ** 2)), rtol=1e-5
            )
        else:
            np.testing.assert_allclose(found, kernel, atol=1e-6)
        assert np.all(heads.bias.numpy() == 1)
    with pytest.raises(ValueError, match=r"of shape \(8, 6\).*\(6, 8\)"):
        heads.assign_kernel(kernel.T)


def test_a_structure_of_ones_own():
    class Halves(multitask.Structure):
        def shrink(self, parts, step):
            return {"kernel": parts["kernel"] * (1 - step)}

    heads = multitask.Heads({"a": 1, "b": 1}, Halves())
    heads.build((None, 3))
    before = np.asarray(heads.merged_kernel())
    heads.proximal_step(0.5)
    np.testing.assert_allclose(heads.merged_kernel(), before / 2)


# Bad input.


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: multitask.Heads({"a": 3}, STRUCTURES["feature"]),
            "structure shares between tasks, and there is one.*'a': 3.*Leave",
        ),
        (lambda: multitask.Heads({}), "tasks must be a dict"),
        (lambda: multitask.Heads({"a": 0}), r"tasks\['a'\] must be an integer"),
        (lambda: multitask.Heads({1: 2}), "tasks must be a dict"),
        (
            lambda: multitask.Heads({"a": 1, "b": 2}, "feature"),
            "structure must be a kd.multitask.Structure",
        ),
        (
            lambda: multitask.Heads(
                {"a": 1, "b": 2}, multitask.TaskClustering(4, 0.1, 0.1)
            ).build((None, 8)),
            "groups=4 is more.*3 columns.*8 features. Pass groups=3",
        ),
        (
            lambda: multitask.ParameterDecomposition([("l3", 1.0)]),
            "norm of components must be one of 'l1'",
        ),
        (
            lambda: multitask.ParameterDecomposition(["l1", "linf"]),
            "components must be a list of",
        ),
        (
            lambda: multitask.ParameterDecomposition([("l1", -1.0)]),
            "strength of components must be",
        ),
        (
            lambda: multitask.Heads({"a": 1, "b": 1}).merged_kernel(),
            "is not built",
        ),
        (
            lambda: multitask.inspect(layers.Dense(3)),
            "heads must be a kd.multitask.Heads",
        ),
        (
            lambda: multitask.Heads({"a": 1, "b": 1}).build((2, None)),
            "last axis",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


# What was learned.


def inspected(kernel, structure):
    heads = multitask.Heads({f"t{i}": 1 for i in range(4)}, structure)
    heads.build((None, 6))
    heads.assign_kernel(kernel)
    return multitask.inspect(heads), heads


def test_groups_are_found(tmp_path):
    """Tasks 0 and 2 share a direction, tasks 1 and 3 another."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))[0]
    shares = np.array([[3.0, 0.0, -2.0, 0.0], [0.0, 1.0, 0.0, 1.5]])
    inspection, heads = inspected(
        basis @ shares, multitask.TaskClustering(2, 0.1, 0.1)
    )
    heads.proximal_step(0.01)  # What was only rounding is 0 now.
    inspection = multitask.inspect(heads)
    assert inspection.groups == [["t0", "t2"], ["t3", "t1"]]
    assert inspection.rank == 2 and inspection.features == 6
    assert inspection.shared_with("t0") == ["t2"]
    expected = np.array([[1, 0, 1, 0], [0, 1, 0, 1]] * 2)
    np.testing.assert_allclose(inspection.similarity, expected, atol=1e-5)
    assert "group 0: t0, t2" in str(inspection)
    path = tmp_path / "new" / "heads.png"
    figure = inspection.plot(path)
    assert path.stat().st_size > 0 and len(figure.axes) == 5
    with pytest.raises(ValueError, match="task must be one of"):
        inspection.shared_with("t9")


def test_components_are_shown():
    inspection, _ = inspected(
        np.ones((6, 4)),
        multitask.ParameterDecomposition([("linf", 0.1), ("l1", 0.1)]),
    )
    assert list(inspection.components) == ["linf 0", "l1 1"]
    assert "linf 0: length 2.45, 6 features, 4 of 4 columns" in str(inspection)
    assert len(inspection.plot().axes) == 4
    inspection, _ = inspected(np.zeros((6, 4)), None)
    assert inspection.rank == 0 and not inspection.similarity.any()
    assert inspection.groups is None and len(inspection.plot().axes) == 3
