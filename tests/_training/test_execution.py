"""What XLA compiles of the step."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill._training import compilation


def distill(loss=None, views=None, **compiled):
    distiller = kd.Distiller(
        student=convnet(batch_norm=True),
        teacher=convnet(8),
        distillation_losses=loss or kd.losses.SoftTargets(),
        views=views,
    )
    loss = crossentropy()
    if views is not None:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1), loss, **compiled)
    return distiller


def compiled_parts(monkeypatch):
    """A list that grows with every part of a step that XLA is to compile."""
    found, original = [], tf.function

    def counting(function=None, **options):
        made = original(function, **options)
        if getattr(function, "__name__", "") == "with_its_masks":
            assert options["jit_compile"]
            found.append(made)
        return made

    monkeypatch.setattr(compilation.tf, "function", counting)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", (True, False, "auto"))
def test_xla_compiles_the_networks_alone(monkeypatch, jit_compile):
    x, y = data(16)
    views = kd.views.FunctionMatching(
        8, mixup=kd.views.Mixup(num_classes=4), seed=1
    )
    distiller = distill(views=views, jit_compile=jit_compile)
    found = compiled_parts(monkeypatch)
    distiller.fit(kd.views.indexed(x), y, batch_size=16, verbose=0)
    on_cpu = jit_compile is True
    assert bool(found) == on_cpu or tf.config.list_physical_devices("GPU")
    for function in found:
        # Only what was called with concrete values is compiled: it was.
        assert function.experimental_get_tracing_count() == 1
    # Keras compiles nothing around it.
    assert distiller.jit_compile is False


def test_a_teacher_that_xla_cannot_compile():
    distiller = distill()
    distiller._networks().teacher.layers[1].supports_jit = False
    with pytest.warns(UserWarning, match="jit_compile is False here.*conv1"):
        distiller.compile("sgd", crossentropy(), jit_compile=True)
    assert not distiller._compiles_networks


@pytest.mark.slow
def test_the_compiled_step_updates_batch_statistics():
    x, y = data(16)
    weights = []
    for jit_compile in (True, False):
        keras.utils.set_random_seed(0)
        distiller = distill(jit_compile=jit_compile)
        distiller.fit(x, y, batch_size=8, verbose=0, shuffle=False)
        weights.append(distiller.student.get_weights())
    for compiled, plain in zip(*weights):
        np.testing.assert_allclose(compiled, plain, atol=1e-5)


@pytest.mark.slow
def test_fits_one_after_another_warn_of_no_retracing():
    """TensorFlow does, of a function that is traced for a single call."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = tf.get_logger()
    logger.addHandler(handler)
    try:
        x, y = data(64)
        for _ in range(7):
            distill().fit(x, y, batch_size=8, verbose=0)
    finally:
        logger.removeHandler(handler)
    assert not [line for line in said if "retracing" in line]
