"""What converts: seven networks, five quantizations, one table.

    python examples/benchmarks/conversions.py

Weights are random (batch normalization has seen the images), so that accuracy
means nothing here and int8 is farther from float than in a trained network:
the question is what converts, how large it is and whether it computes the same.
`--only NAME` runs one network.
"""

import argparse
import pathlib
import re
import tempfile
import warnings

import keras
import numpy as np

import keras_distill as kd

layers = keras.layers
applications = keras.applications
QUANTIZATIONS = (None, "float16", "dynamic", "int8", "int16x8")
SIZE, CLASSES = 96, 10


def application(build, **options):
    """A network of keras.applications that gives logits."""
    return build(
        weights=None,
        input_shape=(SIZE, SIZE, 3),
        classes=CLASSES,
        classifier_activation=None,
        **options,
    )


def resnet():
    """ResNet-20 of He et al. 2016 (CIFAR), with 96 pixels."""

    def convolution(x, width, strides=1, size=3):
        x = layers.Conv2D(width, size, strides, padding="same", use_bias=False)(
            x
        )
        return layers.BatchNormalization()(x)

    inputs = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.ReLU()(convolution(inputs, 16))
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            y = layers.ReLU()(convolution(x, width, strides))
            y = convolution(y, width)
            if strides > 1:
                x = convolution(x, width, strides, size=1)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name="resnet20")


def nested():
    """A backbone and a head as models in a model."""
    backbone = application(
        applications.MobileNetV2, alpha=0.35, include_top=False
    )
    head = keras.Sequential(
        [layers.GlobalAveragePooling2D(), layers.Dense(CLASSES)], name="head"
    )
    inputs = keras.Input((SIZE, SIZE, 3), name="image")
    return keras.Model(inputs, head(backbone(inputs)), name="nested")


class Subclassed(keras.Model):
    """Layers called in Python, and an operation that is no layer."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.first = layers.Conv2D(16, 3, strides=2, activation="relu")
        self.second = layers.SeparableConv2D(32, 3, strides=2)
        self.normalization = layers.BatchNormalization()
        self.pool = layers.GlobalAveragePooling2D()
        self.head = layers.Dense(CLASSES)

    def call(self, x, training=None):
        x = self.second(self.first(x))
        x = keras.ops.relu(self.normalization(x, training=training))
        return self.head(self.pool(x))


def lstm():
    """A classifier of sequences of 24 vectors."""
    inputs = keras.Input((24, 16), name="sequence")
    x = layers.LSTM(32, return_sequences=True)(inputs)
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.LSTM(32)(x)))


NETWORKS = {
    "MobileNetV2": lambda: application(applications.MobileNetV2),
    "MobileNetV3Small": lambda: application(applications.MobileNetV3Small),
    "EfficientNetV2B0": lambda: application(applications.EfficientNetV2B0),
    "ResNet-20": resnet,
    "nested MobileNetV2-0.35": nested,
    "subclassed": Subclassed,
    "LSTM": lstm,
}


def network(name):
    """-> a built model and data for it."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = NETWORKS[name]()
    if name == "LSTM":
        x = rng.normal(size=(64, 24, 16)).astype("float32")
    else:
        # Smooth images: noise of 8 x 8, enlarged.
        x = keras.ops.image.resize(
            rng.uniform(0, 255, (64, 8, 8, 3)).astype("float32"), (SIZE, SIZE)
        )
        x = np.asarray(x)
        if name not in ("EfficientNetV2B0", "MobileNetV3Small"):
            x = x / 127.5 - 1  # these two rescale inside
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.5
    for _ in range(8):
        model(x[:32], training=True)
    return model, x


def convert(model, x, quantization, folder):
    """-> the row of `kd.export.verify`, or the text of the `ExportError`."""
    with warnings.catch_warnings():
        # That parts stay in float is told; here the file is the result.
        warnings.filterwarnings("ignore", message=".*not integer throughout")
        try:
            path = kd.export.tflite(
                model,
                pathlib.Path(folder) / f"{quantization}.tflite",
                quantization=quantization,
                representative_dataset=x[:32],
                verbose=False,
            )
        except kd.export.ExportError as error:
            return str(error)
    found = kd.export.verify(
        path, model, x[32:], latency_runs=0, measure_memory=False, verbose=False
    )
    return found.rows[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(NETWORKS))
    only = parser.parse_args().only
    titles = ["network", *(name or "float32" for name in QUANTIZATIONS)]
    lines, errors = ["| " + " | ".join(titles) + " |", "|---" * 6 + "|"], []
    for name in [only] if only else NETWORKS:
        model, x = network(name)
        cells = [name]
        with tempfile.TemporaryDirectory() as folder:
            for quantization in QUANTIZATIONS:
                row = convert(model, x, quantization, folder)
                if isinstance(row, str):
                    errors.append(re.sub(r"\s+", " ", row))
                    cells.append(f"no ({len(errors)})")
                else:
                    cells.append(
                        f"{row['size_bytes'] / 1024:,.0f} KiB, "
                        f"{row['max_relative_difference']:.0e}"
                    )
                print(name, quantization or "float32", cells[-1], flush=True)
        lines.append("| " + " | ".join(cells) + " |")
    print("\n" + "\n".join(lines))
    for number, error in enumerate(errors, 1):
        print(f"\n({number}) {error}")


if __name__ == "__main__":
    main()
