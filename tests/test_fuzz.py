"""Networks, losses and settings that nobody chose: what always holds."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import keras_distill as kd

layers = keras.layers
CLASSES = 3
WORDS, LENGTH = 7, 4


def image_input():
    return keras.Input((8, 8, 3))


def tokens_input():
    return keras.Input((LENGTH,), dtype="int32")


def convolution(x, width):
    x = layers.Conv2D(width, 3, padding="same")(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def depthwise(x, width):
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    return layers.Conv2D(width, 1, activation="relu")(x)


def squeeze_excite(x, width):
    x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    scale = layers.GlobalAveragePooling2D(keepdims=True)(x)
    scale = layers.Conv2D(width, 1, activation="sigmoid")(scale)
    return layers.Multiply()([x, scale])


def residual(x, width):
    x = layers.Conv2D(width, 1)(x)
    return layers.Add()([x, layers.Conv2D(width, 3, padding="same")(x)])


def gru(x, width):
    return layers.GRU(width, return_sequences=True, unroll=True)(x)


def attention(x, width):
    x = layers.Dense(width)(x)
    return layers.Add()([x, layers.MultiHeadAttention(2, 2)(x, x)])


ON_IMAGES = (convolution, depthwise, squeeze_excite, residual)
ON_TOKENS = (gru, attention)


def network(blocks, masked, width):
    """A network whose blocks end in layers `tap0`, `tap1`, ..."""
    inputs = tokens_input() if blocks[0] in ON_TOKENS else image_input()
    x = inputs
    if blocks[0] in ON_TOKENS:
        x = layers.Embedding(WORDS, width, mask_zero=masked)(x)
    for index, block in enumerate(blocks):
        x = layers.Activation("linear", name=f"tap{index}")(block(x, width))
    if blocks[0] in ON_TOKENS:
        x = layers.GlobalAveragePooling1D()(x)
    else:
        x = layers.GlobalAveragePooling2D()(x)
    logits = layers.Dense(CLASSES, dtype="float32")(x)
    return keras.Model(inputs, logits)


RESPONSES = (
    kd.losses.SoftTargets,
    kd.losses.LogitsMSE,
    kd.losses.HardLabels,
    kd.losses.DecoupledKD,
    kd.losses.DIST,
)
ANY_FEATURES = (
    kd.losses.Hint,
    kd.losses.SimilarityPreserving,
    kd.losses.RelationalDistance,
    kd.losses.ProbabilisticTransfer,
    kd.losses.VariationalInformation,
)
IMAGE_FEATURES = (
    kd.losses.AttentionTransfer,
    kd.losses.NeuronSelectivityTransfer,
    kd.losses.ChannelWise,
)
# They compare the samples of a batch.
NEED_SAMPLES = (
    kd.losses.SimilarityPreserving,
    kd.losses.RelationalDistance,
    kd.losses.ProbabilisticTransfer,
)


@st.composite
def cases(draw):
    kinds = draw(st.sampled_from([ON_IMAGES, ON_TOKENS]))
    blocks = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2))
    samples = draw(st.sampled_from([1, 5]))
    features = ANY_FEATURES
    if kinds is ON_IMAGES:
        features += IMAGE_FEATURES
    if samples == 1:
        features = [f for f in features if f not in NEED_SAMPLES]
    return {
        "blocks": blocks,
        "masked": draw(st.booleans()),
        "samples": samples,
        "responses": draw(
            st.lists(st.sampled_from(RESPONSES), max_size=2, unique=True)
        ),
        "features": draw(
            st.lists(
                st.sampled_from(features), min_size=1, max_size=2, unique=True
            )
        ),
        "policy": draw(
            st.sampled_from(["float32", "mixed_bfloat16", "mixed_float16"])
        ),
        "how": draw(st.sampled_from(["eager"] * 4 + ["graph"] * 3 + ["jit"])),
        "seed": draw(st.integers(0, 2**31 - 1)),
    }


def values(model):
    return [np.array(v.value) for v in model.variables]


def check(case, folder):
    keras.utils.set_random_seed(case["seed"])
    teacher = network(case["blocks"], case["masked"], 6)
    keras.config.set_dtype_policy(case["policy"])
    try:
        student = network(case["blocks"], case["masked"], 4)
    finally:
        keras.config.set_dtype_policy("float32")
    last = f"tap{len(case['blocks']) - 1}"
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=[
            *(loss() for loss in case["responses"]),
            *(
                loss(teacher_layer_name=last, student_layer_name=last)
                for loss in case["features"]
            ),
        ],
    )
    distiller.compile(
        keras.optimizers.SGD(0.01, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=case["how"] == "eager",
        jit_compile=case["how"] == "jit",
    )
    n = case["samples"]
    generator = np.random.default_rng(case["seed"])
    if case["blocks"][0] in ON_TOKENS:
        x = generator.integers(1, WORDS, (n, LENGTH)).astype("int32")
        x[:, LENGTH // 2 :] *= generator.integers(0, 2, (n, 1))
    else:
        x = generator.normal(size=(n, 8, 8, 3)).astype("float32")
    y = generator.integers(0, CLASSES, n)

    before_teacher, before = values(teacher), values(student)
    # Loss scaling skips steps until its scale fits.
    epochs = 20 if case["policy"] == "mixed_float16" else 2
    history = distiller.fit(
        x, y, batch_size=n, epochs=epochs, shuffle=False, verbose=0
    ).history
    for name, log in history.items():
        assert np.isfinite(log).all(), name
    for a, b in zip(values(teacher), before_teacher, strict=True):
        np.testing.assert_array_equal(a, b)
    after = values(student)
    assert any((a != b).any() for a, b in zip(after, before, strict=True))

    distiller.evaluate(x, y, verbose=0)
    for a, b in zip(values(student), after, strict=True):
        np.testing.assert_array_equal(a, b)

    distiller.save(folder / "distiller.keras")
    loaded = kd.load_distiller(folder / "distiller.keras", teacher=teacher)
    # Keras itself saves no seeds of recurrent cells.
    for a, b in zip(loaded.weights, distiller.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    expected = distiller.predict(x, verbose=0)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), expected, rtol=1e-6, atol=1e-6
    )

    if case["policy"] == "float32":
        file = kd.export.tflite(
            student, folder / "a.tflite", overwrite=True, verbose=False
        )
        found = np.stack(
            [np.squeeze(kd.export.load(file)(row[None]), 0) for row in x]
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def fuzz(examples):
    return lambda test: settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(given(case=cases())(test))


@pytest.mark.slow
@fuzz(5)
def test_what_always_holds(tmp_path, case):
    check(case, tmp_path)


@pytest.mark.nightly
@fuzz(50)
def test_what_always_holds_in_many_cases(tmp_path, case):
    check(case, tmp_path)


@pytest.mark.weekly
@fuzz(500)
def test_what_always_holds_in_a_long_run(tmp_path, case):
    check(case, tmp_path)
