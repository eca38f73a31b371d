"""Perplexity: one mean over all words, whatever the batches."""

import keras
import numpy as np
import pytest

import keras_distill as kd

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 4, 6)).astype("float32") * 3
LABELS = RNG.integers(0, 6, (5, 4))
WEIGHTS = RNG.uniform(size=(5, 4)).astype("float32")
MASK = RNG.uniform(size=(5, 4)) > 0.4


def expected(weights):
    shifted = LOGITS.astype("float64")
    p = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    nll = -np.log(np.take_along_axis(p, LABELS[..., None], -1)[..., 0])
    weights = np.broadcast_to(weights, nll.shape)
    return np.exp((weights * nll).sum() / weights.sum())


def perplexity(batches, labels=LABELS, logits=LOGITS, weights=None, **kwargs):
    metric = kd.metrics.Perplexity(**kwargs)
    for rows in batches:
        part = None if weights is None else weights[rows]
        metric.update_state(labels[rows], logits[rows], part)
    return float(metric.result())


WHOLE, UNEVEN = [slice(None)], [slice(3), slice(3, 5)]


@pytest.mark.parametrize("batches", [WHOLE, UNEVEN])
@pytest.mark.parametrize(
    "weights", [None, WEIGHTS[:, 0], WEIGHTS, MASK.astype("float32")]
)
def test_it_is_one_mean_over_all_words(batches, weights):
    by_word = 1.0 if weights is None else weights
    if np.ndim(by_word) == 1:
        by_word = by_word[:, None]
    value = perplexity(batches, weights=weights)
    np.testing.assert_allclose(value, expected(by_word), rtol=1e-5)


def test_masks_and_ignored_labels_and_nan_behind_them():
    void = np.where(MASK, LABELS, -1)
    logits = np.where(MASK[..., None], LOGITS, np.nan)
    value = perplexity(UNEVEN, void, logits, ignore_class=-1)
    np.testing.assert_allclose(value, expected(MASK), rtol=1e-5)
    masked = keras.ops.convert_to_tensor(LOGITS)
    masked._keras_mask = keras.ops.convert_to_tensor(MASK)
    metric = kd.metrics.Perplexity()
    metric.update_state(LABELS, masked, WEIGHTS)
    np.testing.assert_allclose(
        float(metric.result()), expected(MASK * WEIGHTS), rtol=1e-5
    )


def test_probabilities_half_precision_and_no_words():
    p = keras.ops.convert_to_numpy(keras.ops.softmax(LOGITS))
    value = perplexity(WHOLE, logits=p, from_logits=False)
    np.testing.assert_allclose(value, expected(1.0), rtol=1e-5)
    half = perplexity(WHOLE, LABELS[..., None], LOGITS.astype("float16"))
    np.testing.assert_allclose(half, expected(1.0), rtol=1e-2)
    assert perplexity([]) == 1.0


def test_serialization_direction_and_message():
    metric = kd.metrics.Perplexity(ignore_class=0, name="ppl")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert again.get_config() == metric.get_config()
    with pytest.raises(ValueError, match="argmax"):
        metric.update_state(LOGITS, LOGITS)


def test_in_fit_and_evaluate_of_a_distiller():
    def network():
        return keras.Sequential(
            [
                keras.Input((4,), dtype="int32"),
                keras.layers.Embedding(6, 3),
                keras.layers.Dense(6),
            ]
        )

    student = network()
    distiller = kd.Distiller(
        student=student,
        teacher=network(),
        distillation_losses=kd.losses.SoftTargets(),
    )
    distiller.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[kd.metrics.Perplexity()],
        weighted_metrics=[kd.metrics.Perplexity(name="weighted")],
    )
    x = RNG.integers(0, 6, (5, 4))
    arguments = {"sample_weight": WEIGHTS, "batch_size": 2, "verbose": 0}
    history = distiller.fit(x, LABELS, **arguments).history
    results = distiller.evaluate(x, LABELS, return_dict=True, **arguments)
    logits = student(x).numpy()
    for name, weights in (("perplexity", None), ("weighted", WEIGHTS)):
        value = perplexity(WHOLE, logits=logits, weights=weights)
        np.testing.assert_allclose(history[name], [value], rtol=1e-5)
        np.testing.assert_allclose(results[name], value, rtol=1e-5)
