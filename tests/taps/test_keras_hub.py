"""keras-hub's backbones, with random weights, as teachers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import crossentropy

import keras_distill as kd

keras_hub = pytest.importorskip("keras_hub", exc_type=ImportError)
pytestmark = pytest.mark.slow

IDS = np.array([[3, 1, 4, 2, 0, 0], [5, 9, 0, 0, 0, 0]], "int32")
PRESENT = IDS > 0
LABELS = np.array([0, 2])
SIZES = {
    "vocabulary_size": 20,
    "num_layers": 2,
    "intermediate_dim": 16,
}


def bert():
    return keras_hub.models.BertBackbone(
        num_heads=2, hidden_dim=8, max_sequence_length=6, **SIZES
    )


def gpt2():
    return keras_hub.models.GPT2Backbone(
        num_heads=2, hidden_dim=8, max_sequence_length=6, **SIZES
    )


def llama():
    return keras_hub.models.LlamaBackbone(
        num_query_heads=4, num_key_value_heads=2, hidden_dim=16, **SIZES
    )


def student():
    return kd.models.transformer_classifier(
        20, 3, length=6, width=8, depth=1, heads=2, dropout=0.0
    )


def batch():
    return {
        "ids": IDS,
        "token_ids": IDS,
        "segment_ids": np.zeros_like(IDS),
        "padding_mask": PRESENT.astype("int32"),
    }


def inputs_of(model):
    return {tensor.name: batch()[tensor.name] for tensor in model.inputs}


@pytest.mark.parametrize("make, causal", [(bert, 0), (gpt2, 1), (llama, 1)])
def test_attention_and_padding(make, causal):
    teacher = make()
    found = kd.taps.suggest(teacher, student())
    attention = found.teacher_attention_names[-1]
    block = found.teacher_layer_names[-1]
    parts = "query", "key", "value", "scores", "probabilities"
    names = [block, *(f"{attention}/{part}" for part in parts)]
    _, taken = kd.taps.Taps(teacher, names)(inputs_of(teacher))
    for name in names[:4]:
        np.testing.assert_array_equal(taken[name]._keras_mask, PRESENT)
    scores, probabilities = (taken[name] for name in names[4:])
    pairs = PRESENT[:, None, :, None] & PRESENT[:, None, None, :]
    if causal:
        pairs = pairs & np.tri(6, dtype=bool)
    np.testing.assert_array_equal(scores._keras_mask, pairs)
    counted = np.broadcast_to(pairs, scores.shape)
    p = np.exp(np.where(counted, scores, -np.inf))
    with np.errstate(invalid="ignore"):
        p = p / p.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(
        np.asarray(probabilities)[counted], p[counted], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("make", [bert, gpt2, llama])
def test_backbones_teach(make):
    teacher, small = make(), student()
    found = kd.taps.suggest(teacher, small)
    attention = {
        "teacher_layer_name": found.teacher_attention_names[-1],
        "student_layer_name": found.student_attention_names[-1],
    }
    distiller = kd.Distiller(
        student=small,
        teacher=teacher,
        distillation_losses=[
            kd.losses.HiddenStates(
                teacher_layer_name=found.teacher_layer_names,
                student_layer_name=found.student_layer_names,
            ),
            kd.losses.AttentionRelation(heads=4, **attention),
        ],
    )
    distiller.compile(keras.optimizers.SGD(0.0), crossentropy())
    x = batch()
    before = distiller.fit(x, LABELS, verbose=0).history
    assert all(np.isfinite(values).all() for values in before.values())
    # What stands where the padding is does not matter.
    x["token_ids"] = np.where(PRESENT, IDS, 7).astype("int32")
    after = distiller.fit(x, LABELS, verbose=0).history
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4)
    x["padding_mask"] = np.ones_like(IDS)
    with pytest.raises(ValueError, match="leave out different ones"):
        distiller.fit(x, LABELS, verbose=0)


def test_a_teacher_that_takes_the_text():
    words = keras.layers.TextVectorization(output_sequence_length=6)
    words.adapt(["one two three four"])
    text = keras.Input((), dtype="string", name="text")
    teacher = keras.Model(text, student()(words(text)))
    small = student()
    path = f"{teacher.layers[-1].name}/block1"
    distiller = kd.Distiller(
        student=small,
        teacher=teacher,
        distillation_losses=[
            kd.losses.SoftTargets(),
            kd.losses.HiddenStates(
                teacher_layer_name=path, student_layer_name="block1"
            ),
        ],
    )
    distiller.compile("sgd", crossentropy())
    texts = ["one two", "four"]
    x = {"text": texts, "ids": np.asarray(words(texts))}
    dataset = tf.data.Dataset.from_tensor_slices((x, LABELS)).batch(2)
    history = distiller.fit(dataset, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def retina_net(filters):
    """A detector of three classes for images of 64 x 64."""
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, filters, filters, filters],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )
    backbone = keras_hub.models.RetinaNetBackbone(
        image_encoder=encoder,
        min_level=3,
        max_level=5,
        use_p5=False,
        image_shape=(64, 64, 3),
    )
    return keras_hub.models.RetinaNetObjectDetector(
        backbone, num_classes=3, pre_logits_num_conv_layers=1
    )


def test_a_detector():
    student, teacher = retina_net(8), retina_net(16)
    x = np.random.default_rng(0).uniform(size=(2, 64, 64, 3))
    answers, targets = student(x, training=True), teacher(x)
    losses = {
        "class": kd.losses.SoftTargets(
            activation="sigmoid",
            teacher_layer_name="cls_logits",
            student_layer_name="cls_logits",
        ),
        "box": kd.losses.LogitsMSE(
            regression=True,
            teacher_layer_name="bbox_regression",
            student_layer_name="bbox_regression",
        ),
        "level": kd.losses.PearsonFeature(
            teacher_layer_name="fpn/output_conv_P3",
            student_layer_name="fpn/output_conv_P3",
        ),
    }
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=losses,
        alpha=1.0,
    )
    distiller.compile(keras.optimizers.SGD(0.0))
    logs = distiller.fit(x, verbose=0).history
    squares = (answers["bbox_regression"] - targets["bbox_regression"]) ** 2
    expected = np.sum(squares, -1).mean()
    assert logs["box_loss"] == [pytest.approx(expected, rel=1e-3)]
    p = tf.sigmoid(targets["cls_logits"])
    cross = tf.nn.sigmoid_cross_entropy_with_logits
    expected = cross(p, answers["cls_logits"]) - cross(p, targets["cls_logits"])
    expected = np.mean(expected)
    assert logs["class_loss"] == [pytest.approx(expected, rel=1e-2, abs=1e-6)]
    with pytest.raises(ValueError, match="3 tensors.*'fpn/output_conv_P3'"):
        kd.taps.Taps(student, ["fpn"])(x)
