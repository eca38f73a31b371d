"""Attention transfer: both forms against NumPy, degenerate maps, drop-in."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_distill.losses import AttentionTransfer
from keras_distill.losses.feature.attention import attention_map
from keras_distill.losses.feature.attention import unit_maps

FORMS = ("paper", "code")


def attention(**kwargs):
    return AttentionTransfer(
        **{"teacher_layer_name": "t", "student_layer_name": "s", **kwargs}
    )


def features(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def value(loss, teacher, student, **kwargs):
    return float(loss.compute_loss(teacher, student, **kwargs))


def gradients(loss, teacher, student):
    teacher, student = map(tf.convert_to_tensor, (teacher, student))
    with tf.GradientTape() as tape:
        tape.watch([teacher, student])
        result = loss.compute_loss(teacher, student)
    return result, *tape.gradient(result, [teacher, student])


def per_sample(form, teacher, student, power=2):
    """One number per sample, with loops and no helper of the library."""
    losses = []
    for t, s in zip(teacher, student):
        maps = []
        for x in (s, t):
            a = np.zeros(x.shape[:2])
            for channel in range(x.shape[2]):
                a += x[:, :, channel] ** power
            maps.append(a.ravel() / np.linalg.norm(a))
        difference = maps[0] - maps[1]
        losses.append(
            np.linalg.norm(difference)
            if form == "paper"
            else np.mean(difference**2)
        )
    return np.array(losses)


# Values.


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_value(form, power):
    teacher, student = features(3, 4, 5, 6), features(3, 4, 5, 2, seed=1)
    loss = attention(form=form, power=power)
    np.testing.assert_allclose(
        value(loss, teacher, student),
        per_sample(form, teacher, student, power).mean(),
    )


def test_the_default_is_the_papers_form():
    teacher, student = features(3, 4, 5, 6), features(3, 4, 5, 2, seed=1)
    expected = per_sample("paper", teacher, student).mean()
    np.testing.assert_allclose(value(attention(), teacher, student), expected)


def test_attention_map():
    x = np.array([[[[1.0, -2.0], [0.0, 3.0]]]])
    np.testing.assert_allclose(attention_map(x), [[[5.0, 9.0]]])
    np.testing.assert_allclose(attention_map(x, power=1), [[[-1.0, 3.0]]])
    np.testing.assert_allclose(attention_map(x, power=3), [[[-7.0, 27.0]]])


def test_unit_maps():
    maps = np.array([[[3.0, 4.0]], [[3e-13, 4e-13]], [[0.0, 0.0]]])
    expected = [[[0.6, 0.8]], [[0.3, 0.4]], [[0.0, 0.0]]]
    np.testing.assert_allclose(unit_maps(maps), expected)


@pytest.mark.parametrize("form", FORMS)
def test_scale_does_not_matter(form):
    teacher, student = features(3, 4, 5, 6), features(3, 4, 5, 2, seed=1)
    loss = attention(form=form)
    expected = value(loss, teacher, student)
    np.testing.assert_allclose(value(loss, 7 * teacher, student), expected)
    np.testing.assert_allclose(value(loss, teacher, student / 9), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("larger", ["teacher", "student"])
def test_the_larger_map_is_averaged_before_the_power(form, larger):
    sizes = {"teacher": (2, 3), "student": (2, 3), larger: (4, 6)}
    teacher = features(3, *sizes["teacher"], 5)
    student = features(3, *sizes["student"], 4, seed=1)

    def halved(x):
        batch, height, width, channels = x.shape
        blocks = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        return blocks.mean(axis=(2, 4))

    small = {"teacher": teacher, "student": student}
    small[larger] = halved(small[larger])
    np.testing.assert_allclose(
        value(attention(form=form), teacher, student),
        per_sample(form, small["teacher"], small["student"]).mean(),
    )


@pytest.mark.parametrize("form", FORMS)
def test_several_pairs_are_weighted_and_taken_by_name(form):
    teacher = {"b": features(3, 4, 5, 6), "a": features(3, 2, 2, 6)}
    student = {"y": features(3, 4, 5, 2), "z": features(3, 2, 2, 3, seed=1)}
    loss = attention(
        form=form,
        teacher_layer_name=["b", "a"],
        student_layer_name=["y", "z"],
        layer_weights=[1.0, 0.5],
    )
    expected = per_sample(form, teacher["b"], student["y"]).mean()
    expected += 0.5 * per_sample(form, teacher["a"], student["z"]).mean()
    np.testing.assert_allclose(value(loss, teacher, student), expected)
    ordered = {"a": teacher["a"], "b": teacher["b"]}
    np.testing.assert_allclose(value(loss, ordered, student), expected)


@pytest.mark.parametrize("form", FORMS)
def test_sample_weight(form):
    teacher, student = features(3, 4, 5, 6), features(3, 4, 5, 2, seed=1)
    each = per_sample(form, teacher, student)
    weight = np.array([0.0, 0.5, 2.0])
    expected = np.sum(weight * each) / 3
    loss = attention(form=form)
    np.testing.assert_allclose(
        value(loss, teacher, student, sample_weight=weight), expected
    )
    # Weights per position count by their mean in the sample.
    positions = weight[:, None] * np.array([0.5, 1.5])
    np.testing.assert_allclose(
        value(loss, teacher, student, sample_weight=positions), expected
    )


# Gradients and precision.


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_the_slope_and_does_not_reach_the_teacher(form):
    teacher, student = features(2, 3, 3, 4), features(2, 3, 3, 2, seed=1)
    loss = attention(form=form)
    _, of_teacher, of_student = gradients(loss, teacher, student)
    assert of_teacher is None
    direction = features(2, 3, 3, 2, seed=2)
    ahead = value(loss, teacher, student + 1e-6 * direction)
    behind = value(loss, teacher, student - 1e-6 * direction)
    slope = (ahead - behind) / 2e-6
    assert abs(slope) > 1e-4
    np.testing.assert_allclose(np.sum(of_student * direction), slope, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_degenerate_maps_have_finite_gradients(form, dtype):
    some, other = features(2, 3, 3, 4), features(2, 3, 3, 4, seed=1)
    zero = np.zeros_like(some)
    dead = np.stack([some[0], zero[0]])
    extreme = 1e4 * np.sign(other)
    cases = {
        "identical": (some, some),
        "both zero": (zero, zero),
        "teacher zero": (zero, some),
        "student zero": (some, zero),
        "one dead sample": (some, dead),
        "extreme": (extreme, 1e4 * other),
    }
    for name, (teacher, student) in cases.items():
        teacher, student = tf.cast(teacher, dtype), tf.cast(student, dtype)
        result, _, found = gradients(attention(form=form), teacher, student)
        assert result.dtype == ("float64" if dtype == "float64" else "float32")
        assert np.isfinite(result), name
        assert np.isfinite(tf.cast(found, "float32")).all(), name
        if name in ("identical", "both zero"):
            assert result < 1e-7 and np.abs(found).max() < 1e-6, name
        if name == "teacher zero":
            unit_norm = 1.0 if form == "paper" else 1 / 9
            np.testing.assert_allclose(result, unit_norm, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_degenerate_maps_under_xla(form):
    """Eager TensorFlow forgives 0 * infinity in a square root; XLA does not."""

    @tf.function(jit_compile=True)
    def compiled(teacher, student):
        return gradients(attention(form=form), teacher, student)[2]

    some = tf.constant(features(2, 3, 3, 4), "float32")
    zero = tf.zeros_like(some)
    for teacher, student in ((some, some), (zero, zero), (some, zero)):
        assert np.isfinite(compiled(teacher, student)).all()


def test_the_norm_is_clamped_in_each_forms_own_scale():
    """The sum over the channels reaches 1e-12 later than their mean."""
    teacher, student = np.zeros((1, 2, 2, 4)), np.full((1, 2, 2, 4), 1e-7)
    total = 4 * 1e-14 / 1e-12  # At each of the four positions.
    np.testing.assert_allclose(
        value(attention(form="paper"), teacher, student), 2 * total
    )
    np.testing.assert_allclose(
        value(attention(form="code"), teacher, student), (total / 4) ** 2
    )


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_inputs_are_computed_in_float32(half):
    teacher = tf.cast(features(2, 6, 6, 4), half)
    student = tf.cast(features(2, 4, 4, 2, seed=1), half)
    wide = [tf.cast(x, "float32") for x in (teacher, student)]
    loss = attention()
    assert value(loss, teacher, student) == value(loss, *wide)


# Errors.


@pytest.mark.parametrize("power", [0, -2, 1.5, 2.0, True, "2", None])
def test_power_must_be_a_positive_integer(power):
    with pytest.raises(
        ValueError, match="power must be an integer of at least 1"
    ):
        attention(power=power)


def test_form_must_be_known():
    with pytest.raises(ValueError, match="'paper', 'code'. Received: 'mean'"):
        attention(form="mean")


@pytest.mark.parametrize(
    "teacher, student",
    [
        ((None, 8), (None, 4, 4, 8)),
        ((None, 4, 4, 8), (None, 16, 8)),
        ((None, 8), (None, 8)),
    ],
)
def test_features_must_be_maps(teacher, student):
    with pytest.raises(ValueError, match="compares maps") as error:
        attention().build(teacher, student)
    assert f"teacher {teacher}, student {student}" in str(error.value)


def test_layer_names_are_required():
    with pytest.raises(TypeError, match="teacher_layer_name"):
        AttentionTransfer()


# Saving, and use in keras.distillation.


def test_config_round_trip():
    loss = attention(
        form="code",
        power=4,
        teacher_layer_name=["a", "b"],
        student_layer_name=["c", "d"],
        layer_weights=[1.0, 0.5],
        name="mine",
    )
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is AttentionTransfer
    assert copy.get_config() == loss.get_config()
    assert copy.get_config()["form"] == "code"
    assert copy.get_config()["power"] == 4


def network(width, name, stride=1):
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(
                width, 3, stride, padding="same", activation="relu", name="map"
            ),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ],
        name=name,
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # The head's.
@pytest.mark.parametrize("form", FORMS)
def test_trains_in_the_stock_distiller(form):
    keras.utils.set_random_seed(0)
    loss = attention(
        teacher_layer_name="map", student_layer_name="map", form=form
    )
    student = network(4, "student", stride=2)
    distiller = keras.distillation.Distiller(
        teacher=network(7, "teacher"),
        student=student,
        distillation_losses=loss,
        student_loss_weight=0.0,
    )
    distiller.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    x = features(8, 6, 6, 3).astype("float32")
    before = student.layers[0].kernel.numpy()
    history = distiller.fit(
        x, np.zeros((8, 2)), batch_size=8, epochs=4, verbose=0
    ).history["distillation_loss"]
    assert history[-1] < history[0]
    assert np.abs(student.layers[0].kernel.numpy() - before).max() > 1e-3
