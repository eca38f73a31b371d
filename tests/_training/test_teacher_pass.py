"""How a teacher runs: in pieces, and on its own device."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import nightly
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill._training.teacher_pass import TeacherPass

HERE = Path(__file__).parent


def distill(teacher, student=None, views=None, jit_compile=False, **kwargs):
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    distiller = kd.Distiller(
        student=student or convnet(batch_norm=True),
        teacher=teacher,
        distillation_losses={
            "soft": kd.losses.SoftTargets(),
            "hint": kd.losses.Hint(**taps),
        },
        views=views,
        **kwargs,
    )
    distiller.compile(
        keras.optimizers.SGD(0.1),
        crossentropy(),
        metrics=[kd.metrics.Agreement()],
        jit_compile=jit_compile,
    )
    return distiller


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, *nightly(True)])
def test_training_is_the_same_in_pieces(jit_compile):
    x, y = data(22)  # Batches of 8, 8, 6.
    teacher, results = convnet(8, batch_norm=True), []
    for size in (None, 3) if jit_compile else (None, 3, 8, 64):
        keras.utils.set_random_seed(0)
        distiller = distill(
            teacher, teacher_batch_size=size, jit_compile=jit_compile
        )
        history = distiller.fit(
            x, y, batch_size=8, shuffle=False, verbose=0, validation_data=(x, y)
        ).history
        results.append((history, distiller.get_weights()))
    (logs, weights), *others = results
    for other_logs, other_weights in others:
        assert other_logs.keys() == logs.keys()
        for name in logs:
            np.testing.assert_allclose(other_logs[name], logs[name], rtol=1e-5)
        for a, b in zip(other_weights, weights, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_dict_of_inputs_in_pieces_and_in_half_precision():
    both = {
        "left": keras.Input((3,), name="left"),
        "right": keras.Input((2,), name="right"),
    }
    merged = keras.layers.Concatenate()(list(both.values()))
    merged = keras.layers.Dense(6, name="tap")(merged)
    teacher = keras.Model(both, keras.layers.Dense(4)(merged))
    rng = np.random.default_rng(0)
    x = {"left": rng.normal(size=(7, 3)), "right": rng.normal(size=(7, 2))}
    x = {k: keras.ops.cast(v, "float32") for k, v in x.items()}
    output, taps = TeacherPass(teacher, convnet(), ["tap"])(x)
    for dtype, tolerance in ((None, 1e-6), ("bfloat16", 0.05)):
        run = TeacherPass(teacher, convnet(), ["tap"], dtype, 3)
        got, tapped = run(x)
        assert got.dtype == tapped["tap"].dtype == "float32"
        np.testing.assert_allclose(got, output, atol=tolerance)
        np.testing.assert_allclose(tapped["tap"], taps["tap"], atol=tolerance)
        assert dtype is None or np.abs(got - output).max() > 1e-5
        own, _ = run(x, own_precision=True)
        np.testing.assert_allclose(own, output, atol=1e-6)


def test_taps_that_are_no_rows_of_samples_are_found_before_the_first_step():
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 4)), name="l")(
        x
    )
    x = keras.ops.mean(keras.ops.reshape(x, (-1, 36, 4)), axis=1)
    teacher = keras.Model(inputs, x)
    hint = kd.losses.SoftTargets(
        teacher_layer_name="l", student_layer_name=None
    )
    distiller = kd.Distiller(
        student=convnet(),
        teacher=teacher,
        distillation_losses=hint,
        teacher_batch_size=4,
    )
    distiller.compile("sgd", crossentropy())
    with pytest.raises(ValueError, match="one row per sample"):
        distiller.fit(*data(8), verbose=0)


@pytest.mark.parametrize("size", (0, -1, 2.0, True, "4"))
def test_sizes_that_are_none(size):
    with pytest.raises(
        ValueError, match="teacher_batch_size must be an integer"
    ):
        distill(convnet(8), teacher_batch_size=size)


def test_a_teacher_beside_its_student_has_no_device_of_its_own():
    assert TeacherPass(convnet(8), convnet(), []).device() is None
    unbuilt = keras.Sequential([keras.layers.Dense(2)])
    assert TeacherPass(convnet(8), unbuilt, []).device() is None


def child(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=HERE,
        # The C library gives back at once what is freed; otherwise it keeps
        # pieces of this size, and the peak says how it keeps them.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [True, *nightly(False)])
def test_a_teacher_on_another_device_runs_there(jit_compile, on_replicas):
    places, difference = on_replicas(1, teacher_elsewhere, jit_compile)
    for where in places:
        # On the first batch as a fact, in step and evaluation as a plan.
        assert set(where) == {"CPU:1"} and len(where) >= 3
    assert len(places) == 2 - jit_compile
    assert difference < 1e-5


class Where(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.places = []

    def call(self, x):
        y = x + 0
        if tf.is_tensor(y):
            self.places.append(y.device.rpartition("device:")[2])
        return y


def teacher_elsewhere(strategy, jit_compile):
    """Where a teacher on the second device ran; what that changed."""
    x, y = data(16)
    sizes = (3,) if jit_compile else (None, 3)
    places, weights = [], []
    for device, size in [("CPU:0", None), *(("CPU:1", s) for s in sizes)]:
        keras.utils.set_random_seed(1)
        with tf.device(device):
            body, where = convnet(8), Where()
            model = keras.Model(body.input, where(body.output))
        keras.utils.set_random_seed(0)
        distiller = distill(
            model, jit_compile=jit_compile, teacher_batch_size=size
        )
        where.places.clear()
        distiller.fit(
            x, y, batch_size=8, verbose=0, validation_data=(x, y), shuffle=False
        )
        weights.append(distiller.get_weights())
        assert distiller.student.weights[0].value.device.endswith("CPU:0")
        if device == "CPU:1":
            places.append(list(where.places))
    first, *others = weights
    difference = max(
        np.abs(a - b).max() for w in others for a, b in zip(first, w)
    )
    return places, float(difference)


def peak(size, samples=64):
    """Largest resident set, in MiB, of a child process that trains with a
    teacher of large activations, beyond the one it had before."""
    size = "None" if size is None else size
    return float(child(PEAK, size, samples)[0])


@pytest.mark.nightly
@pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="needs Linux's /proc"
)
def test_pieces_need_less_memory():
    whole, pieces = peak(None), peak(8)
    print(f"peak of the step: {whole:.0f} MiB, in pieces of 8 {pieces:.0f} MiB")
    assert pieces < 0.5 * whole


# A map of 64 samples x 96 x 96 x 64 has 144 MiB; two or more exist at once.
PEAK = """
import sys
import keras
import numpy as np
import tensorflow as tf
from networks import convnet, crossentropy

import keras_distill as kd

layers = keras.layers


def memory(line):
    text = open("/proc/self/status").read().split(line + ":")[1]
    return int(text.split()[0]) / 1024


size, samples = eval(sys.argv[1]), int(sys.argv[2])
x = inputs = keras.Input((96, 96, 3))
for _ in range(4):
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
teacher = keras.Model(
    inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
)
distiller = kd.Distiller(
    student=keras.Sequential(
        [
            keras.Input((96, 96, 3)),
            layers.AveragePooling2D(32),
            layers.Flatten(),
            layers.Dense(4),
        ]
    ),
    teacher=teacher,
    distillation_losses=kd.losses.SoftTargets(),
    teacher_batch_size=size,
)
distiller.compile("sgd", crossentropy(), jit_compile=False)
x = np.random.default_rng(0).normal(size=(samples, 96, 96, 3))
dataset = tf.data.Dataset.from_tensor_slices(
    (x.astype("float32"), np.zeros(samples, "int32"))
).batch(samples).repeat()
before = memory("VmRSS")
distiller.fit(dataset, steps_per_epoch=3, verbose=0)
print(memory("VmHWM") - before)
"""
