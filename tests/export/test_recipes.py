"""`quantization=`: 4 bits, weights alone, and recipes of ai-edge-quantizer."""

import importlib.util
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from exporting import exported
from networks import convnet
from networks import data

from keras_distill import export
from keras_distill.export import recipes
from keras_distill.export.conversion import conversion
from keras_distill.export.conversion import quantizer
from keras_distill.export.conversion.explanation import ExportError
from keras_distill.export.file import flatbuffer
from keras_distill.export.file import layer_names
from keras_distill.export.file import lite_model
from keras_distill.export.request import ExportRequest

pytest.importorskip("ai_edge_quantizer")
layers = keras.layers
X, _ = data(64)
MIXED = [
    *recipes.rules("int8"),
    *recipes.rules("int16x8", "^(conv1|act1);"),
    *recipes.rules("float32", "^head;"),
]


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="image")
    h = layers.Conv2D(8, 3, padding="same", name="conv1")(inputs)
    h = layers.BatchNormalization(name="bn")(h)
    h = layers.ReLU(name="act1")(h)
    h = layers.DepthwiseConv2D(3, padding="same", name="dw")(h)
    h = layers.Conv2D(16, 1, activation="relu", name="conv2")(h)
    h = layers.GlobalAveragePooling2D(name="pool")(h)
    return keras.Model(inputs, layers.Dense(4, name="head")(h), name="net")


@pytest.fixture(scope="module")
def float_file(student):
    """The student's float file, calibrated."""
    request = ExportRequest(
        student,
        "a.tflite",
        quantization="int4",
        representative_dataset=X,
        overwrite=True,
    )
    float_file = conversion.float_file(request)
    float_file.calibrate(request.samples, request.recipe, verbose=False)
    return float_file


IO_RULES = [recipes.rule("", end, weights=None) for end in ("INPUT", "OUTPUT")]


def run(path, resolver):
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType[resolver]
    )
    interpreter.allocate_tensors()
    (source,), (sink,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    outputs = []
    for sample in X[:16]:
        interpreter.set_tensor(source["index"], sample[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(sink["index"])[0].copy())
    return np.array(outputs)


def weights_in(path):
    """A dict operator and layer -> dtype of its weights."""
    model = flatbuffer.unpacked(path.read_bytes())
    names, (graph,) = flatbuffer.operator_names(), model.subgraphs
    dtypes = {0: "float32", 7: "int16", 9: "int8", 17: "int4"}
    made = {i: o for o in graph.operators for i in o.outputs}
    found = {}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        weights = operator.inputs[1]
        if weights in made:  # They are dequantized first.
            weights = made[weights].inputs[0]
        layer = graph.tensors[operator.outputs[0]].name.decode().split(";")[0]
        found[layer] = dtypes[graph.tensors[weights].type]
    return found


WEIGHTS = {
    "int4": ["int4", "int8", "int4", "int4"],
    "int4_weights": ["int4", "int8", "int4", "int4"],
    "int8_weights": ["int8"] * 4,
    "mixed": ["int8", "int8", "int8", "float32"],
}
# Against the Keras student, relative to the largest output.
TOLERANCE = {
    "int4": 0.3,
    "int4_weights": 0.3,
    "int8_weights": 0.02,
    "mixed": 0.04,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WEIGHTS)
def test_files_run_everywhere_and_agree(name, float_file, student, tmp_path):
    recipe = MIXED if name == "mixed" else recipes.rules(name)
    float_file.check(recipe)
    path = tmp_path / "a.tflite"
    path.write_bytes(float_file.quantized(recipe, IO_RULES))
    outputs = run(path, "AUTO")
    largest = np.abs(outputs).max()
    for resolver in ("BUILTIN_REF", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"):
        others = run(path, resolver)
        assert np.abs(outputs - others).max() <= 0.03 * largest
    expected = student.predict(X[:16], verbose=0)
    assert np.abs(outputs - expected).max() <= TOLERANCE[name] * largest
    assert list(weights_in(path)) == ["conv1", "dw", "conv2", "head"]
    assert list(weights_in(path).values()) == WEIGHTS[name]
    assert (lite_model.float_tensors(path) == []) == (name == "int4")


@pytest.mark.slow
def test_a_recipe_in_a_file(student, tmp_path):
    """Of ai-edge-quantizer's own manager, and as JSON; noted and verified."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer import recipe_manager

    manager = recipe_manager.RecipeManager()
    manager.add_static_config("conv2", qtyping.TFLOperationName.CONV_2D, 8, 8)
    recipe = manager.get_quantization_recipe()
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe))
    for quantization in (recipe, path, str(path)):
        name, rules = recipes.checked_quantization(quantization)
        assert (name, rules) == ("recipe", recipe)
    file = exported(
        student,
        tmp_path / "a.tflite",
        quantization=path,
        representative_dataset=X,
    )
    assert weights_in(file) == {
        "conv1": "float32",
        "dw": "float32",
        "conv2": "int8",
        "head": "float32",
    }
    notes = export.metadata(file)
    assert notes["quantization"] == "recipe"
    assert notes["inputs"]["image"]["dtype"] == "float32"
    verified = export.verify(
        file, student, X, latency_runs=0, measure_memory=False, verbose=False
    )
    assert verified.rows[1]["agreement"] > 0.9
    assert verified.rows[1]["quantization"] == "recipe"


@pytest.mark.slow
@pytest.mark.parametrize("of_camera", [False, True])
def test_integer_and_camera_inputs(of_camera, student, tmp_path):
    options = {"interface": export.Interface(integer_io=True)}
    images, expected = X, ("int8", "int8")
    if of_camera:
        signature = [tf.TensorSpec((1, 8, 8, 3), tf.uint8, name="image")]
        options = {
            "interface": export.Interface(input_signature=signature),
            "preprocessing": lambda x: x / 255,
        }
        images, expected = (X * 50 + 100).clip(0, 255), ("uint8", "float32")
    path = exported(
        student,
        tmp_path / "a.tflite",
        quantization="int4",
        representative_dataset=images,
        **options,
    )
    notes = export.metadata(path)
    ends = notes["inputs"]["image"], notes["outputs"]["output_0"]
    assert tuple(end["dtype"] for end in ends) == expected
    if of_camera:
        assert (ends[0]["scale"], ends[0]["zero_point"]) == (1.0, 0)


@pytest.mark.slow
def test_a_recipe_with_an_algorithm_that_measures(float_file, tmp_path):
    recipe = recipes.rules("int8")
    recipe[0]["algorithm_key"] = "GPTQ"
    float_file = quantizer.FloatFile(
        float_file.data, float_file.operators, float_file.settings
    )
    samples = [{"image": image[None]} for image in X[:8]]
    float_file.calibrate(samples, recipe, verbose=False)
    path = tmp_path / "a.tflite"
    path.write_bytes(float_file.quantized(recipe))
    assert "int8" in weights_in(path).values()


@pytest.mark.slow
def test_large_constants_are_in_the_flatbuffer(tmp_path):
    model = keras.Sequential([keras.Input((600,)), layers.Dense(600)])
    path = exported(model, tmp_path / "a.tflite", quantization="int8_weights")
    parts = flatbuffer.size_parts(path)
    assert parts["weights"] == 360_000
    assert export.load(path)(np.ones((1, 600))).shape == (1, 600)


RULE = recipes.rule(activations=8)
BITS = '["weight_tensor_config"]["num_bits"] must be one of 2, 4, 8, 16'


@pytest.mark.parametrize(
    "recipe, error",
    [
        ("int5", "`quantization` must be one of"),
        ("none.json", "names a file that is not"),
        ([], "at least one rule"),
        ([{"regex": ".*"}], "must be a rule"),
        ([recipes.rule("(")], "must be a regular expression"),
        ([recipes.rule(weights=5)], BITS),
        ([{**RULE, "op_config": {}}], 'must have a "weight_tensor_config"'),
        ([RULE], "This recipe .* needs `representative_dataset=`"),
        ("int4", '"int4" needs `representative_dataset=`'),
    ],
)
def test_what_is_refused_before_the_conversion(recipe, error, tmp_path):
    with pytest.raises(ValueError, match=_escaped(error)):
        exported(convnet(), tmp_path / "a.tflite", quantization=recipe)


def _escaped(text):
    return text.replace("[", r"\[").replace("]", r"\]")


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule, error",
    [
        (recipes.rule("^con;"), "names no operator.*'conv1;', 'dw;'"),
        (recipes.rule("conv1", weights=2), "quantizes nothing.*CONV_2D"),
        (recipes.rule(operation="CONV2D"), r"\"operation\"] must be one of"),
        ({**recipes.rule(), "algorithm_key": "best"}, "is no rule of"),
    ],
)
def test_what_the_file_does_not_have(rule, error, float_file):
    with pytest.raises(ValueError, match=error):
        float_file.check([rule])


@pytest.mark.slow
def test_a_file_that_does_not_run_is_not_written(student, tmp_path):
    """Depthwise convolutions have no kernel for 4 bits."""
    rule = recipes.rule(weights=4, activations=8)
    del rule["op_config"]["activation_tensor_config"]
    rule["op_config"]["skip_checks"] = True
    with pytest.raises(ExportError, match="does not run: .*layer 'dw'"):
        exported(student, tmp_path / "a.tflite", quantization=[rule])
    assert list(tmp_path.iterdir()) == []


def test_without_the_quantizer(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "keras-distill\[qu'):
        exported(convnet(), tmp_path / "a.tflite", quantization="int4")


@pytest.mark.slow
def test_operators_have_the_names_of_layers(tmp_path):
    """Nested, shared and numbered layers; what is outside of layers."""
    block = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Conv2D(3, 1, name="conv_1"),
            layers.Conv2D(3, 3, padding="same", name="conv"),
            layers.Activation("hard_swish", name="swish"),
        ],
        name="block",
    )
    inputs = keras.Input((4, 4, 3))
    h = keras.ops.sin(block(block(inputs)))
    outputs = layers.Dense(2, name="logits")(layers.Flatten(name="flat")(h))
    model = keras.Model(inputs, outputs)
    path = exported(model, tmp_path / "a.tflite")
    _, operators = layer_names.named(path.read_bytes(), model)
    once = ["block/conv_1", "block/conv", "block/swish"]
    assert [o.layer for o in operators] == [
        *once,
        *once,
        "block/swish",
        "flat",
        "logits",
    ]
    assert [o.weights for o in operators if o.weights] == [9, 81, 9, 81, 96]
    assert all(o.scope.startswith(f"{o.layer};") for o in operators)
