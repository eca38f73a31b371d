"""What attention layers compute inside, taken without an edit to the model."""

import keras
import numpy as np
import pytest

import keras_distill as kd

layers = keras.layers
IDS = np.array([[3, 1, 4, 2, 0], [5, 9, 0, 0, 0]])
PARTS = ("query", "key", "value", "scores", "probabilities")


def network(attention, causal=False, called=1):
    """Embeds, attends in a block of its own, and gives the sequence."""
    inputs = keras.Input((5, 8))
    x = layers.LayerNormalization(name="norm")(inputs)
    for _ in range(called):
        x = attention(x, x, use_causal_mask=causal)
    block = keras.Model(inputs, x, name="block")
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(10, 8, mask_zero=True)(ids)
    return keras.Model(ids, block(x))


def taken(model, parts=PARTS, call="", ids=IDS):
    keras.utils.set_random_seed(1)
    for weight in model.weights:
        weight.assign(keras.random.normal(weight.shape))
    names = {part: f"block/attention/{part}{call}" for part in parts}
    taps = kd.taps.Taps(model, list(names.values()))
    output, tensors = taps(ids)
    np.testing.assert_array_equal(output, model(ids))
    for name, shape in taps.shapes()[1].items():
        assert shape[1:] == tuple(tensors[name].shape)[1:], name
    assert taps.gives_attention(names["scores"])
    assert not taps.gives_attention(names.get("query", "block"))
    return {part: tensors[name] for part, name in names.items()}


def mask_of(tensor):
    return np.asarray(tensor._keras_mask)


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


ATTENTIONS = {
    "fused": lambda: layers.MultiHeadAttention(2, 4, name="attention"),
    "dropout": lambda: layers.MultiHeadAttention(
        2, 4, dropout=0.1, name="attention"
    ),
    "grouped": lambda: layers.GroupQueryAttention(4, 4, 2, name="attention"),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ATTENTIONS)
def test_scores_are_those_of_queries_and_keys(kind, causal):
    found = taken(network(ATTENTIONS[kind](), causal))
    query, key = (np.asarray(found[part]) for part in ("query", "key"))
    heads = query.shape[2]
    key = np.repeat(key, heads // key.shape[2], axis=2)
    scores = np.einsum("bthd,bshd->bhts", query, key) / np.sqrt(4)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-5)
    present = IDS > 0
    for part in ("query", "key", "value"):
        np.testing.assert_array_equal(mask_of(found[part]), present)
    pairs = present[:, None, :, None] & present[:, None, None, :]
    if causal:
        pairs = pairs & np.tri(5, dtype=bool)
    for part in ("scores", "probabilities"):
        np.testing.assert_array_equal(mask_of(found[part]), pairs)
    expected = softmax(np.where(pairs, scores, -1e9))
    np.testing.assert_allclose(
        np.where(pairs, found["probabilities"], 0.0),
        np.where(pairs, expected, 0.0),
        rtol=1e-4,
        atol=1e-6,
    )


def test_probabilities_are_those_that_keras_returns():
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    inputs = keras.Input((5, 8))
    attended = attention(inputs, inputs)
    model = keras.Model(inputs, attended)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    name = "attention/probabilities"
    _, found = kd.taps.Taps(model, [name])(x)
    _, scores = attention(x, x, return_attention_scores=True)
    np.testing.assert_allclose(found[name], scores, rtol=1e-5, atol=1e-6)
    assert not hasattr(found[name], "_keras_mask")


def test_a_mask_for_attention_alone_gives_the_positions():
    # As keras-hub has it: no mask on the tensors, and one row for all queries.
    x, padding = keras.Input((5, 8)), keras.Input((5,), dtype="bool")
    y = layers.MultiHeadAttention(2, 4, name="attention")(
        x, x, attention_mask=padding[:, None, :]
    )
    model = keras.Model([x, padding], y)
    names = [f"attention/{part}" for part in PARTS]
    _, found = kd.taps.Taps(model, names)([np.ones((2, 5, 8)), IDS > 0])
    for name in names[:3]:
        np.testing.assert_array_equal(mask_of(found[name]), IDS > 0)
    present = IDS > 0
    pairs = present[:, None, :, None] & present[:, None, None, :]
    np.testing.assert_array_equal(mask_of(found["attention/scores"]), pairs)


def test_one_of_several_calls():
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    model = network(attention, called=2)
    first, second = (taken(model, PARTS, f"#{k}") for k in (0, 1))
    for part in PARTS:
        assert np.abs(np.subtract(first[part], second[part])).max() > 1e-3
    with pytest.raises(ValueError, match="called 2 times.*scores#0"):
        taken(model, ["scores"])


def test_names_that_mean_no_attention():
    model = network(layers.MultiHeadAttention(2, 4, name="attention"))
    with pytest.raises(ValueError, match="is a LayerNormalization, which has"):
        kd.taps.Taps(model, ["block/norm/scores"])
    with pytest.raises(ValueError, match="no layer 'attentoin'.*attention"):
        kd.taps.Taps(model, ["attentoin/scores"])
    # The end of a path is enough, as for every layer.
    assert kd.taps.Taps(model, ["attention/scores"]).names


class Own(layers.Layer):
    """An attention layer of one's own, fused on request."""

    def __init__(self, fused=False, **kwargs):
        super().__init__(**kwargs)
        self.fused = fused
        self.query, self.key = (layers.Dense(4, name=n) for n in "qk")
        self.softmax = layers.Softmax()

    def call(self, x, attention_mask=None):
        scores = keras.ops.matmul(
            self.query(x), keras.ops.transpose(self.key(x), (0, 2, 1))
        )[:, None]
        if self.fused:
            return keras.ops.matmul(keras.ops.softmax(scores), x[:, None])
        return keras.ops.matmul(self.softmax(scores), x[:, None])


def test_a_softmax_of_its_own_and_none():
    x = keras.Input((5, 8))
    model = keras.Model(x, Own(name="own")(x))
    names = ["own/scores", "own/probabilities"]
    _, found = kd.taps.Taps(model, names)(np.ones((2, 5, 8)))
    np.testing.assert_allclose(
        softmax(np.asarray(found[names[0]])), found[names[1]], atol=1e-6
    )
    fused = keras.Model(x, Own(fused=True, name="own")(x))
    with pytest.raises(ValueError, match="disable_flash_attention.*Relation"):
        kd.taps.Taps(fused, names)(np.ones((2, 5, 8)))


def test_names_in_another_process():
    models = []
    for _ in range(2):
        model = keras.Sequential([keras.Input((5, 8)), Own()])
        models.append(model)
    name = f"{models[0].layers[0].name}/scores"
    from keras_distill.taps import paths
    from keras_distill.taps import places

    saved = paths.named_for_saving(models[0], name, "teacher")
    found = places.from_config(places.to_config(saved))
    assert paths.find_layer(models[1], found)[0] is models[1].layers[0]
    assert kd.taps.Taps(models[1], [found]).gives_attention(found)
