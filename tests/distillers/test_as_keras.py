"""What `keras.Model` does beside fitting a dataset, a Distiller does too."""

import keras
import numpy as np
import pytest
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

layers = keras.layers
X, Y = data(16)


def distill(student=None, teacher=None, optimizer="sgd", loss=None, **compiled):
    distiller = kd.Distiller(
        student=student or convnet(),
        teacher=teacher or convnet(8),
        distillation_losses=kd.losses.SoftTargets(),
    )
    distiller.compile(optimizer, loss or crossentropy(), **compiled)
    return distiller


@pytest.mark.slow
def test_lists_of_results_begin_with_the_loss():
    distiller = distill(metrics=["accuracy"])
    by_name = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    assert by_name["loss"] != by_name["accuracy"]
    expected = [by_name["loss"], by_name["accuracy"]]
    assert distiller.evaluate(X, Y, verbose=0) == pytest.approx(expected)
    assert distiller.test_on_batch(X, Y) == pytest.approx(expected)
    trained = distiller.train_on_batch(X, Y)
    terms = distiller.train_on_batch(X, Y, return_dict=True)
    assert len(trained) == len(terms)
    assert distiller.train_on_batch(X, Y)[0] < terms["loss"] < trained[0]
    # Without metrics it is a number.
    assert np.ndim(distill().evaluate(X, Y, verbose=0)) == 0


@pytest.mark.slow
def test_losses_and_metrics_by_name_of_the_output():
    for loss in ({"head": crossentropy()}, crossentropy()):
        distiller = distill(loss=loss, metrics={"head": ["accuracy"]})
        logs = distiller.fit(X, Y, verbose=0).history
        assert {"loss", "student_loss"} < set(logs)
    assert any("accuracy" in name for name in logs)
    # A subclassed student has no names.
    assert distill(Subclassed()).output_names is None


def test_batches_of_one_kind_are_checked_once():
    teacher = Subclassed(8)
    teacher(X)
    distiller = distill(teacher=teacher)
    distiller.train_on_batch(X, Y)
    calls = teacher.calls
    for _ in range(3):
        distiller.train_on_batch(X, Y)
    assert teacher.calls == calls
    with pytest.raises(ValueError, match=r"takes \(None, 8, 8, 3\)"):
        distiller.train_on_batch(X[:, :4], Y)


def test_a_student_that_is_frozen():
    student = convnet()
    student.trainable = False
    distiller = distill(student)
    before = distiller.get_weights()
    with pytest.warns(UserWarning, match="Nothing is trained"):
        logs = distiller.fit(X, Y, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    for old, new in zip(before, distiller.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def sequences(width=4):
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, width, mask_zero=True)(inputs)
    return keras.Model(inputs, layers.Dense(4)(x))


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", (True, False))
def test_compiled_networks_keep_their_masks(jit_compile):
    """Padding counts in no metric, of training as of evaluation."""
    y = np.random.default_rng(0).integers(0, 4, (16, 6))
    x = np.where(np.arange(6) < 2, y + 1, 0)
    distiller = distill(
        sequences(),
        sequences(8),
        keras.optimizers.SGD(0.0),
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    logs = distiller.fit(x, y, validation_data=(x, y), verbose=0).history
    assert logs["accuracy"] == pytest.approx(logs["val_accuracy"])
    right = distiller.predict(x, verbose=0).argmax(-1) == y
    assert logs["accuracy"] == pytest.approx([right[:, :2].mean()])
    assert right[:, :2].mean() != right.mean()


class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.alphas = []

    def on_train_batch_end(self, batch, logs=None):
        self.alphas.append(float(self.model._current_alpha()))


@pytest.mark.slow
def test_schedules_and_draws_go_by_batches_also_while_gradients_accumulate():
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=4)
    views = kd.views.FunctionMatching(
        8, mixup=kd.views.Mixup(num_classes=4), seed=1
    )
    steps = keras.optimizers.schedules.PolynomialDecay(1.0, 8, 0.0)
    distiller = kd.Distiller(
        student=convnet(),
        teacher=convnet(8),
        distillation_losses=kd.losses.SoftTargets(),
        views=views,
        alpha=steps,
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    distiller.compile(optimizer, loss)
    seen, drawn = Seen(), []
    x = np.repeat(X[:1], 16, axis=0)
    for _ in range(4):
        logs = distiller.fit(
            x, Y[:16], batch_size=16, shuffle=False, verbose=0, callbacks=[seen]
        ).history
        drawn.append(logs["soft_targets_loss"][0])
    np.testing.assert_allclose(seen.alphas, [7 / 8, 6 / 8, 5 / 8, 4 / 8])
    # The same network on the same image: other views.
    assert len(set(drawn)) == 4


@pytest.mark.slow
def test_one_optimizer_for_each_part():
    def made():
        slow, fast = keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1)
        parts = keras.optimizers.OptimizerMap(slow, {".*head.*": fast})
        return keras.optimizers.MultiOptimizer(parts)

    student = convnet()
    before = [w.copy() for w in student.get_weights()]
    distill(student, optimizer=made()).fit(X, Y, verbose=0)
    moved = [(a != b).any() for a, b in zip(before, student.get_weights())]
    assert moved == [False] * 4 + [True] * 2
    cohort = kd.MutualDistiller(students=[convnet(), convnet(5)])
    cohort.compile(made(), crossentropy())
    assert np.isfinite(cohort.fit(X, Y, verbose=0).history["loss"]).all()
