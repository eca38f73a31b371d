"""The int8 network of a student: what is rounded, and to what."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_distill as kd
from keras_distill.quantization.fake_quantize import QuantizedWeights
from keras_distill.quantization.ranges import range_layers

MAP = (8, 8, 3)
RNG = np.random.default_rng(0)


def sequence(shape, *of_layers):
    return keras.Sequential([keras.Input(shape, name="image"), *of_layers])


def with_statistics(model):
    """Gives batch norms statistics, and scales of both signs."""
    rng = np.random.default_rng(1)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(size=size) * 0.1)
            layer.moving_variance.assign(rng.uniform(0.3, 2.0, size))
            layer.gamma.assign(rng.normal(size=size))
            layer.beta.assign(rng.normal(size=size) * 0.3)
    return model


def images(model, samples=32):
    shape = tuple(model.inputs[0].shape[1:])
    return RNG.normal(size=(samples, *shape)).astype("float32")


def conv(filters=6, **arguments):
    return layers.Conv2D(filters, 3, padding="same", **arguments)


def adapted():
    layer = layers.Normalization()
    layer.adapt(RNG.normal(2.0, 3.0, size=(50, *MAP)))
    return layer


def three_added():
    x = image = keras.Input(MAP)
    x = conv()(x)
    x = layers.Add()([x, conv()(image), layers.Activation("silu")(x)])
    return keras.Model(image, layers.ReLU()(x))


def concatenated():
    image = keras.Input(MAP)
    x = conv()(image)
    parts = [x, layers.Activation("sigmoid")(x), layers.Activation("tanh")(x)]
    return keras.Model(image, layers.Concatenate()(parts))


def squeezed():
    image = keras.Input(MAP)
    x = conv(activation="hard_silu")(image)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.ReLU(6.0)(conv()(gate) + 3.0) * (1 / 6)
    return keras.Model(image, layers.Multiply()([x, gate]))


def called_twice():
    image = keras.Input(MAP)
    shared = conv(3)
    nested = sequence((8, 8, 3), conv(3), layers.BatchNormalization())
    x = shared(layers.ReLU()(shared(image)))
    return keras.Model(image, nested(nested(x)))


STUDENTS = {
    "batch norm": lambda: sequence(
        MAP,
        conv(use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.BatchNormalization(),
        layers.Activation("relu6"),
        layers.Flatten(),
        layers.Dense(8),
        layers.BatchNormalization(),
        layers.Dense(4),
    ),
    "batch norm alone": lambda: sequence(
        MAP,
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Reshape((64, 3)),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.BatchNormalization(),
    ),
    "rescaling": lambda: sequence(MAP, layers.Rescaling(0.5, -1.0), conv()),
    "normalization": lambda: sequence(MAP, adapted(), conv()),
    "separable": lambda: sequence(
        MAP, layers.SeparableConv2D(6, 3, activation="relu")
    ),
    "sequences": lambda: sequence(
        (16, 3),
        layers.Conv1D(6, 3, padding="causal", activation="relu"),
        layers.Conv1D(6, 3, strides=2),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.SeparableConv1D(4, 3, padding="same"),
        layers.DepthwiseConv1D(3, dilation_rate=2),
    ),
    "activations": lambda: sequence(
        MAP,
        conv(activation="hard_sigmoid"),
        conv(activation="leaky_relu"),
        layers.PReLU(),
        layers.Conv2D(5, 1, activation="softmax"),
    ),
    "moved": lambda: sequence(
        MAP,
        conv(),
        layers.ZeroPadding2D(),
        layers.MaxPooling2D(),
        layers.UpSampling2D(2, interpolation="bilinear"),
        layers.Resizing(6, 6),
        layers.AveragePooling2D(2),
        layers.Permute((2, 1, 3)),
        layers.Dropout(0.5),
        layers.GlobalMaxPooling2D(),
    ),
    "three added": three_added,
    "concatenated": concatenated,
    "squeezed": squeezed,
    "called twice": called_twice,
}


@pytest.mark.parametrize("name", STUDENTS)
def test_it_computes_what_the_student_does(name):
    student = with_statistics(STUDENTS[name]())
    before = student.get_weights()
    x = images(student)
    expected = keras.ops.convert_to_numpy(student(x, training=False))
    aware = kd.quantization.aware(student, calibration_data=x)
    actual = keras.ops.convert_to_numpy(aware(x, training=False))
    assert actual.shape == expected.shape
    # Eight bits: a few of 256 steps off, and not equal.
    error = np.abs(actual - expected).max() / np.ptp(expected)
    assert 0.0 < error < 0.05
    for weight, same in zip(student.get_weights(), before):
        np.testing.assert_array_equal(weight, same)


def test_several_inputs_and_outputs_keep_their_names():
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    both = layers.Concatenate()([one, two])
    outputs = {"a": layers.Dense(3)(both), "b": layers.Dense(2)(both)}
    student = keras.Model({"one": one, "two": two}, outputs)
    x = {
        key: RNG.normal(size=(32, 4)).astype("float32") for key in student.input
    }
    aware = kd.quantization.aware(student, calibration_data=x)
    actual, expected = (
        aware.predict(x, verbose=0),
        student.predict(x, verbose=0),
    )
    assert actual.keys() == expected.keys()
    for key in expected:
        np.testing.assert_allclose(actual[key], expected[key], atol=0.1)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_are_symmetric_integers_of_their_channel(bits):
    layer = layers.DepthwiseConv2D(3, depth_multiplier=2)
    layer.build((None, 8, 8, 3))
    kernel = RNG.normal(size=layer.kernel.shape).astype("float32")
    layer.kernel.assign(kernel)
    rounded = QuantizedWeights(layer, bits, channel_axes=2).quantized_kernel()
    greatest = 2 ** (bits - 1) - 1
    scale = np.abs(kernel).max((0, 1)) / greatest
    expected = np.round(kernel / scale)
    assert np.abs(expected).max() == greatest
    np.testing.assert_allclose(rounded, expected * scale, rtol=1e-5, atol=1e-6)


def test_one_scale_for_a_dense_layer():
    student = sequence((4,), layers.Dense(3, name="head"))
    aware = kd.quantization.aware(student)
    kernel = np.array(student.get_layer("head").kernel)
    scale = np.abs(kernel).max() / 127
    rounded = aware.get_layer("head_unrounded").quantized_kernel()
    np.testing.assert_allclose(
        rounded, np.round(kernel / scale) * scale, rtol=1e-5, atol=1e-7
    )


def test_batch_norm_and_relu_are_part_of_the_layer_before():
    student = STUDENTS["batch norm"]()
    aware = kd.quantization.aware(student)
    kinds = [type(layer).__name__ for layer in aware.layers]
    assert "BatchNormalization" not in kinds
    # input, convolution, depthwise, two dense layers
    assert kinds.count("FakeQuantize") == 5


def test_what_is_concatenated_has_one_range():
    student = concatenated()
    aware = kd.quantization.aware(student, calibration_data=images(student))
    by_name = {layer.name: layer for layer in range_layers(aware)}
    fixed = [layer.value_range for layer in by_name.values()]
    assert fixed.count(None) == 2  # the image, and all parts
    assert (0.0, 255 / 256) in fixed and (-1.0, 127 / 128) in fixed


def test_outputs_and_activations_keep_their_names():
    image = keras.Input(MAP)
    x = conv(name="features", activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(x)
    heads = [
        layers.Dense(3, name="species")(x),
        layers.Dense(2, activation="softmax", name="colour")(x),
    ]
    student = keras.Model(image, heads)
    aware = kd.quantization.aware(student, calibration_data=images(student))
    assert aware.output_names == student.output_names
    assert isinstance(aware.get_layer("features"), layers.ReLU)


def test_what_only_rescales_is_not_trained():
    student = sequence(MAP, layers.Rescaling(1 / 255), conv())
    aware = kd.quantization.aware(student)
    assert len(aware.trainable_weights) == len(student.trainable_weights)


class Odd(layers.BatchNormalization):
    def call(self, x, **arguments):
        return 5.0 * super().call(x, **arguments)


def test_a_subclass_of_a_known_layer_is_not_taken_for_it():
    with pytest.raises(ValueError, match="No rule says how the Odd layer"):
        kd.quantization.aware(sequence(MAP, conv(), Odd()))
    with pytest.raises(ValueError, match="No rule says how the Lambda layer"):
        kd.quantization.aware(sequence(MAP, layers.Lambda(lambda x: 2 * x)))


def test_names_that_keras_gives_do_not_clash():
    image = keras.Input(MAP, name="image")
    shared, relu = conv(3, activation="relu"), layers.Activation("relu")
    x = relu(shared(shared(inputs=image)))
    x = layers.Add(name="add")([x, image, relu(image)])
    x = layers.Activation("hard_sigmoid")(layers.Add(name="add_1")([x, x]))
    student = keras.Model(image, x)
    x = images(student)
    aware = kd.quantization.aware(student, calibration_data=x)
    np.testing.assert_allclose(aware(x), student(x), atol=0.05)


def test_a_rule_of_the_user():
    class Doubled(layers.Layer):
        def call(self, x):
            return 2.0 * x

    student = sequence((4,), layers.Dense(3), Doubled(name="mine"))
    with pytest.raises(ValueError, match=r"Doubled layer 'mine'.*rule\(Doubl"):
        kd.quantization.aware(student)

    @kd.quantization.rule(Doubled)
    def doubled(quantizer, layer, x):
        return layer(x)

    x = images(student)
    aware = kd.quantization.aware(student, calibration_data=x)
    np.testing.assert_allclose(aware(x), student(x), atol=0.2)


def lstm():
    return sequence((5, 3), layers.LSTM(4))


class Subclass(keras.Model):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(3,))

    def call(self, x):
        return x * self.kernel


def subclass():
    model = Subclass()
    model.build((None, 3))
    return model


@pytest.mark.parametrize(
    "student, arguments, words",
    [
        (lstm, {}, 'Recurrent layers.*quantization="int8"'),
        (subclass, {}, "subclass of keras.Model.*Functional"),
        (lambda: keras.Sequential([layers.Dense(3)]), {}, "not built"),
        (
            lambda: kd.quantization.aware(sequence((4,), layers.Dense(3))),
            {},
            "rounds already",
        ),
        (
            lambda: sequence((4,), layers.Dense(3, activation="gelu")),
            {},
            "activation gelu",
        ),
        (
            lambda: sequence(MAP, layers.BatchNormalization(axis=1)),
            {},
            "last axis",
        ),
        (lambda: sequence((4,), layers.Dense(3)), {"weights": 1}, "`weights`"),
        (lambda: sequence((4,), layers.Dense(3)), {"weights": 9}, "`weights`"),
        (
            lambda: sequence((4,), layers.Dense(3)),
            {"activations": 16},
            "`activations`",
        ),
    ],
)
def test_what_cannot_be_quantized(student, arguments, words):
    with pytest.raises(ValueError, match=words):
        kd.quantization.aware(student(), **arguments)
