"""The quickstart on a real benchmark: Fashion-MNIST through TFDS.

    python examples/fashion_mnist.py            # 3 seeds
    python examples/fashion_mnist.py --quick    # one seed, few steps

2000 of the 60 000 training images keep their label. The teacher and the
student alone learn from these; the distilled student imitates the teacher on
all 60 000 images, without labels. Same initial weights, same number of steps;
accuracy is that on the 10 000 test images, which choose nothing here. (The
student was chosen on held-out training images.)

TFDS downloads the data. Without internet, Debian's package
`dataset-fashion-mnist` gives the same files (see `kd.datasets`).
"""

import argparse
import pathlib
import shutil
import time

import keras
import numpy as np
from _shared.reporting import comparison
from _shared.reporting import curves
from _shared.reporting import percent
from _shared.reporting import table
from _shared.small_networks import plain_teacher

import keras_distill as kd

SAVED = pathlib.Path(kd.__file__).parents[1] / "saved_models"
CLASSES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def phone_student():
    return kd.models.mobile((28, 28, 1), 10, width=0.75, name="student")


class Experiment:
    """The data, and how every network here is trained."""

    def __init__(self, out, labels, epochs, steps):
        self.out, self.data = out, kd.datasets.fashion_mnist()
        self.labels, self.epochs, self.steps = labels, epochs, steps

    def run(self, model, name, seed, x, y=None, loss=None, rate=4e-3):
        model.compile(
            keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(
                    rate, self.epochs * self.steps
                )
            ),
            loss,
            metrics=["accuracy"],
        )
        logs = keras.callbacks.TensorBoard(
            self.out / f"tensorboard/{name}_{seed}"
        )
        return model.fit(
            kd.datasets.batches(x, y, batch_size=64, seed=seed),
            steps_per_epoch=self.steps,
            epochs=self.epochs,
            validation_data=(self.data.x_test, self.data.y_test),
            validation_batch_size=500,
            shuffle=False,
            verbose=1 if seed == 0 else 0,
            callbacks=[logs],
        ).history

    def seed(self, seed):
        """-> teacher, distiller, and the histories of both students."""
        keras.utils.set_random_seed(seed)
        few = kd.datasets.subset(
            self.data.x_train, self.data.y_train, self.labels, seed=seed
        )
        teacher, alone = plain_teacher(), phone_student()
        student = phone_student()
        student.set_weights(alone.get_weights())
        self.run(teacher, "teacher", seed, *few, CROSSENTROPY, 2e-3)
        distiller = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=kd.losses.SoftTargets(),
            alpha=1.0,
        )
        histories = {
            "alone": self.run(alone, "alone", seed, *few, CROSSENTROPY),
            "distilled": self.run(
                distiller, "distilled", seed, self.data.x_train
            ),
        }
        return teacher, alone, distiller, histories

    def classes(self, model):
        logits = model.predict(self.data.x_test, batch_size=500, verbose=0)
        return logits.argmax(axis=-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    out, seeds = SAVED / "fashion_mnist", args.seeds
    settings = {"labels": 2000, "epochs": 10, "steps": 400}
    allowed_drop = 0.5
    if args.quick:
        out, seeds = SAVED / "fashion_mnist_quick", 1
        settings = {"labels": 500, "epochs": 2, "steps": 40}
        # Of a network that has learnt little, many decisions are narrow.
        allowed_drop = 3.0
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "tensorboard", ignore_errors=True)
    experiment = Experiment(out, **settings)

    accuracies = {"teacher": [], "alone": [], "distilled": []}
    agreements = {"alone": [], "distilled": []}
    histories = {"student alone": [], "student distilled": []}
    shipped = None
    for seed in range(seeds):
        teacher, alone, distiller, history = experiment.seed(seed)
        networks = {
            "teacher": teacher,
            "alone": alone,
            "distilled": distiller.student,
        }
        decided = {n: experiment.classes(m) for n, m in networks.items()}
        for name, classes in decided.items():
            right = classes == experiment.data.y_test
            accuracies[name].append(float(np.mean(right)))
        for name in agreements:
            same = decided[name] == decided["teacher"]
            agreements[name].append(float(np.mean(same)))
            histories[f"student {name}"].append(history[name])
        shipped = shipped or (distiller, teacher, alone)

    shipped, shipped_teacher, shipped_alone = shipped
    files = {
        quantization: shipped.export(
            out / f"student_{quantization}.tflite",
            quantization=None if quantization == "float32" else quantization,
            representative_dataset=experiment.data.x_train[:500],
            metadata={"class_names": CLASSES},
            overwrite=True,
            verbose=False,
        )
        for quantization in ("float32", "float16", "dynamic", "int8", "int16x8")
    }
    shipped.export(out / "student.keras", overwrite=True)
    test = (experiment.data.x_test, experiment.data.y_test)
    verification = kd.export.verify(
        files,
        shipped.student,
        test,
        teacher=shipped_teacher,
        max_accuracy_drop=allowed_drop,
    )

    rows = comparison(
        {"teacher": teacher, "student": alone}, accuracies, agreements
    )
    gain = np.subtract(accuracies["distilled"], accuracies["alone"])
    print(f"\n{seeds} seeds, {experiment.labels} labels\n")
    print(table(rows))
    print(f"\ndistilled - alone: {percent(gain, '+')} points, paired by seed\n")
    print(verification)
    curves(out / "curves.png", histories, "Fashion-MNIST")
    seconds = time.perf_counter() - started
    kd.write_report(
        out / "report.html",
        kd.report.Networks(shipped, alone=shipped_alone),
        test,
        evidence=kd.report.Evidence(
            verification=verification,
            accuracies=accuracies,
            agreements=agreements,
            exported_run=0,
            history=histories,
            train_dataset=experiment.data.x_train[:64],
        ),
        about=kd.report.About(
            title="Fashion-MNIST: a distilled student",
            class_names=CLASSES,
            configuration={
                "labels": experiment.labels,
                "steps": experiment.epochs * experiment.steps,
                "seconds": round(seconds, 1),
            },
            seeds=list(range(seeds)),
        ),
        overwrite=True,
    )
    print(f"\n{seconds:.0f} s. Everything is in {out}")


if __name__ == "__main__":
    main()
