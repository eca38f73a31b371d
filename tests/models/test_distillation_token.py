"""Vision transformers, and the token of DeiT."""

import keras
import numpy as np
import pytest
from exporting import exported
from networks import convnet
from networks import crossentropy

import keras_distill as kd

layers = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 8, 8, 1)).astype("float32")
Y = RNG.integers(0, 10, 6)
HEADS = ["logits", "distillation_logits"]


def transformer(**options):
    options = {"patch_size": 4, "width": 8, "depth": 1, "heads": 2, **options}
    return kd.models.vision_transformer((8, 8, 1), 10, **options)


def distilled(**options):
    return kd.models.with_distillation_token(transformer(**options))


def heads_of(model, x=X, training=False):
    output, taps = kd.taps.Taps(model, HEADS)(x, training)
    return [np.asarray(t) for t in (output, *(taps[h] for h in HEADS))]


def test_the_papers_numbers_of_weights():
    with keras.StatelessScope(initialize_variables=False):  # Not allocated.
        model = kd.models.vision_transformer()
        both = kd.models.with_distillation_token(model)
    # DeiT-Ti; the published 5,910,800 have a position of the token besides.
    assert model.count_params() == 5_717_416
    assert both.count_params() == 5_910_800 - 192
    keras.utils.clear_session()


def test_the_class_token_is_first_and_has_a_position():
    model = transformer(patch_size=2)
    tokens = model.get_layer("tokens")
    _, taps = kd.taps.Taps(model, ["patches", "tokens"])(X)
    first = np.broadcast_to(tokens.token.numpy(), (6, 1, 8))
    expected = np.concatenate([first, taps["patches"]], 1)
    assert expected.shape == (6, 17, 8)
    expected = expected + tokens.positions.numpy()
    np.testing.assert_allclose(taps["tokens"], expected, atol=1e-6)
    _, taps = kd.taps.Taps(model, ["encoded", "class_token"])(X)
    end = np.asarray(taps["encoded"])[:, 0]
    np.testing.assert_array_equal(taps["class_token"], end)
    head = model.get_layer("logits")
    logits = end @ head.kernel.numpy() + head.bias.numpy()
    np.testing.assert_allclose(model(X), logits, atol=1e-5)


def test_training_gives_the_first_head_and_inference_the_mean():
    model = distilled()
    output, first, second = heads_of(model)
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_allclose(output, (first + second) / 2, atol=1e-6)
    output, first, second = heads_of(model, training=True)
    np.testing.assert_array_equal(output, first)


def test_the_new_token_is_read_by_the_new_head():
    model = distilled()
    _, taps = kd.taps.Taps(model, ["encoded"])(X)
    head = model.get_layer("distillation_logits")
    logits = np.asarray(taps["encoded"])[:, -1] @ head.kernel.numpy()
    np.testing.assert_allclose(heads_of(model)[2], logits, atol=1e-5)
    assert taps["encoded"].shape == (6, 2 * 2 + 2, 8)


def test_any_transformer_of_tokens_will_do():
    """One that takes the mean of its tokens, none of them for the class."""
    x = keras.Input((5, 8))
    first = layers.Dense(8, name="enter")(x)
    y = layers.MultiHeadAttention(2, 4)(first, first)
    y = layers.Add(name="leave")([first, y])
    y = layers.Dense(3)(layers.GlobalAveragePooling1D(name="mean")(y))
    model = keras.Model(x, y)
    both = kd.models.with_distillation_token(model, "enter", "leave")
    taps = kd.taps.Taps(both, ["leave", "mean"])
    _, taken = taps(RNG.normal(size=(2, 5, 8)))
    leave = np.asarray(taken["leave"])
    assert leave.shape == (2, 6, 8)
    np.testing.assert_allclose(taken["mean"], leave[:, :-1].mean(1), atol=1e-6)


def log_softmax(z):
    z = np.float64(z)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


LOSSES = {
    "hard": lambda p, q: -q[np.arange(6), p.argmax(-1)],
    "soft": lambda p, q: np.sum(np.exp(p) * (p - q), -1),
}


def loss_of(kind):
    name = "distillation_logits"
    if kind == "hard":
        return kd.losses.HardLabels(student_layer_name=name)
    return kd.losses.SoftTargets(student_layer_name=name)


def distiller_of(kind, student, teacher, optimizer="sgd"):
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=loss_of(kind)
    )
    distiller.compile(optimizer, crossentropy())
    return distiller


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOSSES)
def test_labels_teach_one_head_and_the_teacher_the_other(kind):
    student, teacher = distilled(), transformer()
    p = log_softmax(teacher(X))
    _, *heads = heads_of(student, training=True)
    first, second = map(log_softmax, heads)
    before = {h: student.get_layer(h).kernel.numpy() for h in HEADS}
    distiller = distiller_of(kind, student, teacher)
    logs = distiller.fit(X, Y, batch_size=6, verbose=0).history
    of_labels = -first[np.arange(6), Y].mean()
    of_teacher = LOSSES[kind](p, second).mean()
    assert logs["student_loss"] == pytest.approx([of_labels], rel=1e-4)
    assert logs["distillation_loss"] == pytest.approx([of_teacher], rel=1e-4)
    assert logs["loss"] == pytest.approx(
        [(of_labels + of_teacher) / 2], rel=1e-4
    )
    for head in HEADS:
        assert np.any(student.get_layer(head).kernel.numpy() != before[head])
    results = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    mean = log_softmax(heads_of(student)[0])
    expected = -mean[np.arange(6), Y].mean()
    assert results["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_is_saved_and_exported(tmp_path):
    model = transformer()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    path = exported(loaded, tmp_path / "model.tflite")
    found = kd.export.load(path)(X)
    np.testing.assert_allclose(found, model(X), rtol=1e-4, atol=1e-5)


@pytest.mark.nightly
def test_digits_with_their_file(tmp_path):
    keras.utils.set_random_seed(0)
    x, y, x_test, y_test = kd.datasets.digits()
    teacher = convnet(16, classes=10, size=8)
    image = keras.Input((8, 8, 1))
    teacher = keras.Model(image, teacher(layers.Concatenate()([image] * 3)))
    teacher.compile(keras.optimizers.Adam(0.01), crossentropy())
    teacher.fit(x, y, epochs=5, verbose=0)
    student = distilled(patch_size=2, width=24)
    adam = keras.optimizers.Adam(5e-3)
    distiller = distiller_of("hard", student, teacher, adam)
    distiller.fit(x, y, epochs=12, verbose=0)
    mean, first, second = heads_of(student, x_test)
    for logits in (first, second, mean):
        assert np.mean(logits.argmax(-1) == y_test) > 0.8
    # The second head learned from the teacher, the first from the labels.
    assert np.mean(first.argmax(-1) != second.argmax(-1)) > 0
    path = exported(distiller.deployable_student(), tmp_path / "deit.tflite")
    answers = kd.export.load(path)(x_test[:50])
    np.testing.assert_allclose(answers, (first + second)[:50] / 2, atol=1e-3)
    student.save(tmp_path / "deit.keras")
    loaded = keras.models.load_model(tmp_path / "deit.keras")
    np.testing.assert_array_equal(loaded(x_test[:8]), student(x_test[:8]))


@pytest.mark.parametrize(
    "make, options, message",
    [
        (lambda: convnet(), {}, "tokens_layer_name: .* no layer 'tokens'"),
        (transformer, {"encoded_layer_name": "end"}, "encoded_layer_name: "),
        (transformer, {"tokens_layer_name": "stem_conv"}, "must give tokens"),
        (
            lambda: keras.Sequential([keras.Input((4, 8)), layers.Dense(3)]),
            {},
            "must be a Functional model",
        ),
        (
            lambda: keras.Model((i := keras.Input((4, 8))), layers.Dense(3)(i)),
            {},
            "one output, logits .batch, classes.*None, 4, 3",
        ),
        (
            lambda: convnet(head="softmax"),
            {},
            "one output, logits .*whose output is softmax",
        ),
    ],
)
def test_models_without_tokens(make, options, message):
    with pytest.raises(ValueError, match=message):
        kd.models.with_distillation_token(make(), **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"patch_size": 3}, "patch_size=3 must divide"),
        ({"width": 9}, "width must be a multiple of heads.*9, heads=2"),
        ({"dropout": 1.0}, r"dropout must be .*\[0, 1\)"),
    ],
)
def test_transformers_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        transformer(**options)
