"""on_policy: who writes, what is drawn, what has weight, what fit sees."""

import keras
import numpy as np
import pytest
from keras import ops
from networks import convnet
from networks import token_network

import keras_distill as kd
from keras_distill.recipes.on_policy import written

VOCABULARY = 11


@pytest.fixture(scope="module")
def model():
    return token_network(VOCABULARY)


def texts(n=8, length=6):
    return np.random.default_rng(0).integers(0, VOCABULARY, (n, length))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def expected(model, ids, prompts, draws, temperature):
    """One row and one id after the other, in float64."""
    ids = ids.copy()
    for row, prompt in enumerate(prompts):
        for place in range(prompt, ids.shape[1]):
            seen = ids[row : row + 1, :place].astype("int32")
            logits = np.asarray(model(seen), "float64")[0, -1]
            if temperature == 0.0:
                ids[row, place] = logits.argmax()
            else:
                p = np.cumsum(softmax(logits / temperature))
                ids[row, place] = np.sum(p <= draws[row, place])
    return ids


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_continues_prompts_of_any_length(model, temperature):
    ids, prompts = texts(4, 5), np.array([1, 4, 2, 3], "int32")
    draws = np.random.default_rng(1).random(ids.shape, "float32")
    wanted = expected(model, ids, prompts, draws, temperature)
    found = written(
        model, ids.astype("int32"), prompts, draws, temperature=temperature
    )
    np.testing.assert_array_equal(found, wanted)
    assert np.any(wanted != ids)


def test_what_is_drawn_has_the_probabilities_of_the_softmax(model):
    n = 1000
    ids = np.repeat(texts(1, 2), n, axis=0).astype("int32")
    draws = np.stack([np.zeros(n), (np.arange(n) + 0.5) / n], axis=1)
    found = written(
        model, ids, np.ones(n, "int32"), draws.astype("float32"), temperature=9
    )
    p = softmax(np.asarray(model(ids[:1, :1]))[0, 0] / 9)
    shares = np.bincount(np.asarray(found)[:, 1], minlength=VOCABULARY) / n
    assert p.min() > 1e-3
    np.testing.assert_allclose(shares, p, atol=1.1 / n)


def test_pieces_for_fit(model):
    ids = texts(9, 6)
    dataset = kd.recipes.on_policy(
        model, ids, prompt_length=2, batch_size=4, seed=3
    )
    assert dataset.cardinality() == 2
    first, second = list(dataset), list(dataset)
    for batch in first:
        x, y, weight = batch
        assert x.shape == y.shape == weight.shape == (4, 5)
        np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
        # The first id of the continuation is the third, and the second y.
        np.testing.assert_array_equal(weight, [[0, 1, 1, 1, 1]] * 4)
        for prompt in x[:, :2].numpy():
            assert prompt.tolist() in ids[:, :2].tolist()
    # Another order and other draws in the next epoch; the same of one seed.
    assert np.any(first[0][0] != second[0][0])
    again = kd.recipes.on_policy(
        model, ids, prompt_length=2, batch_size=4, seed=3
    )
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one[0], other[0])


def test_writes_with_the_weights_of_the_step():
    model = token_network()
    dataset = kd.recipes.on_policy(
        model, texts(), prompt_length=1, temperature=0, batch_size=2
    )
    head = model.get_layer("head")
    for number, (_, y, _) in enumerate(dataset):
        if number:
            np.testing.assert_array_equal(y, np.full((2, 5), number))
        bias = 1e4 * np.eye(VOCABULARY)[number + 1]
        head.set_weights([head.get_weights()[0], bias])


def test_a_fraction_of_the_batches_is_data(model):
    ids = texts(64)

    def from_data(fraction):
        dataset = kd.recipes.on_policy(
            model, ids, prompt_length=1, fraction=fraction, batch_size=2
        )
        rows = {tuple(row) for row in ids.tolist()}
        batches = [np.concatenate([x, y[:, -1:]], 1) for x, y, _ in dataset]
        return sum(all(tuple(r) in rows for r in b.tolist()) for b in batches)

    assert from_data(0.0) == 32
    assert from_data(1.0) == 0
    assert 8 < from_data(0.5) < 24


def test_prompts_alone_and_the_end_of_a_text(model):
    ids = texts(4, 3)
    prompts = [1, 3, 2, 3]
    dataset = kd.recipes.on_policy(
        model,
        ids,
        prompt_length=prompts,
        length=40,
        end_token=5,
        temperature=5.0,
        batch_size=4,
    )
    ((x, y, weight),) = dataset
    assert x.shape == (4, 39)
    beginnings = [row[:p].tolist() for row, p in zip(ids, prompts)]
    ended = 0
    for row in range(4):
        text = [int(x[row, 0]), *y[row].numpy().tolist()]
        found = [p for p, b in zip(prompts, beginnings) if text[:p] == b]
        end = next(
            (i for i in range(found[0], 40) if text[i] == 5), len(text) - 1
        )
        ended += end < 39
        counts = [found[0] <= i <= end for i in range(1, 40)]
        np.testing.assert_array_equal(weight[row], counts)
    assert ended


class LikeKerasHub:
    """A sampler that takes the second best, with keras-hub's signature."""

    def __call__(self, next, prompt, cache=None, index=0, mask=None):
        def step(place, ids):
            logits, _, _ = next(ids, (), place)
            token = ops.top_k(logits, 2)[1][:, 1]
            token = ops.where(mask[:, place], ids[:, place], token)
            places = ops.arange(ids.shape[1])
            return place + 1, ops.where(places == place, token[:, None], ids)

        last = prompt.shape[1]
        return ops.while_loop(lambda i, _: i < last, step, (index, prompt))[1]


def test_samplers_of_keras_hub(model):
    dataset = kd.recipes.on_policy(
        model,
        texts(),
        prompt_length=2,
        sampler=LikeKerasHub(),
        batch_size=8,
    )
    ((x, y, _),) = dataset
    logits = np.asarray(model(x))
    second = np.argsort(logits, axis=-1)[..., -2]
    np.testing.assert_array_equal(y[:, 1:], second[:, 1:])


@pytest.mark.slow
def test_real_samplers_of_keras_hub(model):
    hub = pytest.importorskip("keras_hub")
    for sampler in (
        hub.samplers.GreedySampler(),
        hub.samplers.TopKSampler(k=3),
    ):
        dataset = kd.recipes.on_policy(
            model, texts(), prompt_length=2, sampler=sampler, batch_size=8
        )
        ((x, y, _),) = dataset
        ranks = np.argsort(np.argsort(-np.asarray(model(x)), axis=-1), axis=-1)
        ranks = np.take_along_axis(ranks, np.asarray(y)[..., None], -1)[:, 1:]
        assert ranks.max() < (1 if "Greedy" in type(sampler).__name__ else 3)


@pytest.mark.slow
def test_fit_on_what_the_student_writes():
    teacher, student = token_network(seed=0), token_network(seed=1)
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(direction="reverse"),
        alpha=1.0,
    )
    distiller.compile(keras.optimizers.SGD(0.0))
    arguments = {"prompt_length": 2, "batch_size": 8}
    one = kd.recipes.on_policy(student, texts(8), seed=1, **arguments)
    next(iter(one))  # The look at the first batch is an epoch of its own.
    ((x, _, weight),) = one
    p, q = (softmax(np.asarray(m(x), "float64")) for m in (teacher, student))
    wanted = np.mean(weight * np.sum(q * np.log(q / p), axis=-1))
    same = kd.recipes.on_policy(student, texts(8), seed=1, **arguments)
    history = distiller.fit(same, verbose=0).history
    np.testing.assert_allclose(history["loss"], wanted, rtol=1e-4)
    distiller.compile(keras.optimizers.Adam(0.03))
    samples = kd.recipes.on_policy(student, texts(64), **arguments)
    losses = distiller.fit(samples, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


# Errors.


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompt_length": 6}, "prompt_length .* from 1 to 5: .*length=6"),
        ({"prompt_length": [1, 2]}, "one for each of the 8 .*Received: 2"),
        ({"length": 9, "fraction": 0.5}, "fraction below 1 .*all 9 ids"),
        ({"batch_size": 9}, "at least as many as batch_size.*8 sequences"),
        ({"sequences": texts()[0]}, r"sequences must be .*shape \(6,\)"),
        ({"sequences": texts() / 2}, "sequences must be .*float64"),
        ({"sequences": texts() + 3}, "ids from 0 to 10.*tokenizer"),
        ({"sequences": texts() - 3}, "ids from 0 to 10.*tokenizer"),
        ({"sampler": "greedy"}, "keras_hub.samplers.*Received: 'greedy'"),
    ],
)
def test_arguments_that_do_not_fit(model, arguments, message):
    arguments = {"sequences": texts(), "prompt_length": 2, **arguments}
    arguments = {"batch_size": 4, **arguments}
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        kd.recipes.on_policy(model, **arguments)


def recurrent(stateful):
    return keras.Sequential(
        [
            keras.Input((5,), batch_size=4, dtype="int32"),
            keras.layers.Embedding(VOCABULARY, 4),
            keras.layers.GRU(4, return_sequences=True, stateful=stateful),
            keras.layers.Dense(VOCABULARY),
        ]
    )


def of_a_softmax():
    model = token_network()
    return keras.Model(model.input, keras.layers.Softmax()(model.output))


@pytest.mark.parametrize(
    "make, message",
    [
        (of_a_softmax, "ends in a softmax.*activation=None"),
        (lambda: recurrent(True), "stateful=True.*set_weights"),
        (convnet, r"takes inputs of shape \(None, 8, 8, 3\)"),
        (
            lambda: keras.Sequential(
                [keras.Input((5,)), keras.layers.Dense(3)]
            ),
            r"must give logits \(batch, steps, vocabulary\).*\(1, 3\)",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((6,)), keras.layers.Embedding(11, 11)]
            ),
            r"\(None, 6\), but .*\(None, 5\): one less than length=6",
        ),
    ],
)
def test_networks_that_cannot_write(make, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        kd.recipes.on_policy(make(), texts(), prompt_length=2, batch_size=4)


@pytest.mark.parametrize("of_teacher, of_student", [(9, 11), (16, 11)])
def test_a_teacher_of_another_vocabulary(of_teacher, of_student):
    student = token_network(of_student)
    message = "(?s)class_map=.*tokenizers.*teacher write text"
    with pytest.raises(ValueError, match=message):
        distiller = kd.Distiller(
            student=student,
            teacher=token_network(of_teacher),
            distillation_losses=kd.losses.JensenShannon(),
            alpha=1.0,
        )
        distiller.compile(keras.optimizers.SGD(0.1))
        samples = kd.recipes.on_policy(
            student, texts(), prompt_length=2, batch_size=4
        )
        distiller.fit(samples, verbose=0)
