"""The students for phones: stages, costs, taps, training, export."""

import keras
import numpy as np
import pytest
from exporting import exported
from marks import nightly

import keras_distill as kd
from keras_distill.models import mobile
from keras_distill.models.mobile import kernels_of
from keras_distill.models.mobile_within import _ladders


@pytest.mark.parametrize(
    "shape, maps",
    [
        ((8, 8, 1), [8, 4]),
        ((16, 16, 1), [16, 8]),
        ((28, 28, 1), [14, 7]),
        ((32, 32, 3), [16, 8]),
        ((64, 64, 3), [32, 16, 8]),
        ((40, 98, 1), [20, 10, 5]),
        ((224, 224, 3), [112, 56, 28, 14, 7]),
    ],
)
def test_the_last_map_is_4_to_8(shape, maps):
    model = mobile(shape, 5, width=0.25, depth=1)
    ends = [f"stage{number}" for number in range(1, len(maps) + 1)]
    assert [model.get_layer(end).output.shape[1] for end in ends] == maps
    assert f"stage{len(maps) + 1}" not in [layer.name for layer in model.layers]
    assert model.output.shape == (None, 5)


@pytest.mark.parametrize(
    "shape, classes, width, depth",
    [
        ((8, 8, 1), 10, 0.25, 1),
        ((29, 50, 3), 7, 1.3, 2),
        ((97, 97, 3), 5, 1, 1),
    ],
)
def test_costs_are_known_without_the_model(shape, classes, width, depth):
    model = mobile(shape, classes, width=width, depth=depth)
    rows = list(kernels_of((None, *shape), classes, width, depth))
    kernels = [w for w in model.weights if w.name == "kernel"]
    assert [row[0] for row in rows] == [np.prod(w.shape) for w in kernels]
    macs = sum(weights * positions for weights, _, positions in rows)
    assert macs == kd.cost.multiply_accumulates(model)


def test_shortcuts_around_blocks_that_keep_their_shape():
    model = mobile((28, 28, 1), 10, depth=3)
    additions = [layer.name for layer in model.layers if "add" in layer.name]
    assert additions == [
        "stage1_block1_add",
        "stage1_block2_add",
        "stage1_block3_add",
        "stage2_block2_add",
        "stage2_block3_add",
    ]


def test_stage_ends_are_what_is_suggested():
    teacher = kd.models.cifar_resnet(8, (32, 32, 3))
    found = kd.taps.suggest(teacher, mobile((32, 32, 3), 10, depth=1))
    assert found.teacher_layer_names == ["stage2", "stage3"]
    assert found.student_layer_names == ["stage1", "stage2"]


@pytest.mark.parametrize("shape", [(None, None, 3), (28, None, 1)])
def test_free_sizes_are_refused(shape):
    with pytest.raises(ValueError, match="input_shape must have a height"):
        mobile(shape, 10)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (224, 224, 3)])
def test_ladders_lead_from_2_thousand_to_2_million(shape):
    ladders = _ladders(shape, "relu6")
    assert [ladder[0]["depth"] for ladder in ladders] == [3, 2, 1]
    smallest, largest = (
        sum(
            weights + filters
            for weights, filters, _ in kernels_of(
                (None, *shape), 10, options["width"], options["depth"]
            )
        )
        for options in (ladders[-1][0], ladders[0][-1])
    )
    assert smallest <= 2_000
    assert 1_800_000 <= largest <= 2_300_000


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu6", *nightly("hard_swish")])
def test_trains_on_the_digits_and_int8_keeps_it(activation, tmp_path):
    split = kd.datasets.digits()
    student = mobile((8, 8, 1), 10, depth=1, activation=activation)
    student.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-2, 180)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    student.fit(
        split.x_train, split.y_train, batch_size=96, epochs=12, verbose=0
    )
    path = exported(
        student,
        tmp_path / "student.tflite",
        quantization="int8",
        representative_dataset=split.x_train,
    )
    found = kd.export.verify(
        path, student, (split.x_test, split.y_test), verbose=False
    )
    assert found.rows[0]["accuracy"] >= 0.93
    assert found.rows[1]["accuracy_drop_points"] <= 1.0
