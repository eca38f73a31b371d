"""Pairs of layers that kd.taps.suggest proposes."""

import keras
import numpy as np
import pytest
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

layers = keras.layers


def network(strides, size=32, channels=4, padding="same", name="m"):
    """conv, relu per stride; names `relu0`, `relu1`, ..."""
    x = inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 255, name="scale")(x)
    for k, stride in enumerate(strides):
        x = layers.Conv2D(
            channels, 3, stride, padding=padding, name=f"conv{k}"
        )(x)
        x = layers.ReLU(name=f"relu{k}")(x)
        x = layers.Dropout(0.1)(x)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Flatten()(layers.Conv2D(10, 1, name="head")(x))
    return keras.Model(inputs, x, name=name)


def test_the_last_layer_of_each_resolution():
    teacher, student = network([1, 1, 2, 1, 2, 1]), network([1, 2, 2])
    found = kd.taps.suggest(teacher, student)
    assert found.teacher_layer_names == ["relu1", "relu3", "relu5"]
    assert found.student_layer_names == ["relu0", "relu1", "relu2"]
    shapes = [tuple(s.shape[1:] for s in pair) for pair in found.pairs]
    assert shapes == [((n, n, 4),) * 2 for n in (32, 16, 8)]


def test_resolutions_that_one_network_lacks():
    found = kd.taps.suggest(network([1, 2, 2]), network([2, 2, 2, 2]))
    pairs = zip(found.teacher_layer_names, found.student_layer_names)
    assert list(pairs) == [("relu1", "relu0"), ("relu2", "relu3")]


def test_layers_named_as_ends_of_stages_come_before_later_ones():
    x = inputs = keras.Input((16, 16, 3))
    names = ("stage1", "next1", "backstage2", "stage2", "stage3", "next3")
    for name, stride in zip(names, (1, 1, 2, 1, 1, 1)):
        x = layers.Conv2D(4, 3, stride, padding="same", name=name)(x)
    model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))
    found = kd.taps.suggest(model, network([1, 2], 16))
    assert found.teacher_layer_names == ["stage1", "stage3"]


def test_networks_of_unlike_input_size_are_paired_from_the_end():
    found = kd.taps.suggest(network([1, 2, 2], 64), network([1, 2, 2], 32))
    assert found.teacher_layer_names == ["relu0", "relu1", "relu2"]
    assert found.student_layer_names == ["relu0", "relu1", "relu2"]


def test_convolutions_without_padding_are_no_change():
    x = inputs = keras.Input((28, 28, 1))
    for k in range(3):
        x = layers.Conv2D(4, 3, activation="relu", name=f"conv{k}")(x)
        x = layers.MaxPooling2D(name=f"pool{k}")(x) if k < 2 else x
    x = layers.Dense(10)(layers.Flatten()(x))
    lenet = keras.Model(inputs, x)
    found = kd.taps.suggest(lenet, lenet).teacher_layer_names
    assert found == ["conv0", "conv1", "conv2"]


@pytest.mark.slow
def test_nested_models_and_residual_blocks():
    inputs = keras.Input((32, 32, 3))
    backbone = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), include_top=False, weights=None
    )
    x = layers.GlobalAveragePooling2D()(backbone(inputs))
    student = keras.Model(inputs, layers.Dense(10)(x))
    teacher = keras.applications.ResNet50(
        input_shape=(32, 32, 3), weights=None, classes=10
    )
    found = kd.taps.suggest(teacher, student)
    path = backbone.name
    assert (
        found.student_layer_names[:-1]
        == [
            f"{path}/block_1_expand_relu",
            f"{path}/block_3_expand_relu",
            f"{path}/block_6_expand_relu",
        ]
        or len(found) >= 3
    )
    for pair in found.pairs[:-1]:
        assert pair[0].shape[1:3] == pair[1].shape[1:3]
    taken = kd.taps.Taps(student, found.student_layer_names)
    _, tensors = taken(np.zeros((1, 32, 32, 3), "float32"))
    for stage in (student for _, student in found.pairs):
        assert tensors[stage.name].shape[1:] == stage.shape[1:]


def test_a_layer_called_twice_is_named_by_its_call():
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="conv")
    x = layers.Flatten()(conv(conv(inputs)))
    model = keras.Model(inputs, layers.Dense(4)(x))
    assert kd.taps.suggest(model, convnet()).teacher_layer_names == ["conv#1"]


def test_it_prints_as_a_table_and_is_passed_on():
    teacher, student = convnet(8), convnet()
    found = kd.taps.suggest(teacher, student)
    assert str(found).splitlines() == [
        "teacher  output      student  output",
        "-------  ----------  -------  ---------",
        "act1     8 x 8 x 8   act1     8 x 8 x 4",
        "conv2    4 x 4 x 16  conv2    4 x 4 x 8",
    ]
    assert repr(found) == str(found) and len(found) == 2
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.AttentionTransfer(
            teacher_layer_name=found.teacher_layer_names,
            student_layer_name=found.student_layer_names,
        ),
    )
    distiller.compile("sgd", crossentropy())
    assert np.isfinite(distiller.train_on_batch(*data(8)))[0]


def test_networks_that_cannot_be_looked_through():
    with pytest.raises(ValueError, match="subclassed"):
        kd.taps.suggest(Subclassed(), convnet())
    free = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match="student 'sequential.*known size"):
        kd.taps.suggest(convnet(), free)
    inputs = keras.Input((8, 8, 3))
    flat = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match="has no layer with an output"):
        kd.taps.suggest(convnet(), flat)


# Transformers.


def transformer(depth, **options):
    options = {"length": 6, "width": 8, "heads": 2, **options}
    return kd.models.transformer_classifier(20, 3, depth=depth, **options)


def test_blocks_of_transformers():
    teacher, student = transformer(5), transformer(2, width=4)
    found = kd.taps.suggest(teacher, student)
    embeddings = "embeddings"
    assert found.teacher_layer_names == [embeddings, "block2", "block5"]
    assert found.student_layer_names == [embeddings, "block1", "block2"]
    assert found.teacher_attention_names == [
        "block2/attention",
        "block5/attention",
    ]
    assert found.student_attention_names[-1] == "block2/attention"
    assert "block5      6 x 8" in str(found)
    outer = keras.Sequential([keras.Input((6,), dtype="int32"), teacher])
    inner = f"{teacher.name}/block5"
    assert kd.taps.suggest(outer, student).teacher_layer_names[-1] == inner
    with pytest.raises(ValueError, match="student has 5 blocks and.*2: name"):
        kd.taps.suggest(student, teacher)
    assert not kd.taps.suggest(convnet(), convnet()).teacher_attention_names


def test_blocks_whose_layers_lie_side_by_side():
    def flat(depth):
        x = inputs = keras.Input((5, 8))
        x = layers.Dense(8, name="patches")(x)
        for k in range(depth):
            y = layers.LayerNormalization()(x)
            y = layers.MultiHeadAttention(2, 4, name=f"attention{k}")(y, y)
            x = layers.Add(name=f"attended{k}")([x, y])
            y = layers.Dense(8)(layers.LayerNormalization()(x))
            x = layers.Add(name=f"added{k}")([x, y])
        x = layers.Dense(3)(layers.GlobalAveragePooling1D()(x))
        return keras.Model(inputs, x)

    found = kd.taps.suggest(flat(3), flat(1))
    assert found.teacher_layer_names == ["patches", "added2"]
    assert found.student_layer_names == ["patches", "added0"]
    assert found.teacher_attention_names == ["attention2"]


def test_a_block_that_runs_again():
    block = transformer(1).get_layer("block1")
    x = inputs = keras.Input((6, 8))
    for _ in range(3):
        x = block(x)
    found = kd.taps.suggest(keras.Model(inputs, x), transformer(1))
    assert found.teacher_layer_names == ["block1#2"]
    assert found.teacher_attention_names == ["block1/attention#2"]
