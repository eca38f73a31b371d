import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import Subclassed
from networks import convnet

from keras_distill.taps.paths import layer_paths
from keras_distill.taps.taps import Taps

layers = keras.layers
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")


def nested():
    backbone = convnet(name="backbone")
    inputs = keras.Input((8, 8, 3))
    x = layers.Dense(5, name="neck")(backbone(inputs))
    return keras.Model(inputs, layers.Dense(3, name="head")(x), name="outer")


def shared():
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="conv")
    first = conv(inputs)
    second = conv(first)
    model = keras.Model(inputs, layers.Flatten()(second), name="shared")
    return model, keras.Model(inputs, [first, second])


def test_functional_taps_equal_a_model_over_the_same_tensors():
    model = convnet()
    reference = keras.Model(
        model.input,
        [model.output, model.get_layer("act1").output],
    )
    output, taken = Taps(model, ["act1"])(IMAGES)
    expected = reference(IMAGES)
    np.testing.assert_allclose(output, expected[0], rtol=1e-6)
    np.testing.assert_allclose(taken["act1"], expected[1], rtol=1e-6)


def test_nested_by_path_and_by_unique_name():
    model = nested()
    backbone = model.get_layer("backbone")
    expected = keras.Model(backbone.input, backbone.get_layer("act1").output)
    _, taken = Taps(model, ["backbone/act1", "act1", "neck"])(IMAGES)
    np.testing.assert_allclose(
        taken["backbone/act1"], expected(IMAGES), rtol=1e-6
    )
    np.testing.assert_array_equal(taken["act1"], taken["backbone/act1"])
    assert taken["neck"].shape == (2, 5)


@pytest.mark.slow
def test_two_models_deep_and_a_keras_application():
    application = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), weights=None, include_top=False, alpha=0.35
    )
    inner = keras.Sequential(
        [keras.Input((32, 32, 3)), layers.Rescaling(2.0), application],
        name="inner",
    )
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, layers.Flatten()(inner(inputs)))
    name = f"inner/{application.name}/block_3_project"
    images = np.ones((1, 32, 32, 3), "float32")
    _, taken = Taps(model, [name])(images)
    expected = keras.Model(
        application.input, application.get_layer("block_3_project").output
    )
    np.testing.assert_allclose(
        taken[name], expected(2 * images), rtol=1e-5, atol=1e-6
    )


def test_sequential_and_shapes():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="conv"),
            layers.Flatten(name="flat"),
        ]
    )
    output, taken = Taps(model, ["conv"]).shapes()
    assert output == (None, 144)
    assert taken == {"conv": (None, 6, 6, 4)}


def test_shared_layer_by_number_of_the_call():
    model, both = shared()
    _, taken = Taps(model, ["conv#0", "conv#1"])(IMAGES)
    for name, expected in zip(["conv#0", "conv#1"], both(IMAGES)):
        np.testing.assert_allclose(taken[name], expected, rtol=1e-6)


def test_shared_layer_without_a_number_says_which_there_are():
    model, _ = shared()
    with pytest.raises(ValueError, match=r"2 times.*'conv#0', 'conv#1'"):
        Taps(model, ["conv"])(IMAGES)
    with pytest.raises(ValueError, match="there is no #2"):
        Taps(model, ["conv#2"])(IMAGES)
    with pytest.raises(ValueError, match="number of the call"):
        Taps(model, ["conv#last"])


@pytest.mark.slow
def test_subclassed_model_eager_and_in_a_graph():
    model = Subclassed()
    model(IMAGES)
    taps = Taps(model, ["act1", "pool"])
    assert taps.shapes() is None
    expected = tf.nn.relu(model.conv1(IMAGES))
    for run in (taps, tf.function(taps), tf.function(taps, jit_compile=True)):
        _, taken = run(IMAGES)
        np.testing.assert_allclose(taken["act1"], expected, atol=1e-5)
        assert taken["pool"].shape == (2, 4)


def test_several_inputs_and_outputs():
    a = keras.Input((3,), name="a")
    b = keras.Input((2,), name="b")
    joined = layers.Concatenate(name="joined")([a, b])
    outputs = {
        "one": layers.Dense(1, name="one")(joined),
        "two": layers.Dense(2, name="two")(joined),
    }
    model = keras.Model({"a": a, "b": b}, outputs)
    taps = Taps(model, ["joined", "two"])
    shapes, taken = taps.shapes()
    assert shapes == {"one": (None, 1), "two": (None, 2)}
    assert taken["joined"] == (None, 5)
    output, taken = taps({"a": np.ones((4, 3)), "b": np.ones((4, 2))})
    np.testing.assert_array_equal(output["two"], taken["two"])


def test_one_forward_one_batch_norm_update_and_nothing_left_behind():
    model = convnet(batch_norm=True)
    taps = Taps(model, ["conv1", "bn", "act1"])
    calls = []
    original = model.get_layer("conv1").call
    model.get_layer("conv1").call = lambda *a, **k: (
        calls.append(1) or original(*a, **k)
    )
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    taps(IMAGES, training=True)
    other(IMAGES, training=True)
    assert len(calls) == 1
    for got, expected in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert "call" not in model.get_layer("bn").__dict__


def test_nothing_left_behind_after_an_error():
    model = convnet()
    with pytest.raises(Exception):
        Taps(model, ["act1"])(np.ones((2, 5)))
    assert "call" not in model.get_layer("act1").__dict__


def test_training_flag_and_gradient_pass_through_a_tap():
    inputs = keras.Input((4,))
    x = layers.Dropout(0.5, name="drop", seed=1)(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    taps = Taps(model, ["drop"])
    ones = np.ones((8, 4), "float32")
    np.testing.assert_array_equal(taps(ones)[1]["drop"], ones)
    assert np.any(taps(ones, training=True)[1]["drop"] == 0)
    x = tf.constant(ones)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(taps(x)[1]["drop"])
    np.testing.assert_array_equal(tape.gradient(total, x), ones)


def test_unknown_name_lists_the_nearest():
    with pytest.raises(ValueError, match=r"no layer 'conv9'.*'conv1'"):
        Taps(convnet(), ["conv9"], "teacher")


def test_ambiguous_name_lists_the_paths():
    inputs = keras.Input((8, 8, 3))
    first = convnet(name="left")(inputs)
    second = convnet(name="right")(inputs)
    model = keras.Model(inputs, layers.Add()([first, second]))
    with pytest.raises(ValueError, match="left/act1.*right/act1"):
        Taps(model, ["act1"])
    assert Taps(model, ["left/act1"])(IMAGES)[1]["left/act1"] is not None


def test_layer_that_does_not_run_and_layer_with_several_tensors():
    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = layers.Dense(1, name="used")
            self.idle = layers.Dense(1, name="idle")

        def call(self, x):
            return self.used(x)

    model = Idle()
    model(np.ones((1, 2)))
    with pytest.raises(ValueError, match="'idle'.*did not run"):
        Taps(model, ["idle"])(np.ones((1, 2)))

    inputs = keras.Input((5, 3))
    out = layers.LSTM(4, return_state=True, name="lstm")(inputs)
    model = keras.Model(inputs, out[0])
    with pytest.raises(ValueError, match="'lstm'.*returns 3 .*return_state"):
        Taps(model, ["lstm"])(np.ones((1, 5, 3)))


@pytest.mark.parametrize("nested", (False, True))
def test_a_layer_of_several_outputs_names_those_inside(nested):
    class Pair(layers.Layer):
        def __init__(self):
            super().__init__(name="pair")
            self.first = layers.Dense(2, name="first")
            self.low = layers.Dense(2, name="low")
            self.high = layers.Dense(2, name="high")

        def call(self, x):
            return self.low(self.first(x)), self.high(self.first(x))

    x = keras.Input((3,))
    pair = Pair()
    if nested:
        x_inside = keras.Input((3,))
        pair = keras.Model(x_inside, Pair.call(pair, x_inside), name="pair")
    model = keras.Model(x, layers.Add()(list(pair(x))))
    expected = r"2 tensors.*\['pair/low', 'pair/high'\]"
    with pytest.raises(ValueError, match=expected):
        Taps(model, ["pair"])(np.ones((1, 3)))
    _, taken = Taps(model, ["pair/low"])(np.ones((1, 3)))
    assert taken["pair/low"].shape == (1, 2)


def test_rematerialized_layer_is_refused():
    inputs = keras.Input((4,))
    with keras.RematScope(mode="full"):
        x = layers.Dense(3, name="remat")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(ValueError, match="RematScope"):
        Taps(model, ["remat"])


def test_layer_paths_lists_layers_inside_layers():
    inputs = keras.Input((5, 8, 8, 3))
    x = layers.TimeDistributed(layers.Conv2D(2, 1, name="c"), name="td")(inputs)
    paths = layer_paths(keras.Model(inputs, x))
    assert "td/c" in paths


@pytest.mark.parametrize(
    "name, message",
    [
        ("conv", "Layer 'conv' .* is called 2 times"),
        ("conv#2", "there is no #2"),
        ("idle", "Layer 'idle' .* did not run"),
    ],
)
def test_a_look_at_shapes_gives_the_error_itself(name, message):
    model, _ = shared()
    model.idle = layers.Dense(2, name="idle")
    with pytest.raises(ValueError, match=message) as error:
        Taps(model, [name]).shapes()
    assert str(error.value).startswith("Layer '")
