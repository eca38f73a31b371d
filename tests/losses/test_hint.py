"""Hint and its connectors: pooling, regressors, both forms, saving."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_distill.losses import Hint
from keras_distill.losses import ReusedClassifier
from keras_distill.losses import SoftmaxRegression
from keras_distill.losses.connectors import conv_bn
from keras_distill.losses.connectors import conv_bn_relu
from keras_distill.losses.connectors import make_regressor
from keras_distill.losses.feature.paraphraser import translator
from keras_distill.losses.ops.pooling import adaptive_average_pool
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.own_layers.early_exits import make_bottleneck


def hint(**kwargs):
    return Hint(
        **{"teacher_layer_name": "t", "student_layer_name": "s", **kwargs}
    )


def built(teacher, student, **kwargs):
    loss = hint(**kwargs)
    loss.build(np.shape(teacher), np.shape(student))
    return loss


def features(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def value(loss, teacher, student, **kwargs):
    return float(loss.compute_loss(teacher, student, **kwargs))


def arrays(layer):
    return [w.numpy().astype("float64") for w in layer.weights]


# Pooling.


def pooled(x, height, width):
    """The definition, cell by cell."""
    rows, columns = x.shape[1:3]
    result = np.zeros((x.shape[0], height, width, x.shape[3]))
    for i in range(height):
        top = int(np.floor(i * rows / height))
        bottom = int(np.ceil((i + 1) * rows / height))
        for j in range(width):
            left = int(np.floor(j * columns / width))
            right = int(np.ceil((j + 1) * columns / width))
            window = x[:, top:bottom, left:right]
            result[:, i, j] = window.mean(axis=(1, 2))
    return result


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
    "size, target",
    [
        ((6, 8), (3, 2)),  # divides
        ((7, 7), (4, 2)),  # windows overlap
        ((5, 9), (1, 1)),
        ((6, 5), (3, 4)),  # one axis divides
        ((6, 5), (6, 2)),  # one axis stays
        ((4, 4), (4, 4)),
    ],
)
def test_adaptive_average_pool(size, target, jit):
    x = features(2, *size, 3)
    pool = tf.function(
        lambda x: adaptive_average_pool(x, *target), jit_compile=jit
    )
    result = pool(tf.constant(x))
    assert result.dtype == "float64"
    np.testing.assert_allclose(result, pooled(x, *target), atol=1e-12)


def test_match_spatial_pools_the_larger_per_axis():
    a, b = features(2, 7, 4, 3), features(2, 5, 6, 2)
    small_a, small_b = match_spatial(tf.constant(a), tf.constant(b))
    np.testing.assert_allclose(small_a, pooled(a, 5, 4), atol=1e-12)
    np.testing.assert_allclose(small_b, pooled(b, 5, 4), atol=1e-12)


def test_match_spatial_of_unknown_sizes():
    def shapes(*shapes):
        specs = [tf.TensorSpec(shape, "float32") for shape in shapes]
        traced = tf.function(match_spatial).get_concrete_function(*specs)
        return [tuple(x.shape) for x in traced.structured_outputs]

    unknown = (None, None, None, 3)
    assert shapes(unknown, unknown) == [unknown, unknown]
    with pytest.raises(ValueError, match="sizes must be known.*4, 4, 3"):
        shapes(unknown, (None, 4, 4, 3))


# Values.


def test_mean_is_over_all_elements_and_paper_is_half_the_squared_norm():
    teacher, student = features(2, 3, 4, 5), features(2, 3, 4, 5, seed=1)
    squares = (teacher - student) ** 2
    mean = value(built(teacher, student), teacher, student)
    np.testing.assert_allclose(mean, squares.mean())
    paper = value(built(teacher, student, form="paper"), teacher, student)
    np.testing.assert_allclose(paper, 0.5 * squares.sum() / 2)
    np.testing.assert_allclose(paper / mean, 3 * 4 * 5 / 2)


def test_gradient_of_the_student_only():
    teacher = tf.constant(features(2, 3, 4, 5))
    student = tf.constant(features(2, 3, 4, 5, seed=1))
    loss = built(teacher, student)
    with tf.GradientTape() as tape:
        tape.watch([teacher, student])
        result = loss.compute_loss(teacher, student)
    of_teacher, of_student = tape.gradient(result, [teacher, student])
    assert of_teacher is None
    np.testing.assert_allclose(
        of_student, 2 * (student - teacher) / student.numpy().size
    )


def test_conv1x1_is_a_matrix_product_over_the_channels():
    teacher, student = features(2, 3, 4, 6), features(2, 3, 4, 5, seed=1)
    loss = built(teacher, student)
    (layer,) = loss.regressors.values()
    assert isinstance(layer, layers.Conv2D)
    layer.bias.assign(features(6, seed=2))
    kernel, bias = arrays(layer)
    regressed = student @ kernel[0, 0] + bias
    np.testing.assert_allclose(
        value(loss, teacher, student),
        np.mean((teacher - regressed) ** 2),
        rtol=1e-5,
    )


def test_conv_bn_relu_uses_the_statistics_of_the_batch():
    teacher, student = features(4, 3, 4, 6), features(4, 3, 4, 5, seed=1)
    loss = built(teacher, student, regressor="conv_bn_relu", dtype="float64")
    convolution, norm, _ = loss.regressors[0].layers
    assert norm.synchronized
    assert {w.dtype for w in loss.weights} == {"float64"}
    norm.gamma.assign(features(6, seed=2))
    norm.beta.assign(features(6, seed=3))
    kernel, bias = arrays(convolution)
    x = student @ kernel[0, 0] + bias
    axes = (0, 1, 2)
    x = (x - x.mean(axis=axes)) / np.sqrt(x.var(axis=axes) + 1e-5)
    x = np.maximum(x * norm.gamma.numpy() + norm.beta.numpy(), 0.0)
    expected = np.mean((teacher - x) ** 2)
    np.testing.assert_allclose(value(loss, teacher, student), expected)


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_vectors_and_sequences_get_a_dense_layer(shape):
    teacher, student = features(2, *shape[:-1], 6), features(2, *shape)
    loss = built(teacher, student)
    kernel, bias = arrays(loss.regressors[0])
    expected = np.mean((teacher - student @ kernel - bias) ** 2)
    np.testing.assert_allclose(
        value(loss, teacher, student), expected, rtol=1e-5
    )


def test_a_map_is_averaged_to_meet_a_vector():
    teacher, student = features(2, 5), features(2, 3, 4, 5, seed=1)
    loss = built(teacher, student)
    assert loss.weights == []
    average = student.mean(axis=(1, 2))
    np.testing.assert_allclose(
        value(loss, teacher, student),
        np.mean((teacher - average) ** 2),
        rtol=1e-5,
    )
    teacher = features(2, 7)
    loss = built(teacher, student)
    kernel, bias = arrays(loss.regressors[0])
    np.testing.assert_allclose(
        value(loss, teacher, student),
        np.mean((teacher - average @ kernel - bias) ** 2),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "teacher_size, student_size", [((3, 2), (6, 5)), ((6, 5), (3, 2))]
)
def test_the_larger_map_is_pooled(teacher_size, student_size):
    teacher = features(2, *teacher_size, 5)
    student = features(2, *student_size, 5, seed=1)
    expected = np.mean((pooled(teacher, 3, 2) - pooled(student, 3, 2)) ** 2)
    loss = built(teacher, student)
    np.testing.assert_allclose(value(loss, teacher, student), expected)


def test_several_pairs_are_weighted_and_taken_by_name():
    teacher = {"b": features(2, 3, 4, 5), "a": features(2, 7)}
    student = {"y": features(2, 3, 4, 5, seed=1), "z": features(2, 7, seed=2)}
    loss = hint(
        teacher_layer_name=["b", "a"],
        student_layer_name=["y", "z"],
        layer_weights=[2.0, 0.5],
    )
    loss.build(
        {name: x.shape for name, x in teacher.items()},
        {name: x.shape for name, x in student.items()},
    )
    expected = 2.0 * np.mean((teacher["b"] - student["y"]) ** 2)
    expected += 0.5 * np.mean((teacher["a"] - student["z"]) ** 2)
    np.testing.assert_allclose(value(loss, teacher, student), expected)
    # The order of the dict does not matter.
    ordered = dict(sorted(teacher.items()))
    assert list(ordered) != list(teacher)
    np.testing.assert_allclose(value(loss, ordered, student), expected)


# Weights.


@pytest.mark.parametrize("form", ["mean", "paper"])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_sample_weight(form, shape):
    teacher, student = features(3, *shape), features(3, *shape, seed=1)
    squares = (teacher - student) ** 2
    each = squares.reshape(3, -1).mean(axis=1)
    if form == "paper":
        each = 0.5 * squares.reshape(3, -1).sum(axis=1)
    weight = np.array([0.0, 0.5, 2.0])
    loss = built(teacher, student, form=form)
    np.testing.assert_allclose(
        value(loss, teacher, student, sample_weight=weight),
        np.sum(weight * each) / 3,
    )


def test_weight_per_position():
    teacher, student = features(2, 3, 5), features(2, 3, 5, seed=1)
    squares = (teacher - student) ** 2
    mask = np.array([[True, True, False], [True, False, False]])
    kept = squares[mask].sum()
    weighted = {"sample_weight": mask}
    np.testing.assert_allclose(
        value(built(teacher, student), teacher, student, **weighted),
        kept / squares.size,
    )
    loss = built(teacher, student, form="paper")
    np.testing.assert_allclose(
        value(loss, teacher, student, **weighted), 0.5 * kept / 2
    )


# Precision.


@pytest.mark.parametrize("regressor", ["auto", "conv_bn_relu"])
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_costs_nothing(half, regressor):
    teacher = tf.cast(features(2, 3, 3, 4), half)
    student = tf.cast(features(2, 3, 3, 5, seed=1), half)
    keras.config.set_dtype_policy(f"mixed_{half}")
    loss = built(teacher, student, regressor=regressor)
    assert {w.dtype for w in loss.weights} == {"float32"}
    result = loss.compute_loss(teacher, student)
    assert result.dtype == "float32"
    keras.config.set_dtype_policy("float32")
    wide = loss.compute_loss(
        tf.cast(teacher, "float32"), tf.cast(student, "float32")
    )
    np.testing.assert_allclose(result, wide, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("regressor", [None, "conv1x1", "conv_bn_relu"])
def test_extreme_features_are_finite(dtype, regressor):
    signs = np.sign(features(2, 3, 3, 4))
    for extreme in (1e4 * signs, np.zeros_like(signs)):
        teacher = tf.cast(extreme, dtype)
        student = tf.cast(-extreme, dtype)
        loss = built(teacher, student, regressor=regressor)
        with tf.GradientTape() as tape:
            tape.watch(student)
            result = loss.compute_loss(teacher, student)
        weights = [w.value for w in loss.trainable_variables]
        for gradient in tape.gradient(result, [student, *weights]):
            assert np.isfinite(tf.cast(gradient, "float32")).all()
        assert np.isfinite(result)


# Errors.


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"regressor": "linear"}, "regressor must be .*None.*'linear'"),
        ({"form": "sum"}, "form must be one of 'mean', 'paper'.*'sum'"),
        ({"teacher_layer_name": ["a", "b"]}, "pairs layers one to one"),
        ({"layer_weights": [1.0, 2.0]}, "one weight per pair"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        hint(**arguments)


@pytest.mark.parametrize(
    "regressor, teacher, student, way_out",
    [
        ("auto", (None, 4, 4, 8), (None, 8), "tap the student before"),
        (None, (None, 8), (None, 4, 4, 8), 'regressor="auto" or "dense"'),
        ("conv1x1", (None, 8), (None, 4, 4, 5), 'regressor="auto" or "dense"'),
        (None, (None, 4, 4, 8), (None, 4, 4, 5), 'regressor="auto"'),
        ("conv1x1", (None, 9, 8), (None, 9, 5), 'regressor="dense"'),
        ("conv_bn_relu", (None, 8), (None, 5), 'regressor="dense"'),
        ("auto", (None, 9, 8), (None, 7, 8), "tap other layers"),
        ("auto", (None, 9, 8), (None, 3, 3, 8), "tap other layers"),
        ("auto", (None, 4, 4, None), (None, 4, 4, 8), "channels must be known"),
        ("auto", (None, 8), (None, None), "channels must be known"),
        ("auto", (None,), (None,), "channels must be known"),
    ],
)
def test_shapes_that_cannot_be_joined(regressor, teacher, student, way_out):
    with pytest.raises(ValueError, match=f"(?s){way_out}") as error:
        hint(regressor=regressor).build(teacher, student)
    assert f"teacher {teacher}, student {student}" in str(error.value)


@pytest.mark.parametrize(
    "several", [{"a": (None, 8), "b": (None, 8)}, [(None, 8), (None, 3)]]
)
def test_several_outputs_need_a_name(several):
    message = "output is several tensors.*teacher_layer_name="
    with pytest.raises(ValueError, match=message):
        hint(teacher_layer_name=None).build(several, (None, 8))


@pytest.mark.parametrize(
    "kind, teacher, student",
    [
        ("auto", (None, None, None, 8), (None, 7, 7, 8)),
        (None, (None, 9, 8), (None, None, 8)),
        (None, (None, 4, 4, 8), (None, 7, 7, 8)),
    ],
)
def test_no_regressor_where_channels_agree(kind, teacher, student):
    assert make_regressor(kind, teacher, student) is None


@pytest.mark.parametrize(
    "kind, teacher, student",
    [
        ("conv1x1", (None, 4, 4, 8), (None, 4, 4, 8)),
        ("dense", (None, 4, 4, 8), (None, 4, 4, 8)),
        ("dense", (None, 8), (None, 8)),
        ("dense", (None, 8), (None, 4, 4, 8)),
        ("auto", (None, None, None, 8), (None, None, None, 5)),
        ("conv_bn_relu", (None, None, None, 8), (None, None, None, 5)),
    ],
)
def test_a_regressor_that_is_asked_for(kind, teacher, student):
    regressor = make_regressor(kind, teacher, student, dtype="float64")
    sizes = [n or 3 for n in student[1:]]
    result = regressor(features(2, *sizes), training=True)
    assert result.shape[-1] == 8 and result.dtype == "float64"
    assert regressor.count_params() >= 8 * (student[-1] + 1)
    with pytest.raises(ValueError, match="regressor must be one of"):
        make_regressor("linear", teacher, student)


# Saving, and use in keras.distillation.


def network(width, name):
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(width, 3, activation="relu", name="features"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ],
        name=name,
    )


def stock_distiller(**kwargs):
    loss = hint(
        teacher_layer_name="features", student_layer_name="features", **kwargs
    )
    distiller = keras.distillation.Distiller(
        teacher=network(7, "teacher"),
        student=network(4, "student"),
        distillation_losses=loss,
        student_loss_weight=0.0,
    )
    distiller.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    return distiller, loss


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # The head's.
@pytest.mark.parametrize("regressor", ["auto", "conv_bn_relu"])
def test_trains_in_the_stock_distiller(regressor):
    distiller, loss = stock_distiller(regressor=regressor)
    x, y = features(8, 6, 6, 3).astype("float32"), np.zeros((8, 2))
    watched = [
        distiller.student.layers[0].kernel,
        next(w for w in loss.trainable_variables if w.name == "kernel"),
    ]
    before = [w.numpy() for w in watched]
    history = distiller.fit(x, y, batch_size=8, epochs=4, verbose=0).history
    assert history["distillation_loss"][-1] < history["distillation_loss"][0]
    for variable, old in zip(watched, before):
        assert np.abs(variable.numpy() - old).max() > 1e-6, variable.path


def test_config_round_trip():
    loss = hint(
        teacher_layer_name=["b", "a"],
        student_layer_name=["y", "z"],
        layer_weights=(1, 0.5),
        regressor="conv_bn_relu",
        form="paper",
        name="mine",
        dtype="float64",
    )
    config = json.loads(json.dumps(loss.get_config()))
    copy = Hint.from_config(config)
    assert copy.get_config() == loss.get_config() == config
    assert config["layer_weights"] == [1.0, 0.5]


@keras.saving.register_keras_serializable(package="keras_distill_tests")
class Holder(keras.Model):
    """A model that owns a loss, as a Distiller does."""

    def __init__(self, loss, **kwargs):
        super().__init__(**kwargs)
        self.loss_of_interest = loss
        self.built = True

    def call(self, x):
        return x

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss_of_interest)
        return {"loss": loss}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["loss"]))


def test_regressors_survive_saving(tmp_path):
    """With a pair that needs none in between, and one of several layers."""
    loss = hint(
        teacher_layer_name=["c", "b", "a"],
        student_layer_name=["x", "y", "z"],
    )
    teacher = {"c": features(2, 6), "b": features(2, 5), "a": features(2, 9)}
    student = {
        "x": features(2, 4, seed=1),
        "y": features(2, 5, seed=2),
        "z": features(2, 3, 3, 4, seed=3),
    }
    loss.build(
        {name: x.shape for name, x in teacher.items()},
        {name: x.shape for name, x in student.items()},
    )
    assert [r is None for r in loss.regressors.values()] == [False, True, False]
    path = str(tmp_path / "holder.keras")
    Holder(loss).save(path)
    loaded = keras.models.load_model(path).loss_of_interest
    assert loaded is not loss and len(loaded.weights) == len(loss.weights) == 4
    for new, old in zip(loaded.weights, loss.weights):
        np.testing.assert_array_equal(new.numpy(), old.numpy())
    np.testing.assert_allclose(
        value(loaded, teacher, student), value(loss, teacher, student)
    )


def test_every_connector_normalizes_alike():
    shape = (None, 4, 4, 3)
    stacks = [
        make_regressor("conv_bn_relu", shape, shape).layers,
        conv_bn(shape, 3).layers,
        conv_bn_relu(3, 1),
        make_bottleneck(shape, shape).layers,
        translator(3, 3).layers,
    ]
    for kind in (SoftmaxRegression, ReusedClassifier):
        loss = kind(teacher_layer_name="t", student_layer_name="s")
        stacks.append(loss.connector_layers(3))
    for stack in stacks:
        norms = [x for x in stack if isinstance(x, layers.BatchNormalization)]
        assert norms
        for norm in norms:
            constants = norm.epsilon, norm.momentum, norm.synchronized
            assert constants == (1e-5, 0.9, True)
