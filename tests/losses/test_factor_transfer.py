"""Factor transfer: the forms, the two networks, the stage before training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from marks import nightly

import keras_distill as kd
from keras_distill.losses import FactorTransfer
from keras_distill.losses.feature.paraphraser import Paraphraser
from keras_distill.losses.feature.paraphraser import train


def transfer(**kwargs):
    return FactorTransfer(
        **{"teacher_layer_name": "map", "student_layer_name": "map", **kwargs}
    )


def plain(**kwargs):
    return transfer(
        paraphrase_rate=None, translate=False, dtype="float64", **kwargs
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def per_sample(teacher, student, p):
    """The paper's norm of the difference of unit factors."""
    results = []
    for t, s in zip(teacher, student):
        t, s = t.ravel(), s.ravel()
        d = s / np.sqrt(s @ s) - t / np.sqrt(t @ t)
        results.append(np.sum(np.abs(d) ** p) ** (1 / p))
    return np.array(results)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("form", ["paper", "code"])
def test_value(form, p):
    teacher, student = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    expected = per_sample(teacher, student, p)
    if form == "code" and p == 1:
        expected = expected / (2 * 4 * 5)
    loss = plain(form=form, p=p)
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), expected.mean()
    )
    weight = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student, sample_weight=weight),
        np.sum(weight * expected) / 3,
    )


def test_the_default_is_the_papers_form():
    config = transfer().get_config()
    assert (config["form"], config["p"]) == ("paper", 1)
    assert config["paraphrase_rate"] == 0.5


def test_the_networks_have_the_papers_layers():
    loss = transfer(paraphrase_rate=0.5)
    loss.build((None, 4, 4, 8), (None, 4, 4, 6))
    (paraphraser,), (translator,) = loss.paraphrasers, loss.translators

    def widths(network):
        kinds = (layers.Conv2D, layers.Conv2DTranspose)
        return [x.filters for x in network.layers if isinstance(x, kinds)]

    assert widths(paraphraser.encoder) == [8, 4, 4]
    assert widths(paraphraser.decoder) == [4, 8, 8]
    assert widths(translator) == [6, 4, 4]
    # Only the translator is trained with the student.
    ids = {id(v) for v in translator.trainable_variables}
    assert {id(v) for v in loss.trainable_variables} == ids


@pytest.mark.slow
def test_the_paraphraser_learns_to_reconstruct():
    keras.utils.set_random_seed(0)
    basis = normal(2, 6, seed=3)
    x = np.maximum(normal(64, 4, 4, 2) @ basis, 0).astype("float32")
    paraphraser = Paraphraser(6, 4)
    batches = [[x[i : i + 16]] for i in range(0, 64, 16)]
    of_each = [train([paraphraser], [b], 1, 1e-12)[0] for b in batches]
    of_all = train([paraphraser], batches, 1, 1e-12)[0]
    assert of_all == pytest.approx(np.mean(of_each), rel=1e-4)
    first = train([paraphraser], batches, 1, 1e-2)
    last = train([paraphraser], batches, 25, 1e-2)
    assert last[0] < 0.35 * first[0]
    assert not paraphraser.trainable_variables
    before = paraphraser.encoder.layers[1].moving_mean.numpy()
    paraphraser(x)
    np.testing.assert_array_equal(
        paraphraser.encoder.layers[1].moving_mean, before
    )


@pytest.mark.slow
def test_nothing_to_train_on():
    loss = transfer()
    loss.build((None, 4, 4, 4), (None, 4, 4, 2))
    with pytest.raises(ValueError, match="not a generator"):
        loss.prepare(iter([]))
    once = (np.ones((2, 4, 4, 4), "float32") for _ in range(2))
    with pytest.raises(ValueError, match="not a generator"):
        loss.prepare(once)
    assert not loss.is_prepared
    assert not loss.paraphrasers[0].trainable


def network(width, name):
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(width, 3, activation="relu", name="map"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ],
        name=name,
    )


def distiller(loss):
    keras.utils.set_random_seed(0)
    result = kd.Distiller(
        teacher=network(6, "teacher"),
        student=network(4, "student"),
        distillation_losses=loss,
        alpha=1.0,
    )
    result.compile(keras.optimizers.Adam(0.01))
    return result


X = normal(16, 6, 6, 3).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "dataset",
        *nightly("arrays", "sequence"),
    ],
)
def test_fit_prepares_once(kind, tmp_path):
    loss = transfer(paraphraser_epochs=2)
    model = distiller(loss)
    data = {
        "arrays": X,
        "dataset": tf.data.Dataset.from_tensor_slices(X).batch(8),
        "sequence": Batches(X),
    }[kind]
    before = [w.numpy() for w in loss.paraphrasers[0].weights]
    teacher = [w.numpy() for w in model._networks().teacher.weights]
    assert not loss.is_prepared
    history = model.fit(data, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    prepared = [w.numpy() for w in loss.paraphrasers[0].weights]
    assert any(np.any(a != b) for a, b in zip(before, prepared))
    assert loss.is_prepared
    for old, now in zip(teacher, model._networks().teacher.weights):
        np.testing.assert_array_equal(old, now)
    # Nothing of it changes while the student trains, now or later.
    model.fit(data, verbose=0)
    for old, now in zip(prepared, loss.paraphrasers[0].weights):
        np.testing.assert_array_equal(old, now)
    # A saved one is not prepared again.
    model.save_weights(tmp_path / "saved.weights.h5")
    other = distiller(transfer(paraphraser_epochs=2))
    other.fit(X[:4], verbose=0)
    other.load_weights(tmp_path / "saved.weights.h5")
    copy = other.distillation_losses["factor_transfer"]
    assert copy.is_prepared
    for old, now in zip(prepared, copy.paraphrasers[0].weights):
        np.testing.assert_array_equal(old, now)


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return (self.x[8 * index : 8 * index + 8],)


def test_a_generator_cannot_be_prepared_from():
    with pytest.raises(ValueError, match="cannot be iterated twice"):
        distiller(transfer()).fit(((X[:4],) for _ in range(3)), verbose=0)


@pytest.mark.slow
def test_the_stock_distiller_does_not_prepare():
    def stock(loss):
        return keras.distillation.Distiller(
            teacher=network(6, "teacher"),
            student=network(4, "student"),
            distillation_losses=loss,
        )

    with pytest.raises(ValueError, match="does not train the paraphraser"):
        stock(transfer())
    loss = transfer(paraphraser_epochs=1)
    loss.build((None, 4, 4, 6), (None, 4, 4, 4))
    loss.prepare([normal(2, 4, 4, 6)])
    stock(loss)


@pytest.mark.parametrize("rate", [0, -1.0, np.nan])
def test_paraphrase_rate_must_be_positive(rate):
    with pytest.raises(ValueError, match="paraphrase_rate must be"):
        transfer(paraphrase_rate=rate)


def test_shapes_that_cannot_be_compared():
    with pytest.raises(ValueError, match="translate=True") as error:
        plain().build((None, 4, 4, 8), (None, 4, 4, 6))
    assert "(None, 4, 4, 8), student (None, 4, 4, 6)" in str(error.value)
    with pytest.raises(ValueError, match="compares maps"):
        transfer().build((None, 8), (None, 4, 4, 6))
