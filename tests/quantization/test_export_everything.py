"""A network with a bit of everything, in its file."""

import keras
import numpy as np
import pytest
from exporting import exported
from marks import nightly

import keras_distill as kd

layers = keras.layers
# Steps of the output. Averages and LeakyReLU round other halves in TFLite.
MOST = {8: 7, 4: 10}


def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x.reshape(-1, 8, 8, 1).astype("float32"), y


def network():
    def normalized(x):
        return layers.BatchNormalization(momentum=0.8)(x)

    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Rescaling(1 / 16)(inputs)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(normalized(x))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
    x = layers.Activation("relu6")(normalized(x))
    x = layers.ZeroPadding2D(1)(x)
    x = layers.SeparableConv2D(8, 3, activation="hard_silu")(x)
    inner = keras.Sequential(
        [
            keras.Input((None, None, 8)),
            layers.Conv2D(8, 1, activation="silu"),
            layers.BatchNormalization(momentum=0.8),
        ]
    )
    y = inner(x)
    x = layers.LeakyReLU()(layers.Add()([x, y, y]))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    pooled = layers.MaxPooling2D(2)(x)
    x = layers.Concatenate()(
        [
            pooled,
            layers.AveragePooling2D(2)(x),
            layers.Activation("sigmoid")(pooled),
        ]
    )
    x = layers.Dropout(0.1)(layers.ReLU()(normalized(x)))
    x = layers.Dense(16)(layers.Flatten()(x))
    x = layers.Activation("tanh")(normalized(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def in_reference_kernels(path, x):
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    return np.concatenate([runner(image=s[None])["output_0"] for s in x])


@pytest.mark.parametrize("bits", [*nightly(8, 4)])
def test_the_file_computes_what_the_student_does(bits, tmp_path):
    x, y = digits()
    student = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(0.01), loss)
    student.fit(x[400:], y[400:], batch_size=64, epochs=2, verbose=0)
    aware = kd.quantization.aware(
        student, weights=bits, calibration_data=x[400:]
    )
    path = exported(aware, tmp_path / "a.tflite", quantization="int8")
    verification = kd.export.verify(
        path, aware, (x[:400], y[:400]), measure_memory=False, verbose=False
    )
    row = verification.rows[1]
    assert row["accuracy"] > 0.5
    assert row["max_difference_steps"] < MOST[bits]
    least = 0.995 if bits == 8 else 0.99
    assert row["agreement"] >= least
    assert row["equal_kernels"] == [11, 11]
    assert row["equal_ranges"] == [23, 23]
    assert row["integer_throughout"]
    reference = in_reference_kernels(path, x[:400])
    expected = aware.predict(x[:400], verbose=0)
    low, high = aware.layers[-1].rounding_range()
    step = float(high - low) / 255
    assert np.abs(reference - expected).max() < MOST[bits] * step
    same = reference.argmax(-1) == expected.argmax(-1)
    assert same.mean() >= least
