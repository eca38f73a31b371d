"""The LSTM and the character-aware language model."""

import keras
import numpy as np
import pytest
from exporting import exported
from marks import nightly
from networks import crossentropy

import keras_distill as kd

models = kd.models
RNG = np.random.default_rng(0)
WORDS, CHARACTERS, STREAMS, STEPS, LENGTH = 30, 9, 4, 6, 5
IDS = {
    "tied": RNG.integers(0, WORDS, (STREAMS, STEPS)),
    "untied": RNG.integers(0, WORDS, (STREAMS, STEPS)),
    "characters": RNG.integers(0, CHARACTERS, (STREAMS, STEPS, LENGTH)),
}


def model_of(kind, units=8, stateful=True, steps=STEPS, **options):
    options |= {
        "units": units,
        "stateful": stateful,
        "batch_size": STREAMS if stateful else None,
        "steps": steps,
    }
    if kind != "characters":
        tied = kind == "tied"
        return models.lstm_language_model(WORDS, tied=tied, **options)
    return models.char_cnn_lstm_language_model(
        WORDS,
        CHARACTERS,
        widths=(1, 3),
        filters=(3, 4),
        word_length=LENGTH,
        **options,
    )


def reset(model):
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()


@pytest.fixture(params=list(IDS))
def kind(request):
    return request.param


def parameters(build, **options):
    # Nothing is allocated.
    with keras.StatelessScope(initialize_variables=False):
        count = build(stateful=False, **options).count_params()
    keras.utils.clear_session()
    return count


def test_the_papers_numbers_of_weights():
    assert parameters(models.lstm_language_model) == 51_022_000
    assert parameters(models.lstm_language_model, tied=False) == 66_022_000
    # Kim et al. 2016: 19 million, and 5 million for the small network.
    build = models.char_cnn_lstm_language_model
    assert parameters(build) == 19_367_965
    small = {
        "units": 300,
        "widths": range(1, 7),
        "filters": [25 * width for width in range(1, 7)],
        "highways": 1,
    }
    assert 5.0e6 <= parameters(build, **small) <= 5.5e6


def test_a_stateful_network_goes_on_where_it_was(kind):
    half = STEPS // 2
    whole, parts = model_of(kind, stateful=False), model_of(kind, steps=half)
    parts.set_weights(whole.get_weights())
    ids = IDS[kind]
    logits = np.concatenate([parts(ids[:, :half]), parts(ids[:, half:])], 1)
    assert logits.shape == (STREAMS, STEPS, WORDS)
    np.testing.assert_allclose(logits, whole(ids), rtol=1e-4, atol=1e-6)


def test_one_matrix_embeds_and_gives_the_logits():
    model = model_of("tied", stateful=False)
    embedding = model.get_layer("embedding")
    embedding.bias.assign(RNG.normal(size=WORDS))
    ends = ["embedding#0", "lstm2_dropout"]
    output, taps = kd.taps.Taps(model, ends)(IDS["tied"])
    matrix = embedding.embeddings.numpy()
    np.testing.assert_array_equal(taps[ends[0]], matrix[IDS["tied"]])
    np.testing.assert_allclose(
        output,
        np.asarray(taps[ends[1]]) @ matrix.T + embedding.bias.numpy(),
        rtol=1e-4,
        atol=1e-6,
    )


def test_dropout_is_new_at_every_step():
    model = model_of("tied", units=64, dropout=0.5)
    names = [layer.name for layer in model.layers if "dropout" in layer.name]
    assert len(names) == 3
    same = np.full((STREAMS, STEPS), 7)
    _, taps = kd.taps.Taps(model, names)(same, training=True)
    for name in names:
        dropped = np.asarray(taps[name]) == 0
        assert 0.3 < dropped.mean() < 0.7
        assert (dropped[:, 1:] != dropped[:, :-1]).mean() > 0.3, name


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_words_of_characters_by_hand():
    model = model_of("characters", highways=1, stateful=False)
    ids = IDS["characters"]
    ids[0, 0, 2:] = 0  # Padding.
    weights = {w.path.rpartition("/")[0]: [] for w in model.weights}
    for weight in model.weights:
        name = weight.path.rpartition("/")[0]
        weights[name].append(np.float64(weight.numpy()))
    (table,) = weights["embedding"]
    x = table[ids] * (ids != 0)[..., None]
    words = []
    for number, width in enumerate((1, 3), 1):
        kernel, bias = weights[f"conv{number}"]
        windows = np.stack(
            [x[:, :, k : k + width] for k in range(LENGTH - width + 1)], 2
        )
        y = np.einsum("bstwc,wcf->bstf", windows, kernel[0]) + bias
        words.append(np.tanh(y).max(2))
    word = np.concatenate(words, -1)
    gate_kernel, gate_bias = weights["highway1_gate"]
    kernel, bias = weights["highway1_transform"]
    assert np.all(gate_bias == -2)
    gate = sigmoid(word @ gate_kernel + gate_bias)
    new = np.maximum(word @ kernel + bias, 0)
    _, taps = kd.taps.Taps(model, ["word", "highway1"])(ids)
    for name, expected in (
        ("word", word),
        ("highway1", gate * new + (1 - gate) * word),
    ):
        np.testing.assert_allclose(taps[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_is_saved_and_loaded(kind, policy, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = model_of(kind)
        if kind == "tied":
            model.get_layer("embedding").bias.assign(RNG.normal(size=WORDS))
        logits = model(IDS[kind])
        assert logits.dtype == ("float16" if "16" in policy else "float32")
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(loaded(IDS[kind]), logits)


@pytest.mark.slow
def test_is_distilled_through_its_taps(kind):
    teacher, student = model_of(kind, 12), model_of(kind)
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=[
            kd.losses.SoftTargets(),
            kd.losses.Hint(
                teacher_layer_name="lstm1", student_layer_name="lstm1"
            ),
        ],
    )
    distiller.compile("sgd", crossentropy(), run_eagerly=True)
    before = [w.numpy() for w in student.trainable_weights]
    labels = RNG.integers(0, WORDS, (STREAMS, STEPS))
    logs = distiller.train_on_batch(IDS[kind], labels, return_dict=True)
    assert logs["student_loss"] == pytest.approx(np.log(WORDS), rel=0.1)
    assert np.isfinite(logs["hint_loss"])
    for old, new in zip(before, student.trainable_weights):
        assert np.any(old != new), new.path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tied", *nightly("untied", "characters")])
def test_a_file_begins_from_zero_states(kind, tmp_path):
    model = model_of(kind)
    model(IDS[kind])  # It stands somewhere.
    states = [s.numpy() for s in model.get_layer("lstm1").states]
    path = exported(model, tmp_path / "model.tflite")
    labels = RNG.integers(0, WORDS, (STREAMS, STEPS))
    verification = kd.export.verify(path, model, (IDS[kind], labels))
    assert verification.rows[1]["max_absolute_difference"] < 1e-5
    for before, after in zip(states, model.get_layer("lstm1").states):
        np.testing.assert_array_equal(before, after)
    assert model.get_layer("lstm1").stateful
    reset(model)
    np.testing.assert_allclose(
        kd.export.load(path)(IDS[kind]), model(IDS[kind]), atol=1e-5
    )


@pytest.mark.parametrize(
    "build",
    [models.lstm_language_model, models.char_cnn_lstm_language_model],
)
def test_what_does_not_fit(build):
    with pytest.raises(ValueError, match="stateful=True.*batch_size.*False"):
        build(WORDS)
    with pytest.raises(ValueError, match=r"dropout must be .*\[0, 1\)"):
        build(WORDS, dropout=1.0, batch_size=2)


def test_words_shorter_than_a_convolution():
    build = models.char_cnn_lstm_language_model
    with pytest.raises(ValueError, match="word_length must be .* 7.*wider"):
        build(WORDS, word_length=6, batch_size=2)
    with pytest.raises(ValueError, match="filters must be .*2 of them.*width"):
        build(WORDS, widths=(1, 2), filters=(4,), batch_size=2)
