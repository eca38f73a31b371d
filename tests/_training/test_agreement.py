"""Agreement counts the positions that count, and only where classes are."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

layers = keras.layers


@keras.saving.register_keras_serializable("test_agreement")
class Means(kd.losses.DistillationLoss):
    """Compares the means over all positions, of any size."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        means = [
            keras.ops.mean(x, axis=range(1, len(x.shape)))
            for x in (teacher_outputs, student_outputs)
        ]
        return keras.ops.mean(keras.ops.square(means[0] - means[1]))


def test_the_same_numbers_of_other_classes():
    x, y = data(32)
    loss = kd.losses.SoftTargets(class_map=[1, 0, 2, 3])
    networks = {"student": convnet(), "teacher": convnet(8)}
    distiller = kd.Distiller(distillation_losses=loss, **networks)
    distiller.compile("sgd", crossentropy())
    assert "agreement" not in distiller.fit(x, y, verbose=0).history
    distiller.compile("sgd", crossentropy(), metrics=[kd.metrics.Agreement()])
    with pytest.raises(ValueError, match="same classes.*and a class_map"):
        distiller.fit(x, y, verbose=0)


def tagger(width, mask=True):
    return keras.Sequential(
        [
            keras.Input((10,), dtype="int32"),
            layers.Embedding(6, width, mask_zero=mask),
            layers.Dense(6),
        ]
    )


def tokens(n=24):
    rng = np.random.default_rng(0)
    x = np.zeros((n, 10), "int32")
    for row, length in enumerate(rng.integers(0, 10, n)):
        x[row, :length] = rng.integers(1, 6, length)
    return x, x * 3 % 6


def decided(model, x):
    return model.predict(x, verbose=0).argmax(-1)


def distilled(student, teacher, **kwargs):
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
        teacher_batch_size=kwargs.pop("teacher_batch_size", None),
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=kwargs.pop("ignore_class", None)
    )
    distiller.compile(
        keras.optimizers.SGD(0.0),
        loss,
        metrics=[kd.metrics.Agreement(name="asked")],
        **kwargs,
    )
    return distiller


@pytest.mark.parametrize(
    "masks, options",
    [
        ((True, True), {}),
        pytest.param(
            (True, False), {"jit_compile": True}, marks=pytest.mark.slow
        ),
        ((False, True), {"teacher_batch_size": 5}),
        pytest.param(
            (False, True), {"steps_per_execution": 2}, marks=pytest.mark.slow
        ),
        ((False, False), {"ignore_class": 0}),
    ],
)
def test_padding_and_void_labels_do_not_count(masks, options):
    x, y = tokens()
    student, teacher = tagger(4, masks[0]), tagger(8, masks[1])
    same = decided(student, x) == decided(teacher, x)
    void = options.get("ignore_class")
    real = same[x > 0 if void is None else y != void].mean()
    assert abs(real - same.mean()) > 0.05
    distiller = distilled(student, teacher, **options)
    logs = distiller.fit(x, y, batch_size=7, verbose=0).history
    assert logs["agreement"] == pytest.approx([real])
    assert logs["asked"] == pytest.approx([real])
    logs = distiller.evaluate(x, y, batch_size=7, verbose=0, return_dict=True)
    assert logs["asked"] == pytest.approx(real)


def test_weights_weigh_the_mean_and_an_empty_batch_adds_nothing():
    x, y = tokens()
    x[:8] = 0
    student, teacher = tagger(4), tagger(8)
    same = decided(student, x) == decided(teacher, x)
    weight = np.random.default_rng(1).uniform(0, 2, x.shape)
    weight[8:16] = 0.0
    w = (x > 0) * weight
    wanted = np.sum(w * same) / np.sum(w)
    distiller = distilled(student, teacher)
    arguments = {"sample_weight": weight, "batch_size": 8, "verbose": 0}
    logs = distiller.fit(x, y, shuffle=False, **arguments).history
    assert logs["agreement"] == pytest.approx([wanted])
    assert logs["asked"] == pytest.approx([wanted])
    logs = distiller.evaluate(x, y, return_dict=True, **arguments)
    assert logs["asked"] == pytest.approx(wanted)


def maps(stride, size=16):
    return keras.Sequential(
        [
            keras.Input((size, size, 1)),
            layers.Conv2D(4, 3, strides=stride, padding="same"),
            layers.Conv2D(3, 1),
        ]
    )


@pytest.mark.parametrize(
    "size", [16, pytest.param(None, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("strides, logged", [((4, 1), 0), ((4, 4), 1)])
def test_maps_of_unlike_size_train_without(size, strides, logged):
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 1))
    y = np.zeros((8, 4, 4), "int32")
    student, teacher = (maps(stride, size) for stride in strides)
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=Means()
    )
    distiller.compile("sgd", crossentropy())
    logs = distiller.fit(x, y, verbose=0).history
    assert ("agreement" in logs) == logged
    distiller.compile("sgd", crossentropy(), metrics=[kd.metrics.Agreement()])
    if logged:
        assert "agreement" in distiller.fit(x, y, verbose=0).history
        return
    distiller._first_batch.value.forget()
    with pytest.raises(ValueError, match="same positions.*16, 16.*4, 4"):
        distiller.fit(x, y, verbose=0)
    assert int(distiller.optimizer.iterations) == 0


def test_one_position_is_not_broadcast():
    pooled = keras.Sequential(
        [*maps(1).layers, layers.GlobalAveragePooling2D(keepdims=True)]
    )
    pooled.build((None, 16, 16, 1))
    distiller = kd.Distiller(
        student=pooled, teacher=maps(1), distillation_losses=Means()
    )
    distiller.compile("sgd", crossentropy())
    x, y = np.zeros((4, 16, 16, 1)), np.zeros((4, 1, 1))
    assert "agreement" not in distiller.train_on_batch(x, y, return_dict=True)


@pytest.mark.parametrize(
    "loss, distillation_loss, head, logged",
    [
        ("mse", kd.losses.LogitsMSE(), None, False),
        ("mse", Means(), None, False),
        ("cosine_similarity", Means(), None, False),
        ("mse", Means(), "sigmoid", False),
        ("mse", Means(), "softmax", True),
        (None, Means(), "sigmoid", True),
        (crossentropy(), Means(), None, True),
        ("categorical_hinge", Means(), None, True),
        ("mse", kd.losses.SoftTargets(), None, True),
        (None, keras.distillation.LogitsDistillation(), None, True),
    ],
)
def test_it_is_logged_for_classes_only(loss, distillation_loss, head, logged):
    x, y = data(8)
    if loss in ("mse", "cosine_similarity", "categorical_hinge"):
        y = np.eye(4)[y]
    distiller = kd.Distiller(
        student=convnet(head=head),
        teacher=convnet(8, head=head),
        distillation_losses=distillation_loss,
        alpha=1.0,
    )
    distiller.compile("sgd", loss)
    assert (
        "agreement" in distiller.train_on_batch(x, y, return_dict=True)
    ) == (logged)


def test_sizes_that_differ_in_a_later_batch_are_not_counted():
    """The first batch shows equal sizes by chance."""
    student, teacher = maps(1, None), maps(2, None)
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=Means(), alpha=1.0
    )
    distiller.compile("sgd", crossentropy())
    x = np.zeros((2, 1, 1, 1))
    first = distiller.train_on_batch(x, np.zeros((2, 1, 1)), return_dict=True)
    assert first["agreement"] in (0.0, 1.0)
    x, y = np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 4))
    dataset = tf.data.Dataset.from_tensors((x, y))
    logs = distiller.train_on_batch(*next(iter(dataset)), return_dict=True)
    assert np.isfinite(logs["loss"])
