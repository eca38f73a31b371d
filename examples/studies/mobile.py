"""How to spend parameters: depth, momentum and activation of `mobile`.

    python examples/studies/mobile.py

Fashion-MNIST, 10 000 training images, 4 000 others of the training set to judge
by, batch 128, 600 steps of Adam (3e-3, cosine decay), trained alone, 3 seeds.
Rows of one size have about as many parameters. `--only 4k`: some rows.
"""

import argparse
import pathlib
import sys

import keras

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "_shared"))
import reporting

SHAPE, CLASSES, STEPS, BATCH = (28, 28, 1), 10, 600, 128


def mobile(width, depth, **options):
    return lambda: kd.models.mobile(
        SHAPE, CLASSES, width=width, depth=depth, **options
    )


def slow_moments():
    """Keras's default momentum in the batch normalization."""
    model = mobile(0.75, 3)()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99
    return model


ROWS = {
    "1k, depth 1": mobile(0.6, 1),
    "1k, depth 3": mobile(0.25, 3),
    "2k, depth 1": mobile(1.0, 1),
    "2k, depth 3": mobile(0.45, 3),
    "4k, depth 1": mobile(1.7, 1),
    "4k, depth 2": mobile(1.0, 2),
    "4k, depth 3": mobile(0.75, 3),
    "4k, depth 3, momentum 0.99": slow_moments,
    "4k, depth 3, hard-swish": mobile(0.75, 3, activation="hard_swish"),
    "4k, small_cnn": lambda: kd.models.small_cnn((8, 16, 16), SHAPE),
    "17k, depth 1": mobile(4.0, 1),
    "17k, depth 3": mobile(1.9, 3),
}


def train(build, split, seed):
    """Returns the model and its accuracy on held-out images."""
    keras.utils.set_random_seed(seed)
    model = build()
    rate = keras.optimizers.schedules.CosineDecay(3e-3, STEPS)
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images = split.x_train[:10_000], split.y_train[:10_000]
    batches = kd.datasets.batches(*images, batch_size=BATCH, seed=seed)
    model.fit(batches.repeat(), steps_per_epoch=STEPS, verbose=0)
    held_out = split.x_train[-4_000:], split.y_train[-4_000:]
    return model, model.evaluate(*held_out, batch_size=500, verbose=0)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    split = kd.datasets.fashion_mnist()
    rows = []
    for name, build in ROWS.items():
        if arguments.only not in name:
            continue
        trained = [train(build, split, s) for s in range(arguments.seeds)]
        model, accuracies = trained[0][0], [a for _, a in trained]
        rows.append(
            {
                "network": name,
                "parameters": f"{model.count_params():,}",
                "MACs": f"{kd.cost.multiply_accumulates(model):,}",
                "held-out accuracy %": reporting.percent(accuracies),
            }
        )
        print(rows[-1], flush=True)
    print(reporting.table(rows))


if __name__ == "__main__":
    main()
