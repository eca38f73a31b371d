"""JensenShannon and SkewKL: values against NumPy, limits, extremes, caches."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import token_network

import keras_distill as kd
from keras_distill.losses import JensenShannon
from keras_distill.losses import SkewKL
from keras_distill.losses import SoftTargets


def pair(*shape, scale=3.0):
    generator = np.random.default_rng(0)
    return [scale * generator.normal(size=shape) for _ in range(2)]


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def kl(p, q):
    return np.sum(p * np.log(p / q), axis=-1)


def value(loss, teacher, student, **kwargs):
    return float(loss.compute_loss(teacher, student, **kwargs))


def gradient(loss, teacher, student):
    student = tf.convert_to_tensor(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        result = loss.compute_loss(teacher, student)
    return result, tape.gradient(result, student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_values(share, temperature):
    teacher, student = pair(2, 5, 7)
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    scale = temperature**2
    m = share * p + (1 - share) * q
    jensen_shannon = share * kl(p, m) + (1 - share) * kl(q, m)
    other = share * q + (1 - share) * p
    kwargs = {"temperature": temperature}
    for loss, wanted in (
        (JensenShannon(beta=share, **kwargs), jensen_shannon),
        (SkewKL(skew=share, **kwargs), kl(p, m)),
        (SkewKL(skew=share, direction="reverse", **kwargs), kl(q, other)),
    ):
        found = value(loss, teacher, student)
        np.testing.assert_allclose(found, scale * wanted.mean())
        mask = np.random.default_rng(1).integers(0, 2, (2, 5))
        found = value(loss, teacher, student, sample_weight=mask)
        np.testing.assert_allclose(found, scale * (mask * wanted).mean())


def test_values_of_independent_classes():
    teacher, student = pair(5, 7)
    p, q = (1 / (1 + np.exp(-x)) for x in (teacher, student))
    p, q = (np.stack([x, 1 - x], axis=-1) for x in (p, q))
    m = 0.3 * p + 0.7 * q
    loss = JensenShannon(beta=0.3, activation="sigmoid")
    wanted = np.mean(0.3 * kl(p, m) + 0.7 * kl(q, m))
    np.testing.assert_allclose(value(loss, teacher, student), wanted)


FORWARD, REVERSE = SoftTargets(), SoftTargets(direction="reverse")


@pytest.mark.parametrize(
    "loss, limit, factor",
    [
        (JensenShannon(beta=0), FORWARD, 1.0),
        (JensenShannon(beta=1), REVERSE, 1.0),
        (JensenShannon(beta=1e-5), FORWARD, 1e-5),
        (JensenShannon(beta=1 - 1e-5), REVERSE, 1e-5),
        (SkewKL(skew=0), FORWARD, 1.0),
        (SkewKL(skew=0, direction="reverse"), REVERSE, 1.0),
        (SkewKL(skew=1e-7), FORWARD, 1.0),
        (SkewKL(skew=1e-7, direction="reverse"), REVERSE, 1.0),
    ],
)
def test_limits_are_the_kl_divergences_in_float32(loss, limit, factor):
    teacher, student = (x.astype("float32") for x in pair(50, 7, scale=1.0))
    found, slope = gradient(loss, teacher, student)
    wanted, wanted_slope = gradient(limit, teacher, student)
    np.testing.assert_allclose(found, factor * wanted, rtol=1e-3)
    atol = 1e-3 * factor * np.abs(wanted_slope).max()
    np.testing.assert_allclose(slope, factor * wanted_slope, atol=atol)


def test_equal_networks_have_no_divergence_and_no_gradient():
    teacher = pair(5, 7)[0].astype("float32")
    for loss in (JensenShannon(beta=0.1), SkewKL(), SkewKL(skew=0.9)):
        found, slope = gradient(loss, teacher, teacher)
        np.testing.assert_allclose(found, 0.0, atol=1e-6)
        np.testing.assert_allclose(slope, 0.0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_opposite_and_extreme_logits_reach_the_bounds(dtype):
    """One teaches one class for sure, the other another."""
    teacher = tf.cast([[1e4, -1e4, 0.0]], dtype)
    student = tf.cast([[-1e4, 1e4, 0.0]], dtype)
    beta = 0.3
    entropy = -beta * np.log(beta) - (1 - beta) * np.log(1 - beta)
    for loss, bound in (
        (JensenShannon(beta=beta), entropy),
        (SkewKL(skew=0.1), -np.log(0.1)),
        (SkewKL(skew=0.1, direction="reverse"), -np.log(0.1)),
        (JensenShannon(beta=0), 2e4),
        (JensenShannon(beta=1), 2e4),
    ):
        found, slope = gradient(loss, teacher, student)
        np.testing.assert_allclose(found, bound, rtol=5e-3)
        assert slope.dtype == dtype
        assert np.isfinite(tf.cast(slope, "float32")).all()


def test_teachers_probabilities_of_0_and_1():
    teacher = np.eye(3, dtype="float32")
    for given in (True, "as_given"):
        for loss in (JensenShannon, SkewKL):
            made = loss(teacher_probabilities=given)
            found, slope = gradient(made, teacher, 1e4 * teacher[::-1])
            assert np.isfinite(found) and np.isfinite(slope).all()


def test_unlike_vocabularies_say_what_is_possible():
    message = r"class_map=list\(range\(50\)\).*teacher write text"
    with pytest.raises(ValueError, match=f"(?s){message}"):
        JensenShannon().build((None, None, 64), (None, None, 50))
    message = r"class_map=\[\*range\(50\), \*\[None\] \* 14\]"
    with pytest.raises(ValueError, match=message):
        SoftTargets().build((None, 8, 50), (None, 8, 64))
    # What it says works.
    padded = [*range(50), *[None] * 14]
    loss = SkewKL(class_map=padded)
    loss.build((None, 8, 50), (None, 8, 64))
    teacher, student = pair(2, 8, 64)
    wanted = value(SkewKL(), teacher[..., :50], student[..., :50])
    found = value(loss, teacher[..., :50], student)
    np.testing.assert_allclose(found, wanted)
    with pytest.raises(ValueError) as error:
        SoftTargets().build((None, 64), (None, 50))
    assert "token" not in str(error.value)


@pytest.mark.slow
def test_the_largest_logits_of_a_cache_and_the_mass_of_the_rest(tmp_path):
    teacher, student = token_network(seed=0), token_network(seed=1)
    ids = np.random.default_rng(0).integers(0, 11, (8, 6)).astype("int32")
    cache = kd.TeacherCache.build(
        teacher,
        ids,
        tmp_path / "cache",
        outputs=kd.teachers.StoredOutputs(top_k=3, dtype="float32"),
    )
    distiller = kd.Distiller(
        student=student,
        distillation_losses={
            "jensen_shannon": JensenShannon(beta=0.2),
            "reverse": SkewKL(direction="reverse"),
        },
        alpha=1.0,
    )
    distiller.compile(keras.optimizers.SGD(0.0))
    p = softmax(np.asarray(teacher(ids), "float64"))
    q = softmax(np.asarray(student(ids), "float64"))
    kept = p >= np.sort(p, axis=-1)[..., -3:-2]
    rest = np.where(kept, 0.0, p).sum(axis=-1, keepdims=True) / 8
    p = np.where(kept, p, rest)
    logs = distiller.fit(
        cache.join(kd.datasets.batches(ids, batch_size=8, indexed=True)),
        verbose=0,
    ).history
    m = 0.2 * p + 0.8 * q
    wanted = np.mean(0.2 * kl(p, m) + 0.8 * kl(q, m))
    np.testing.assert_allclose(logs["jensen_shannon_loss"], wanted, rtol=1e-4)
    wanted = np.mean(kl(q, 0.1 * q + 0.9 * p))
    np.testing.assert_allclose(logs["reverse_loss"], wanted, rtol=1e-4)
