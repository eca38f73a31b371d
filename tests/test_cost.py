import warnings

import keras
import numpy as np
import pytest
from networks import Subclassed
from networks import convnet

from keras_distill.cost import cost_of_one_sample
from keras_distill.cost import multiply_accumulates

layers = keras.layers


def of(layer, *shape, dtype="float32"):
    """The count of a model of one layer."""
    inputs = keras.Input(shape, dtype=dtype)
    return multiply_accumulates(keras.Model(inputs, layer(inputs)))


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Dense(5), (7,), 7 * 5),
        (layers.Dense(5, use_bias=False), (4, 7), 4 * 7 * 5),
        (layers.Conv1D(6, 3), (10, 4), 8 * 3 * 4 * 6),
        (layers.Conv2D(6, (3, 5)), (10, 10, 4), 8 * 6 * 15 * 4 * 6),
        (
            layers.Conv2D(6, 3, 2, padding="same", groups=2),
            (9, 9, 4),
            25 * 9 * 2 * 6,
        ),
        (
            layers.Conv2D(6, 3, dilation_rate=2, padding="same"),
            (8, 8, 4),
            64 * 9 * 4 * 6,
        ),
        (layers.Conv3D(2, 3), (5, 5, 5, 3), 27 * 27 * 3 * 2),
        (
            layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
            (8, 8, 4),
            64 * 9 * 4 * 2,
        ),
        (layers.DepthwiseConv1D(3), (10, 4), 8 * 3 * 4),
        (
            layers.SeparableConv2D(6, 3, padding="same", depth_multiplier=2),
            (8, 8, 4),
            64 * (9 * 8 + 8 * 6),
        ),
        (layers.SeparableConv1D(6, 3), (10, 4), 8 * (3 * 4 + 4 * 6)),
        (
            layers.Conv2DTranspose(6, 3, 2, padding="same"),
            (8, 8, 4),
            64 * 9 * 4 * 6,
        ),
        (layers.Conv1DTranspose(6, 3), (8, 4), 8 * 3 * 4 * 6),
        (layers.EinsumDense("abc,cd->abd", (5, 6)), (5, 7), 5 * 7 * 6),
        (
            layers.EinsumDense("...c,cd->...d", 6),
            (5, 6, 7),
            30 * 7 * 6,
        ),
        (
            layers.EinsumDense("abhd,hdc->abc", (5, 4)),
            (5, 2, 3),
            5 * 2 * 3 * 4,
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_one_layer_by_hand(layer, shape, expected):
    assert of(layer, *shape) == expected


def test_channels_first():
    # No CPU kernel is needed: nothing is computed.
    layer = layers.Conv2D(6, 3, data_format="channels_first")
    assert of(layer, 4, 10, 10) == 64 * 9 * 4 * 6


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize(
    ("layer", "gates"),
    [(layers.LSTM, 4), (layers.GRU, 3), (layers.SimpleRNN, 1)],
)
def test_recurrent_layers_per_time_step(layer, gates, unroll):
    expected = 5 * gates * 6 * (8 + 6)
    assert of(layer(6, unroll=unroll), 5, 8) == expected


def test_recurrent_wrappers_and_cells():
    step = 4 * 6 * (8 + 6)
    assert of(layers.Bidirectional(layers.LSTM(6)), 5, 8) == 2 * 5 * step
    stacked = [layers.LSTMCell(6), layers.GRUCell(3)]
    assert of(layers.RNN(stacked), 5, 8) == 5 * (step + 3 * 3 * (6 + 3))
    convolutional = layers.ConvLSTM2D(4, 3, padding="same")
    assert of(convolutional, 5, 8, 8, 3) == 5 * 64 * 9 * 4 * 4 * (3 + 4)
    assert of(layers.TimeDistributed(layers.Dense(2)), 5, 8) == 5 * 8 * 2


def test_a_cell_of_ones_own_counts_by_the_layers_it_calls():
    class Cell(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.state_size = 3
            self.dense = layers.Dense(3)

        def build(self, input_shape):
            self.dense.build((None, 11))

        def call(self, x, states):
            h = self.dense(keras.ops.concatenate([x, states[0]], -1))
            return h, [h]

    assert of(layers.RNN(Cell()), 5, 8) == 5 * 11 * 3


def test_attention_layers():
    inputs = keras.Input((5, 8))
    memory = keras.Input((7, 6))
    attention = layers.MultiHeadAttention(2, key_dim=4, value_dim=3)
    model = keras.Model([inputs, memory], attention(inputs, value=memory))
    projections = 5 * 8 * 8 + 7 * 6 * 8 + 7 * 6 * 6 + 5 * 6 * 8
    products = 2 * 5 * 7 * (4 + 3)
    assert multiply_accumulates(model) == projections + products

    grouped = layers.GroupQueryAttention(4, 4, 2)
    model = keras.Model(inputs, grouped(inputs, inputs))
    projections = 5 * 8 * (16 + 8 + 8) + 5 * 16 * 8
    assert multiply_accumulates(model) == projections + 4 * 5 * 5 * (4 + 4)

    assert of(layers.Lambda(lambda x: x), 5, 8) == 0
    values = keras.Input((7, 8))
    model = keras.Model([inputs, values], layers.Attention()([inputs, values]))
    assert multiply_accumulates(model) == 5 * 7 * (8 + 8)


def test_what_is_no_product_of_weights_counts_nothing():
    inputs = keras.Input((8, 8, 4))
    x = layers.BatchNormalization()(inputs)
    x = layers.PReLU()(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Add()([x, x])
    x = layers.GlobalAveragePooling2D()(layers.UpSampling2D()(x))
    x = layers.Dropout(0.5)(layers.LayerNormalization()(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert multiply_accumulates(keras.Model(inputs, x)) == 0
        assert of(layers.Embedding(100, 8), 5, dtype="int32") == 0


# 8x8 images, width 4: conv1, conv2 with stride 2, head.
CONVNET = 64 * 9 * 3 * 4 + 16 * 9 * 4 * 8 + 8 * 4


def test_nested_models():
    inner = convnet()
    inputs = keras.Input((8, 8, 3))
    outer = keras.Model(inputs, layers.Dense(2)(inner(inputs)))
    assert multiply_accumulates(inner) == CONVNET
    assert multiply_accumulates(outer) == CONVNET + 4 * 2
    sequential = keras.Sequential([keras.Input((8, 8, 3)), inner])
    assert multiply_accumulates(sequential) == CONVNET


def test_a_shared_layer_counts_once_per_call_and_an_unused_one_not():
    inputs = keras.Input((8,))
    dense = layers.Dense(8)
    once = dense(inputs)
    keras.Model(inputs, layers.Dense(100)(once))
    assert multiply_accumulates(keras.Model(inputs, dense(once))) == 128


def test_subclassed_models():
    model = Subclassed()
    with pytest.raises(ValueError, match="not built"):
        multiply_accumulates(model, (8, 8, 3))
    model(np.zeros((2, 8, 8, 3), "float32"))
    expected = 64 * 9 * 3 * 4 + 4 * 4
    assert multiply_accumulates(model) == expected
    assert multiply_accumulates(model, (8, 8, 3)) == expected
    bigger = multiply_accumulates(model, (None, 16, 16, 3))
    assert bigger == 256 * 9 * 3 * 4 + 4 * 4


def test_a_subclassed_model_of_several_inputs_needs_shapes():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.left, self.right = layers.Dense(3), layers.Dense(3)

        def call(self, x):
            return self.left(x["a"]) + self.right(x["b"])

    model = Two()
    model({"a": np.zeros((1, 4)), "b": np.zeros((1, 5))})
    shapes = {"a": (4,), "b": (5,)}
    assert multiply_accumulates(model, shapes) == 27
    specs = {k: keras.KerasTensor((None, *v)) for k, v in shapes.items()}
    assert multiply_accumulates(model, specs) == 27


def test_unknown_input_shapes_are_said():
    free = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 1)])
    with pytest.raises(ValueError, match="free sizes.*input_shape"):
        multiply_accumulates(free)
    assert multiply_accumulates(free, (4, 6, 3)) == 24 * 3 * 2

    class Silent(Subclassed):
        def get_build_config(self):
            return None

    model = Silent()
    model(np.zeros((2, 8, 8, 3), "float32"))
    with pytest.raises(ValueError, match="does not know its input shape"):
        multiply_accumulates(model)
    with pytest.raises(TypeError, match="must be a keras.Model"):
        multiply_accumulates(layers.Dense(3))


def test_a_layer_that_cannot_be_counted_is_named():
    class Own(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 2))

        def call(self, x):
            return x @ self.kernel

    with pytest.warns(UserWarning, match="'own'.*Own"):
        assert of(Own(name="own"), 8) == 0


@pytest.mark.parametrize(
    ("kind", "arguments", "shape", "dtype"),
    [
        (layers.Conv2D, (6, 3), (8, 8, 4), "float32"),
        (layers.Conv2DTranspose, (6, 3), (8, 8, 4), "float32"),
        (layers.DepthwiseConv2D, (3,), (8, 8, 4), "float32"),
        (layers.SeparableConv2D, (6, 3), (8, 8, 4), "float32"),
        (layers.Embedding, (6, 3), (8,), "int32"),
    ],
)
def test_arguments_of_a_subclass_do_not_matter(kind, arguments, shape, dtype):
    class Own(kind):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs)

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.own = Own(*arguments)

        def call(self, x):
            return self.own(x, training=False)

    net = Net()
    net(np.zeros((1, *shape), dtype))
    expected = of(kind(*arguments), *shape, dtype=dtype)
    given = keras.KerasTensor((1, *shape), dtype)
    assert multiply_accumulates(net, given) == expected


@pytest.mark.parametrize("dtype", ["U", "S", object])
def test_a_model_of_strings(dtype):
    words = keras.Input((3,), dtype="string")
    ids = layers.StringLookup(vocabulary=["a", "b"])(words)
    h = layers.Dense(2)(layers.Flatten()(layers.Embedding(3, 4)(ids)))
    x = np.array([["a", "b", "c"]], dtype)
    assert cost_of_one_sample(keras.Model(words, h), x) == 3 * 4 * 2


def test_a_quantized_model_costs_the_same():
    model = convnet()
    model.quantize("int8")
    assert multiply_accumulates(model) == CONVNET


@pytest.mark.slow
def test_mobilenet_v2_as_published():
    # Sandler et al. 2018, table 4: 300 million at 224 x 224, width 1.
    model = keras.applications.MobileNetV2(weights=None)
    assert multiply_accumulates(model) == pytest.approx(300.8e6, rel=1e-3)


def test_counting_leaves_no_trace():
    model = convnet(batch_norm=True)
    weights = model.get_weights()
    multiply_accumulates(model)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert not any("call" in vars(layer) for layer in [model, *model.layers])
