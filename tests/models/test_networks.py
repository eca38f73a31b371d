"""What all networks have in common: stage ends, taps, files, export."""

import keras
import numpy as np
import pytest
from exporting import exported
from marks import nightly
from networks import crossentropy

import keras_distill as kd

models = kd.models
ENDS = ["stage1", "stage2", "stage3"]
SMALL = {
    "cifar": lambda **kw: models.cifar_resnet(blocks=(1, 2, 1), **kw),
    "preactivation": lambda **kw: models.preactivation_resnet(
        blocks=(2, 1, 2), **kw
    ),
    "bottleneck": lambda **kw: models.preactivation_resnet(
        11, bottleneck=True, **kw
    ),
    "wide": lambda **kw: models.wide_resnet(10, 2, 0.1, **kw),
    "dense": lambda **kw: models.densenet_bc(16, 6, **kw),
    "small": lambda **kw: models.small_cnn((4, 8, 8), **kw),
}


def images(count=4, size=16):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (count, size, size, 3)).astype("float32")


@pytest.fixture(params=list(SMALL))
def model(request):
    return SMALL[request.param](input_shape=(16, 16, 3), classes=5)


def test_first_and_last_layer_have_one_name(model):
    assert model.get_layer("stem_conv").kernel.shape[:2] == (3, 3)
    assert model.get_layer("logits").output is model.output
    assert model.output.shape == (None, 5)


def test_all_that_follows_comes_from_the_stage_end(model):
    x = images()
    for end in ENDS:
        tensor = model.get_layer(end).output
        before = keras.Model(model.input, tensor)
        after = keras.Model(tensor, model.output)  # refuses other sources
        np.testing.assert_allclose(
            after(before(x)), model(x), rtol=1e-4, atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "teacher, student",
    [
        ("wide", "cifar"),
        ("bottleneck", "dense"),
        ("preactivation", "small"),
    ],
)
def test_stage_ends_are_what_is_suggested(teacher, student):
    options = {"input_shape": (32, 32, 3)}
    found = kd.taps.suggest(
        SMALL[teacher](**options), SMALL[student](**options)
    )
    assert found.teacher_layer_names == ENDS
    assert found.student_layer_names == ENDS
    sides = [tuple(s.shape[1] for s in pair) for pair in found.pairs]
    assert sides == [(32, 32), (16, 16), (8, 8)]


def test_stage_ends_of_a_nested_network_are_suggested():
    inner = SMALL["wide"](input_shape=(32, 32, 3), name="inner")
    image = keras.Input((32, 32, 3))
    found = kd.taps.suggest(keras.Model(image, inner(image)), inner)
    assert found.teacher_layer_names == [f"inner/{end}" for end in ENDS]


@pytest.mark.nightly
def test_bit_resnet_and_mobilenet():
    teacher = models.bit_resnet(50, 1, (64, 64, 3), classes=5)
    student = keras.applications.MobileNetV2((64, 64, 3), 0.35, weights=None)
    found = kd.taps.suggest(teacher, student)
    assert found.teacher_layer_names == [
        "stem_pool",
        *(f"stage{k}" for k in (1, 2, 3, 4)),
    ]
    assert found.student_layer_names[-1] == "out_relu"
    for one, other in found.pairs:
        assert one.shape[1:3] == other.shape[1:3]
    # This one ends at 16 x 16: the last maps are a pair, and those of 32 x 32.
    small = SMALL["cifar"](input_shape=(64, 64, 3), classes=5)
    found = kd.taps.suggest(teacher, small)
    assert found.teacher_layer_names == ["stem_pool", "stage4"]
    assert found.student_layer_names == ["stage2", "stage3"]


@pytest.mark.slow
def test_a_suggestion_is_trained_with():
    options = {"input_shape": (16, 16, 3), "classes": 5}
    teacher, student = SMALL["dense"](**options), SMALL["small"](**options)
    found = kd.taps.suggest(teacher, student)
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.AttentionTransfer(
            teacher_layer_name=found.teacher_layer_names,
            student_layer_name=found.student_layer_names,
        ),
    )
    distiller.compile("sgd", crossentropy())
    before = [w.numpy() for w in student.trainable_weights]
    assert np.all(np.isfinite(distiller.train_on_batch(images(), np.arange(4))))
    for old, new in zip(before, student.trainable_weights):
        assert np.any(old != new), new.path


@pytest.mark.slow
def test_is_saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images()), model(images()))
    assert [layer.name for layer in loaded.layers] == [
        layer.name for layer in model.layers
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*lies in")
@pytest.mark.parametrize(
    "name",
    ["small", *nightly(*sorted({*SMALL} - {"small"}))],
)
def test_converts_to_float_and_int8(name, tmp_path):
    model = SMALL[name](input_shape=(16, 16, 3), classes=5)
    x = images(32)
    for _ in range(8):
        model(x, training=True)
    for quantization, bound in ((None, 1e-4), ("int8", 0.15)):
        path = exported(
            model,
            tmp_path / f"{quantization}.tflite",
            quantization=quantization,
            representative_dataset=x,
        )
        difference = np.abs(kd.export.load(path)(x) - np.asarray(model(x)))
        assert difference.max() <= bound * np.abs(model(x)).max(), quantization
