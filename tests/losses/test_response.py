"""Losses on logits: values against NumPy, errors, extremes, drop-in."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_distill.losses import HardLabels
from keras_distill.losses import LogitsMSE
from keras_distill.losses import SoftTargets
from keras_distill.losses.ops.probabilities import standardized

ALL = {
    "soft_targets": SoftTargets,
    "cross_entropy": lambda: SoftTargets(form="cross_entropy"),
    "reverse": lambda: SoftTargets(direction="reverse"),
    "standardize": lambda: SoftTargets(standardize=True),
    "soft_sigmoid": lambda: SoftTargets(activation="sigmoid"),
    "logits_mse": LogitsMSE,
    "logits_mse_mean": lambda: LogitsMSE(class_reduction="mean"),
    "hard_labels": HardLabels,
    "hard_sigmoid": lambda: HardLabels(activation="sigmoid"),
}


@pytest.fixture(params=ALL)
def make_loss(request):
    return ALL[request.param]


def logits(*shape, seed=0, scale=3.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


def pair(*shape):
    return logits(*shape, seed=1), logits(*shape, seed=2)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def value(loss, teacher, student, **kwargs):
    return float(loss.compute_loss(teacher, student, **kwargs))


def gradient(loss, teacher, student, **kwargs):
    student = tf.convert_to_tensor(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        result = loss.compute_loss(teacher, student, **kwargs)
    return result, tape.gradient(result, student)


def network(classes, activation=None, name="student", head="head"):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, activation="relu"),
            layers.Dense(classes, activation=activation, name=head),
        ],
        name=name,
    )


# Values.


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_forward_and_reverse(temperature):
    teacher, student = pair(5, 7)
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    forward = temperature**2 * np.sum(p * np.log(p / q)) / 5
    reverse = temperature**2 * np.sum(q * np.log(q / p)) / 5
    assert abs(forward - reverse) > 0.05
    loss = SoftTargets(temperature=temperature)
    np.testing.assert_allclose(value(loss, teacher, student), forward)
    loss = SoftTargets(temperature=temperature, direction="reverse")
    np.testing.assert_allclose(value(loss, teacher, student), reverse)


def test_cross_entropy_exceeds_kl_by_the_entropy_of_the_teacher():
    teacher, student = pair(5, 7)
    p = softmax(teacher / 2)
    plain = {"temperature": 2, "scale_by_temperature_squared": False}
    kl = value(SoftTargets(**plain), teacher, student)
    loss = SoftTargets(form="cross_entropy", **plain)
    entropy = -np.sum(p * np.log(p)) / 5
    np.testing.assert_allclose(value(loss, teacher, student), kl + entropy)


def test_gradient_is_that_of_the_formula_and_does_not_reach_the_teacher():
    teacher, student = pair(5, 7)
    _, found = gradient(SoftTargets(temperature=3.0), teacher, student)
    expected = 3.0 * (softmax(student / 3) - softmax(teacher / 3)) / 5
    np.testing.assert_allclose(found, expected, atol=1e-12)
    shared = tf.constant(teacher)
    with tf.GradientTape() as tape:
        tape.watch(shared)
        loss = LogitsMSE().compute_loss(shared, shared + 1.0)
    np.testing.assert_allclose(tape.gradient(loss, shared), 2 / 5)


def test_standardize():
    teacher, student = pair(5, 7)

    def z(x):
        std = x.std(axis=-1, ddof=1, keepdims=True)
        return (x - x.mean(axis=-1, keepdims=True)) / (std + 1e-7)

    p, q = softmax(z(teacher) / 2), softmax(z(student) / 2)
    loss = SoftTargets(temperature=2, standardize=True)
    expected = 4 * np.sum(p * np.log(p / q)) / 5
    np.testing.assert_allclose(value(loss, teacher, student), expected)
    shifted = value(loss, teacher * 5 + 3, student)
    np.testing.assert_allclose(shifted, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4])
def test_standardize_of_constant_logits(dtype, constant):
    student = tf.fill((3, 11), tf.constant(constant, dtype))
    z = standardized(tf.cast(student, "float32"))
    assert np.abs(z).max() < 1e-2
    loss = SoftTargets(standardize=True)
    result, found = gradient(loss, logits(3, 11).astype("float32"), student)
    found = tf.cast(found, "float32").numpy()
    assert np.isfinite(result) and np.isfinite(found).all()
    assert 1e-3 < np.abs(found).max() < 10.0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("class_map", [None, [6, 0, 2]])
def test_probabilities_are_tempered_exactly(temperature, activation, class_map):
    settings = {
        "temperature": temperature,
        "activation": activation,
        "class_map": class_map,
    }
    teacher, student = logits(5, 7, seed=1), logits(5, 7, seed=2)
    student = student if class_map is None else student[:, :3]
    squash = softmax if activation == "softmax" else sigmoid
    expected = value(SoftTargets(**settings), teacher, student)
    loss = SoftTargets(teacher_probabilities=True, **settings)
    np.testing.assert_allclose(
        value(loss, squash(teacher), student), expected, rtol=1e-9
    )


def test_probabilities_as_given():
    given = np.array([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])
    student = logits(2, 3)
    q = softmax(student / 2)
    settings = {"temperature": 2, "teacher_probabilities": "as_given"}
    loss = SoftTargets(
        form="cross_entropy", scale_by_temperature_squared=False, **settings
    )
    expected = -np.sum(given * np.log(q)) / 2
    np.testing.assert_allclose(value(loss, given, student), expected)
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / 2
    np.testing.assert_allclose(
        value(SoftTargets(**settings), given, student),
        4 * (expected - entropy),
    )
    # The classes that the student has are rescaled to sum to 1.
    loss = SoftTargets(
        form="cross_entropy",
        class_map=[2, 1],
        scale_by_temperature_squared=False,
        **settings,
    )
    given = np.array([[0.2, 0.2, 0.6], [1.0, 0.0, 0.0]])
    chosen = np.array([[0.75, 0.25], [0.0, 0.0]])
    student = student[:, :2]
    np.testing.assert_allclose(
        value(loss, given, student),
        -np.sum(chosen * np.log(softmax(student / 2))) / 2,
    )


def test_probabilities_of_zero_and_one_stay_finite():
    for activation in ("softmax", "sigmoid"):
        for given in (True, "as_given"):
            for direction in ("forward", "reverse"):
                loss = SoftTargets(
                    activation=activation,
                    teacher_probabilities=given,
                    direction=direction,
                )
                teacher = np.eye(3, dtype="float32")
                result, found = gradient(loss, teacher, 1e4 * teacher[::-1])
                assert np.isfinite(result) and np.isfinite(found).all()


def test_sigmoid_is_the_mean_over_classes_of_the_binary_divergence():
    teacher, student = pair(5, 7)
    p, q = sigmoid(teacher / 2), sigmoid(student / 2)
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    loss = SoftTargets(temperature=2, activation="sigmoid")
    np.testing.assert_allclose(value(loss, teacher, student), 4 * kl.mean())
    loss = SoftTargets(
        temperature=1, activation="sigmoid", form="cross_entropy"
    )
    stock = keras.losses.BinaryCrossentropy(from_logits=True, dtype="float64")
    np.testing.assert_allclose(
        value(loss, teacher, student), float(stock(sigmoid(teacher), student))
    )


def test_logits_mse():
    teacher, student = pair(5, 7)
    squares = (teacher - student) ** 2
    np.testing.assert_allclose(
        value(LogitsMSE(), teacher, student), squares.sum(axis=-1).mean()
    )
    loss = LogitsMSE(class_reduction="mean")
    np.testing.assert_allclose(value(loss, teacher, student), squares.mean())
    stock = keras.losses.MeanSquaredError(dtype="float64")
    np.testing.assert_allclose(squares.mean(), stock(teacher, student))


def test_logits_mse_of_a_regression_head_with_one_value():
    loss = LogitsMSE(class_reduction="mean", regression=True)
    teacher = network(1, "sigmoid", "teacher")
    loss.bind(teacher, network(1, "sigmoid"))
    loss.build((None, 1), (None, 1))
    loss.validate_batch(np.full((64, 1), 0.5))
    np.testing.assert_allclose(
        value(loss, np.array([[1.0], [3.0]]), np.zeros((2, 1))), 5.0
    )


def test_hard_labels():
    teacher, student = pair(5, 7)
    expected = [
        -np.log(softmax(s)[np.argmax(t)]) for t, s in zip(teacher, student)
    ]
    loss = HardLabels()
    np.testing.assert_allclose(value(loss, teacher, student), np.mean(expected))
    np.testing.assert_allclose(
        value(loss, softmax(teacher), student), np.mean(expected)
    )
    q = sigmoid(student)
    binary = np.where(teacher > 0, -np.log(q), -np.log(1 - q))
    loss = HardLabels(activation="sigmoid")
    np.testing.assert_allclose(value(loss, teacher, student), binary.mean())


def test_class_map_picks_and_orders_the_teachers_classes(make_loss):
    teacher, student = logits(4, 9, seed=1), logits(4, 3, seed=2)
    loss = make_loss()
    expected = value(loss, teacher[:, [7, 0, 4]], student)
    config = {**loss.get_config(), "class_map": np.array([7, 0, 4])}
    mapped = type(loss).from_config(config)
    np.testing.assert_allclose(value(mapped, teacher, student), expected)


def test_a_teacher_of_some_classes_teaches_these_alone(make_loss):
    teacher, student = logits(4, 3, seed=1), logits(4, 5, seed=2)
    loss = make_loss()
    config = {**loss.get_config(), "class_map": [None, 2, None, 0, 1]}
    if loss.needs_labels:
        with pytest.raises(ValueError, match="class_map: .* reads labels"):
            type(loss).from_config(config)
        return
    expected = value(loss, teacher[:, [2, 0, 1]], student[:, [1, 3, 4]])
    partial = type(loss).from_config(config)
    partial.build((None, 3), (None, 5))
    np.testing.assert_allclose(value(partial, teacher, student), expected)
    with pytest.raises(ValueError, match="class_map must be a list"):
        type(loss).from_config({**config, "class_map": [None, None]})


# Positions, weights, masks.


@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 4), (2, 3, 2, 4)])
def test_weights_per_sample_and_per_position(make_loss, shape):
    teacher, student = pair(*shape)
    loss = make_loss()
    positions = shape[:-1]
    each = np.array(
        [
            value(loss, t[None], s[None])
            for t, s in zip(teacher.reshape(-1, 4), student.reshape(-1, 4))
        ]
    ).reshape(positions)
    np.testing.assert_allclose(value(loss, teacher, student), each.mean())
    per_sample = np.arange(shape[0]) / 2
    spread = per_sample.reshape((-1,) + (1,) * (len(positions) - 1))
    np.testing.assert_allclose(
        value(loss, teacher, student, sample_weight=per_sample),
        np.sum(spread * each) / each.size,
    )
    mask = np.random.default_rng(0).integers(0, 2, positions).astype(bool)
    assert 0 < mask.sum() < mask.size
    np.testing.assert_allclose(
        value(loss, teacher, student, sample_weight=mask),
        np.sum(each[mask]) / each.size,
    )
    _, found = gradient(loss, teacher, student, sample_weight=mask)
    np.testing.assert_array_equal(np.any(found != 0, axis=-1), mask)


@pytest.mark.slow
def test_weights_per_position_when_the_length_is_unknown_while_tracing():
    """A `(None, None)` weight is one per position, not one per sample."""
    teacher, student = pair(2, 3, 4)
    loss = SoftTargets()
    mask = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    expected = value(loss, teacher, student, sample_weight=mask)
    unknown = tf.TensorSpec((None, None), "float64")
    traced = tf.function(
        lambda w: loss.compute_loss(teacher, student, sample_weight=w),
        input_signature=[unknown],
    )
    np.testing.assert_allclose(traced(mask), expected)


# Precision.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_extreme_logits_give_finite_values_and_gradients(make_loss, dtype):
    extreme = np.array(
        [
            [1e4, -1e4, -1e4, -1e4],
            [-1e4, 1e4, 1e4, -1e4],
            [1e4, 1e4, 1e4, 1e4],
            [0.0, 0.0, 0.0, 1e4],
        ]
    )
    loss = make_loss()
    for teacher in (extreme, logits(4, 4)):
        for student in (extreme[::-1], -extreme, extreme):
            result, found = gradient(
                loss, tf.cast(teacher, dtype), tf.cast(student, dtype)
            )
            assert result.dtype == "float32" and found.dtype == dtype
            assert np.isfinite(result)
            assert np.isfinite(tf.cast(found, "float32")).all()


def test_half_precision_inputs_are_computed_in_float32(make_loss):
    teacher, student = pair(4, 5)
    for half in ("float16", "bfloat16"):
        halves = tf.cast(teacher, half), tf.cast(student, half)
        wide = [tf.cast(x, "float32") for x in halves]
        loss = make_loss()
        assert value(loss, *halves) == value(loss, *wide)
        assert value(loss, halves[0], wide[1]) == value(loss, *wide)


# Errors.


@pytest.mark.parametrize("temperature", [0, -1.0, np.nan, np.inf, -np.inf])
def test_temperature_must_be_positive_and_finite(temperature):
    with pytest.raises(ValueError, match="temperature.*positive.*Received"):
        SoftTargets(temperature=temperature)


@pytest.mark.parametrize("temperature", [True, "4", None, [4.0], 1j])
def test_temperature_must_be_a_real_number(temperature):
    with pytest.raises(ValueError, match="temperature.*number.*Received"):
        SoftTargets(temperature=temperature)


def test_temperature_may_be_any_real_number():
    for temperature in (3, np.float32(3), np.int64(3)):
        assert SoftTargets(temperature=temperature).temperature == 3.0


@pytest.mark.parametrize(
    "loss, arguments, message",
    [
        (SoftTargets, {"form": "KL"}, "form must be one of 'kl', 'cross_en"),
        (SoftTargets, {"direction": "both"}, "direction must be .*'both'"),
        (SoftTargets, {"activation": "tanh"}, "activation must be .*'tanh'"),
        (SoftTargets, {"teacher_probabilities": "yes"}, "teacher_prob.*'yes'"),
        (LogitsMSE, {"class_reduction": "max"}, "class_reduction must .*'max'"),
        (HardLabels, {"activation": None}, "activation must be .*None"),
        (
            SoftTargets,
            {"form": "cross_entropy", "direction": "reverse"},
            'direction="reverse" .*form="cross_entropy"',
        ),
        (
            SoftTargets,
            {"standardize": True, "teacher_probabilities": True},
            "standardize=True .*teacher_probabilities=True",
        ),
        (
            SoftTargets,
            {"standardize": True, "teacher_probabilities": "as_given"},
            "standardize=True .*teacher_probabilities='as_given'",
        ),
        (
            SoftTargets,
            {"standardize": True, "activation": "sigmoid"},
            'standardize=True .*activation="sigmoid"',
        ),
        (
            SoftTargets,
            {"student_layer_name": ["a", "b"]},
            "student_layer_name must be one .*'a', 'b'.*one loss per output",
        ),
    ],
)
def test_arguments(loss, arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        loss(**arguments)


@pytest.mark.parametrize("class_map", [[], [-1, 0], [0.5], [True], "ab", 3])
def test_class_map_must_be_a_list_of_indices(make_loss, class_map):
    config = {**make_loss().get_config(), "class_map": class_map}
    with pytest.raises(ValueError, match="class_map must be a list"):
        type(make_loss()).from_config(config)


def test_classes_must_agree(make_loss):
    message = "teacher has 10 classes and the student 4.*class_map="
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make_loss().build((None, 10), (None, 4))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        # A loss that nobody built checks what it is given, too.
        make_loss().compute_loss(logits(2, 10), logits(2, 4))


@pytest.mark.parametrize(
    "class_map, message",
    [
        ([0, 1, 2], r"per class of the student \(4\). Received 3 indices"),
        ([0, 1, 2, 10], r"0 to 9. Received: \[10\]"),
        ([None, 3, None, None], "at least 2 classes of the teacher"),
    ],
)
def test_class_map_must_fit_the_classes(class_map, message):
    loss = SoftTargets(class_map=class_map)
    with pytest.raises(ValueError, match=f"(?s)class_map.*{message}"):
        loss.build((None, 10), (None, 4))


def test_class_map_may_name_a_class_twice():
    SoftTargets(class_map=[1, 1, 0]).build((None, 2), (None, 3))


@pytest.mark.parametrize(
    "teacher, student, message",
    [
        ({"a": (None, 4), "b": (None, 2)}, (None, 4), "teacher has several"),
        ((None, 4), [(None, 4), (None, 2)], "student has several outputs"),
        ((None, 4), (None,), "student has an output that is not"),
        ((None, None), (None, 4), "teacher has an output that is not"),
        (None, (None, 4), "teacher has an output that is not"),
        ((None, 5, 4), (None, 4), "shapes differ before the class axis"),
        ((None, 5, 4), (None, 6, 4), "shapes differ before the class axis"),
    ],
)
def test_shapes_that_cannot_be_compared(make_loss, teacher, student, message):
    with pytest.raises(ValueError, match=f"(?s){message}.*_layer_name="):
        make_loss().build(teacher, student)


def test_unknown_lengths_are_welcome(make_loss):
    make_loss().build((None, None, 4), (None, 6, 4))


@pytest.mark.parametrize("loss", [SoftTargets, HardLabels])
def test_a_softmax_needs_two_classes(loss):
    with pytest.raises(ValueError, match="at least 2.*activation='sigmoid'"):
        loss().build((None, 1), (None, 1))
    loss(activation="sigmoid").build((None, 1), (None, 1))


# Heads.


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_a_students_head_must_give_logits(make_loss, head):
    message = f"student: .*'student' ends in a {head}.*activation=None"
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make_loss().bind(network(4, name="teacher"), network(4, head))
    make_loss().bind(network(4, name="teacher"), network(4))
    make_loss().bind(None, network(4))


def test_a_teachers_head_must_give_logits():
    message = (
        "teacher: .*'teacher' ends in a softmax.*classifier_activation=None.*"
        r"`teacher.layers\[-1\].activation = keras.activations.linear`"
    )
    teacher, student = network(4, "softmax", "teacher"), network(4)
    with pytest.raises(ValueError, match=f"{message}.*teacher_probabiliti"):
        SoftTargets().bind(teacher, student)
    with pytest.raises(ValueError, match=f"{message}.*regression=True"):
        LogitsMSE().bind(teacher, student)
    SoftTargets(teacher_probabilities=True).bind(teacher, student)
    SoftTargets(teacher_probabilities="as_given").bind(teacher, student)
    HardLabels().bind(teacher, student)  # The same argmax.
    teacher.layers[-1].activation = keras.activations.linear  # As advised.
    SoftTargets().bind(teacher, student)


def test_a_sigmoid_teacher_does_not_fit_a_softmax_loss():
    teacher = network(4, "sigmoid", "teacher")
    with pytest.raises(ValueError, match="activation='sigmoid'"):
        SoftTargets(teacher_probabilities=True).bind(teacher, network(4))
    loss = SoftTargets(teacher_probabilities=True, activation="sigmoid")
    loss.bind(teacher, network(4))
    with pytest.raises(ValueError, match="ends in a sigmoid"):
        HardLabels(activation="sigmoid").bind(teacher, network(4))


def test_only_the_tapped_layer_counts():
    inputs = keras.Input((6,))
    raw = layers.Dense(4, name="raw")(inputs)
    model = keras.Model(inputs, layers.Softmax()(raw))
    SoftTargets(student_layer_name="raw").bind(None, model)
    with pytest.raises(ValueError, match="ends in a softmax"):
        SoftTargets().bind(None, model)
    named = network(4, "softmax")
    with pytest.raises(ValueError, match="layer 'head' of the student"):
        SoftTargets(student_layer_name="head").bind(None, named)


# The teacher's values on the first batch.


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_teacher_values_must_be_finite(make_loss, dtype):
    values = logits(4, 5).astype(dtype)
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.nan, -np.inf
    with pytest.raises(ValueError, match="2 NaN and 1 infinite of 20"):
        make_loss().validate_batch(values)
    make_loss().validate_batch(logits(4, 5).astype(dtype))


@pytest.mark.parametrize("make", [SoftTargets, LogitsMSE])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_teacher_values_must_not_be_probabilities(make, dtype):
    values = tf.cast(softmax(logits(8, 5)), dtype).numpy()
    with pytest.raises(ValueError, match="probabilities.*sums to 1.*linear"):
        make().validate_batch(values)
    values = tf.cast(softmax(logits(2, 3, 5)), dtype).numpy()
    with pytest.raises(ValueError, match="are probabilities"):
        make().validate_batch(values)
    values[0, 0, 0] += 0.2
    make().validate_batch(values)


def test_teacher_values_of_a_sigmoid():
    loss = SoftTargets(activation="sigmoid")
    with pytest.raises(ValueError, match="all in .0, 1.*teacher_probabil"):
        loss.validate_batch(sigmoid(logits(16, 3)))
    loss.validate_batch(sigmoid(logits(1, 3)))  # May be chance.
    loss = SoftTargets(activation="sigmoid", teacher_probabilities=True)
    loss.validate_batch(sigmoid(logits(16, 3)))


@pytest.mark.parametrize("given", [True, "as_given"])
def test_probabilities_are_wanted_and_logits_are_given(given):
    for activation in ("softmax", "sigmoid"):
        loss = SoftTargets(teacher_probabilities=given, activation=activation)
        with pytest.raises(ValueError, match="(?s)not such prob.*sum to"):
            loss.validate_batch(logits(8, 5))
    loss = SoftTargets(teacher_probabilities=given)
    loss.validate_batch(softmax(logits(8, 5)))
    with pytest.raises(ValueError, match="rows sum to"):
        loss.validate_batch(softmax(logits(8, 5))[:, :4])
    HardLabels().validate_batch(softmax(logits(8, 5)))


# Saving, and use in keras.distillation.


def test_config_round_trip():
    losses = [
        SoftTargets(
            temperature=2,
            direction="reverse",
            scale_by_temperature_squared=False,
            standardize=True,
            class_map=(2, 0, 1),
            teacher_layer_name="a",
            name="mine",
        ),
        SoftTargets(form="cross_entropy", teacher_probabilities="as_given"),
        SoftTargets(activation="sigmoid", teacher_probabilities=True),
        LogitsMSE(class_reduction="mean", regression=True, class_map=[1, 0, 2]),
        HardLabels(activation="sigmoid", student_layer_name="b"),
    ]
    teacher, student = softmax(logits(4, 3, seed=1)), logits(4, 3, seed=2)
    for loss in losses:
        text = json.dumps(keras.saving.serialize_keras_object(loss))
        copy = keras.saving.deserialize_keras_object(json.loads(text))
        assert type(copy) is type(loss)
        assert copy.get_config() == loss.get_config()
        assert value(copy, teacher, student) == value(loss, teacher, student)


def test_trains_in_the_stock_distiller(make_loss):
    keras.utils.set_random_seed(0)
    teacher, student = network(3, name="teacher"), network(3)
    loss = make_loss()
    distiller = keras.distillation.Distiller(
        teacher=teacher,
        student=student,
        distillation_losses=loss,
        student_loss_weight=0.0,
    )
    # One step: tracing costs more. In a graph: `drop_in` of test_all_losses.
    distiller.compile(
        optimizer=keras.optimizers.SGD(0.01), loss="mse", run_eagerly=True
    )
    x = logits(16, 6, scale=1.0).astype("float32")
    before = value(loss, teacher(x), student(x))
    history = distiller.fit(x, np.zeros((16, 3)), batch_size=16, verbose=0)
    np.testing.assert_allclose(
        history.history["distillation_loss"], before, rtol=1e-5
    )
    assert value(loss, teacher(x), student(x)) < before


def test_the_stock_distiller_reports_a_softmax_head():
    with pytest.raises(ValueError, match="ends in a softmax"):
        keras.distillation.Distiller(
            teacher=network(3, "softmax", "teacher"),
            student=network(3),
            distillation_losses=SoftTargets(),
        )
