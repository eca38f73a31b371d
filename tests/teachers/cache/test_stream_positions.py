"""The cache of a teacher whose state goes on from batch to batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd

layers = keras.layers
STREAMS, STEPS, WORDS = 4, 3, 6
TEXT = np.random.default_rng(0).integers(0, WORDS, (STREAMS, 13), "int32")
FLOAT32 = kd.teachers.StoredOutputs(dtype="float32")


def network(units=5, stateful=True):
    keras.utils.set_random_seed(units)
    inputs = keras.Input(batch_shape=(STREAMS, STEPS), dtype="int32")
    x = layers.Embedding(WORDS, 4)(inputs)
    x = layers.LSTM(units, return_sequences=True, stateful=stateful)(x)
    model = keras.Model(inputs, layers.Dense(WORDS)(x))
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


def streams():
    starts = range(0, 12, STEPS)
    x = np.stack([TEXT[:, i : i + STEPS] for i in starts])
    y = np.stack([TEXT[:, i + 1 : i + 1 + STEPS] for i in starts])
    return tf.data.Dataset.from_tensor_slices((x, y))


def live(teacher):
    """The teacher's outputs on all batches, from states of zero."""
    for layer in teacher.layers:
        if hasattr(layer, "reset_state"):
            layer.reset_state()
    return np.stack([teacher(x).numpy() for x, _ in streams()])


def cached(dataset):
    outputs = [x["keras_distill/teacher_outputs"]["output"] for x, _ in dataset]
    return np.stack([output.numpy() for output in outputs])


def build(path, dataset=None, teacher=None, outputs=FLOAT32, **kwargs):
    return kd.TeacherCache.build(
        teacher or network(),
        streams() if dataset is None else dataset,
        path,
        outputs=outputs,
        verbose=False,
        **kwargs,
    )


def test_outputs_are_those_of_the_streams(tmp_path):
    teacher = network()
    teacher(next(iter(streams()))[0])  # Its state is somewhere.
    state = teacher.layers[2].states[0].numpy()
    cache = build(tmp_path / "cache", teacher=teacher)
    np.testing.assert_array_equal(state, teacher.layers[2].states[0].numpy())
    expected = live(teacher)
    joined = cache.join(streams(), teacher=teacher)
    np.testing.assert_allclose(cached(joined), expected, rtol=1e-6)
    twice = cached(cache.join(streams().repeat(2)))
    np.testing.assert_allclose(twice, np.tile(expected, (2, 1, 1, 1)))
    # Another student may have other batches.
    again = cache.join(streams()).shuffle(4, seed=0)
    assert sorted(cached(again).ravel()) == sorted(cached(joined).ravel())


@pytest.mark.slow
def test_a_stateful_student_learns_as_from_the_live_teacher(tmp_path):
    teacher = network()
    cache = build(tmp_path / "cache", teacher=teacher)
    histories = []
    for data, given in ((streams(), teacher), (cache.join(streams()), None)):
        distiller = kd.Distiller(
            student=network(3),
            teacher=given,
            distillation_losses=kd.losses.SoftTargets(),
        )
        distiller.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        histories.append(distiller.fit(data, epochs=2, verbose=0).history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-4)


@pytest.mark.slow
def test_a_killed_build_goes_on_in_the_middle_of_the_streams(tmp_path):
    run = kd.teachers.TeacherRun(samples_per_shard=STREAMS)

    def killed():
        yield from streams().take(2)
        raise KeyboardInterrupt

    broken = tf.data.Dataset.from_generator(
        killed, output_signature=streams().element_spec
    )
    with pytest.raises(Exception):
        build(tmp_path / "cache", broken, run=run)
    cache = build(tmp_path / "cache", run=run)
    np.testing.assert_allclose(
        cached(cache.join(streams())), live(network()), rtol=1e-6
    )


@pytest.mark.slow
def test_top_k_of_the_words_with_the_rest_of_the_mass(tmp_path):
    outputs = kd.teachers.StoredOutputs(top_k=2, dtype="float32")
    cache = build(tmp_path / "cache", outputs=outputs)
    p, q = (
        keras.ops.softmax(logits).numpy()
        for logits in (live(network()), cached(cache.join(streams())))
    )
    assert q.shape == (4, STREAMS, STEPS, WORDS)
    first = np.argsort(-p, axis=-1)
    p, q = (np.take_along_axis(a, first, -1) for a in (p, q))
    np.testing.assert_allclose(q[..., :2], p[..., :2], rtol=1e-5)
    rest = np.repeat(p[..., 2:].sum(-1, keepdims=True) / 4, 4, -1)
    np.testing.assert_allclose(q[..., 2:], rest, rtol=1e-4, atol=1e-7)


def test_arrays_in_order(tmp_path):
    x = np.concatenate([x for x, _ in streams().as_numpy_iterator()])
    cache = build(tmp_path / "cache", x)
    np.testing.assert_allclose(
        cached(cache.join(streams())), live(network()), rtol=1e-6
    )


@pytest.mark.parametrize(
    "dataset, message",
    [
        (lambda: streams().shuffle(4), "the dataset is shuffled"),
        (lambda: streams().unbatch(), "4 streams.*batches of 3"),
        (lambda: streams().repeat(), "without .repeat"),
        (lambda: [1, 2], "streams in order"),
    ],
)
def test_data_without_a_fixed_order(tmp_path, dataset, message):
    with pytest.raises((TypeError, ValueError), match=f"(?s){message}"):
        build(tmp_path / "cache", dataset())


def test_messages_of_run_and_join(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be 4"):
        run = kd.teachers.TeacherRun(batch_size=8)
        build(tmp_path / "other", run=run)
    cache = build(tmp_path / "cache")
    with pytest.raises(ValueError, match="shuffled"):
        cache.join(streams().shuffle(4))
    with pytest.raises(ValueError, match="made for 4 streams.*batches of 2"):
        cache.join(streams().unbatch().batch(2, drop_remainder=True))
    with pytest.raises(ValueError, match="another order"):
        cache.join(streams().skip(1))
