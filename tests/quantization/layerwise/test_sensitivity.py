"""`kd.quantization.sensitivity`: the numbers, and the recipe they give."""

import json

import keras
import numpy as np
import pytest
from exporting import exported
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill.export import recipes
from keras_distill.export.file.layer_names import LayerOperator
from keras_distill.export.verification.comparison import Answers
from keras_distill.export.verification.labels import LabelReader
from keras_distill.export.verification.networks import KerasNetwork
from keras_distill.quantization.layerwise import layers_in_file
from keras_distill.quantization.layerwise import proposal
from keras_distill.quantization.layerwise import trials

pytest.importorskip("ai_edge_quantizer")
layers = keras.layers
X, Y = data(64, seed=1)


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="image")
    h = layers.Conv2D(16, 3, padding="same", name="first")(inputs)
    h = layers.BatchNormalization(name="bn")(h)
    h = layers.ReLU(name="relu")(h)
    h = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(h)
    h = layers.Conv2D(64, 1, activation="relu", name="second")(h)
    h = layers.GlobalAveragePooling2D(name="pool")(h)
    model = keras.Model(inputs, layers.Dense(4, name="head")(h))
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(*data(256), epochs=12, verbose=0)
    # One channel a hundred times as large: few bits are left for the others.
    kernel = model.get_layer("first").kernel
    scale = np.ones(16, "float32")
    scale[0] = 100.0
    kernel.assign(kernel * scale)
    return model


@pytest.fixture(scope="module")
def result(student):
    return kd.quantization.sensitivity(student, (X, Y), verbose=False)


def test_one_of_several_outputs():
    inputs = keras.Input((8,))
    outputs = {"a": layers.Dense(3)(inputs), "b": layers.Dense(2)(inputs)}
    model = keras.Model(inputs, outputs)
    x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
    labels = {"a": np.zeros(16, int), "b": np.ones(16, int)}
    batches = [(x, labels, None)]
    with pytest.raises(ValueError, match="'a', 'b'.*sensitivity.output="):
        trials.Trials(model, batches, None, None, False)
    row = trials.Trials(model, batches, "b", None, False).run([])
    assert row["divergence"] < 1e-9
    wanted = np.mean(model(x)["b"].numpy().argmax(-1))
    assert row["accuracy"] == pytest.approx(wanted)


def test_open_sizes_are_those_of_the_data():
    image = keras.Input((None, None, 3))
    h = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    model = keras.Model(image, layers.Dense(4)(h))
    run = trials.Trials(model, [(X, Y, None)], None, None, False).run
    assert run(recipes.rules("int8"))["divergence"] < 0.1
    batches = [(X, Y, None), (X[:, :6], Y, None)]
    with pytest.raises(ValueError, match=r"`data` gives batches of shape"):
        trials.Trials(model, batches, None, None, False)


@pytest.mark.slow
def test_rows(result, student):
    layers_and_bits = [(r["layer"], r["quantization"]) for r in result.rows]
    assert layers_and_bits == [
        ("first", "int8"),
        ("first", "int4"),
        ("depthwise", "int8"),  # 4 bits: no kernel
        ("second", "int8"),
        ("second", "int4"),
        ("head", "int8"),
        ("head", "int4"),
    ]
    accuracy = np.mean(student.predict(X, verbose=0).argmax(-1) == Y)
    assert result.student["accuracy"] == pytest.approx(accuracy)
    assert result.student["divergence"] < 1e-9
    for row in result.rows:
        lost = 100 * (accuracy - row["accuracy"])
        assert row["accuracy_drop_points"] == pytest.approx(lost)
        assert row["damage"] == row["divergence"] > 0
    rows = {(r["layer"], r["quantization"]): r for r in result.rows}
    for layer in ("first", "second"):
        int8, int4 = rows[layer, "int8"], rows[layer, "int4"]
        assert (
            int4["mean_absolute_difference"] > int8["mean_absolute_difference"]
        )
        assert int4["bytes_saved"] > int8["bytes_saved"]
    worst = max(rows.values(), key=lambda row: row["damage"])
    assert worst["layer"] == "first"
    assert "head: with" not in str(result)
    assert "second: with pool." in str(result)
    assert "lost points" in str(result).splitlines()[0]


@pytest.mark.slow
def test_recipe_keeps_its_bound_at_the_smallest_size(result, student, tmp_path):
    loose = result.recipe(max_damage=1e9)
    assert set(loose.quantizations.values()) <= {"int8", "int4"}
    bound = 0.5 * loose.row["damage"]
    recipe = result.recipe(max_damage=bound)
    assert recipe.row["damage"] <= bound < loose.row["damage"]
    assert loose.row["size_bytes"] < recipe.row["size_bytes"]
    assert recipe.row["size_bytes"] < result.student["size_bytes"]
    assert json.loads(json.dumps(recipe)) == list(recipe)
    assert "KiB" in str(recipe)
    # The exported file is the one that was measured.
    path = exported(
        student,
        tmp_path / "a.tflite",
        quantization=recipe,
        representative_dataset=(X, Y),
    )
    logits = kd.export.load(path)(X)
    expected = student.predict(X, verbose=0)
    difference = np.abs(logits - expected).mean()
    assert difference == pytest.approx(
        recipe.row["mean_absolute_difference"], rel=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "bounds, error",
    [
        ({}, "Give one of `max_accuracy_drop`"),
        ({"max_damage": 1.0, "least_agreement": 0.5}, "Give one of"),
        ({"least_accuracy": 90}, "`least_accuracy` must be"),
        ({"max_accuracy_drop": -1}, "`max_accuracy_drop` must be"),
        ({"least_accuracy": 1.0}, "more than the float32 file gives"),
    ],
)
def test_bad_bounds(bounds, error, result, monkeypatch):
    monkeypatch.setitem(result.student, "accuracy", 0.9)
    with pytest.raises(ValueError, match=error):
        result.recipe(**bounds)


@pytest.mark.slow
def test_without_labels_and_with_views(student):
    result = kd.quantization.sensitivity(
        student,
        255 * X,
        quantizations=["int16x8", "int8_weights"],
        samples=16,
        preprocessing=lambda x: x / 255,
        verbose=False,
    )
    assert result.student["divergence"] < 1e-9
    kinds = [row["quantization"] for row in result.rows]
    assert kinds == 4 * ["int16x8", "int8_weights"]
    assert result.rows[0]["accuracy"] is None
    assert result.recipe(least_agreement=0.5)
    with pytest.raises(ValueError, match="needs labels of classes"):
        result.recipe(least_accuracy=0.5)


@pytest.mark.parametrize(
    "options, error",
    [
        ({"quantizations": ["int3"]}, "each of `quantizations` must be one of"),
        ({"quantizations": []}, "`quantizations` must be"),
        ({"samples": 0}, "`samples` must be"),
        ({"data": np.ones((4, 9, 9, 3))}, "`data` gives batches of shape"),
        ({"data": []}, "`data` is empty"),
    ],
)
def test_bad_arguments(options, error):
    options = {"data": X, "verbose": False, **options}
    with pytest.raises(ValueError, match=error):
        kd.quantization.sensitivity(convnet(), **options)


def test_divergence():
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 5, 3))
    p_, q_ = (np.exp(v) / np.exp(v).sum(-1, keepdims=True) for v in (p, q))
    expected = (p_ * np.log(p_ / q_)).sum(-1)
    for values in (
        trials.divergence(p, q, is_logits=True),
        trials.divergence(p_, q_, is_logits=False),
    ):
        np.testing.assert_allclose(values, expected, rtol=1e-6)
    p_, q_ = 1 / (1 + np.exp(-p)), 1 / (1 + np.exp(-q))
    expected = p_ * np.log(p_ / q_)
    expected += (1 - p_) * np.log((1 - p_) / (1 - q_))
    for values in (
        trials.divergences(p, q, is_logits=True),
        trials.divergences(p_, q_, is_logits=False),
    ):
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_divergence_of_small_logits():
    p, q = np.array([[[0.2], [0.8]], [[0.3], [0.5]]])
    network = KerasNetwork(
        "student",
        keras.Sequential([keras.Input((1,)), layers.Dense(1)]),
        None,
        "student",
    )
    reader = LabelReader(network.model)
    comparison = trials._Divergence(
        network, [network], None, reader, "output_0", None
    )
    outputs = [{"output_0": p}, {"output_0": q}]
    batch = Answers([p, p], outputs, {"output_0": None}, None)
    comparison.add(batch, None, None)
    expected = trials.divergence(p, q, is_logits=True).mean()
    assert comparison.divergence() == pytest.approx(expected)


def row(layer, quantization, bytes_saved, damage):
    return {
        "layer": layer,
        "quantization": quantization,
        "bytes_saved": bytes_saved,
        "damage": damage,
    }


def test_steps_are_ordered_by_damage_per_byte():
    rows = [
        row("a", "int8", 300, 3.0),
        row("a", "int4", 350, 10.0),
        row("b", "int8", 300, 0.3),
        row("b", "int4", 350, 0.45),
        # 4 bits at once: 8 bits are worse than half of the way.
        row("c", "int8", 100, 5.0),
        row("c", "int4", 200, 6.0),
    ]
    assert proposal.ordered_steps(rows) == [
        ("b", "int8"),
        ("b", "int4"),
        ("a", "int8"),
        ("c", "int4"),
        ("a", "int4"),
    ]


def test_layers_and_rules():
    operators = [
        LayerOperator("MUL", "scale", "Rescaling", 0, "scale;x;"),
        LayerOperator("CONV_2D", "a.b", "Conv2D", 9, "a.b;x;"),
        LayerOperator("ADD", "add", "Add", 0, "add;x;"),
        LayerOperator("CONV_2D", "c", "Conv2D", 9, "c;x;"),
        LayerOperator("CONV_2D", "a.b", "Conv2D", 9, "a.b;y;"),
        LayerOperator("MEAN", "pool", "Pool", 0, "pool;x;"),
        LayerOperator("FULLY_CONNECTED", "d", "Dense", 4, "d;x;"),
    ]
    found = layers_in_file.layers_in_file(operators)
    assert [layer.members for layer in found] == [
        ("a.b", "scale", "add", "pool"),
        ("c",),
        ("d",),
    ]
    assert found[0].regex == r"^(a\.b|scale|add|pool);"
    rules = layers_in_file.composed(found, {"a.b": "int8", "c": "int8"})
    assert [(r["regex"], r["algorithm_key"]) for r in rules] == [
        (".*", "min_max_uniform_quantize"),
        ("^(d);", "no_quantize"),
    ]
    assert layers_in_file.composed(found, {}) == recipes.rules("float32")
    with pytest.raises(ValueError, match="no layer with weights"):
        layers_in_file.layers_in_file(operators[:1])
