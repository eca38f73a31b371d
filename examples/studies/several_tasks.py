"""One student, two tasks: which digit, and is it even?

    python examples/studies/several_tasks.py

1797 handwritten digits of scikit-learn, in five folds. In each fold 200 images
say which digit they show, and 50 of these also whether it is even; the others
have no labels. Each task has a teacher of its own, trained on the labels of
its task. All students have two outputs, the same initial weights and the same
number of steps:

- alone: from the 200 images with their labels, those of "even" masked;
- distilled: from all training images, taught by both teachers, no labels;
- with labels: from the 200 images, labels and teachers (alpha 0.5);
- the same with balanced weights, "uncertainty" and "dynamic".
"""

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

import keras_distill as kd

FOLDS, DIGITS, EVEN, STEPS, EPOCHS = 5, 200, 50, 100, 8
TASKS = {"digit": 10, "even": 2}
layers = keras.layers


def network(width, tasks=TASKS, name=None):
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(width, 3, strides=2, padding="same")(image)
    x = layers.ReLU()(x)
    x = layers.Conv2D(2 * width, 3, strides=2, padding="same")(x)
    x = layers.Flatten()(layers.ReLU()(x))
    heads = {task: layers.Dense(n, name=task)(x) for task, n in tasks.items()}
    return keras.Model(image, heads, name=name)


def losses():
    kind = keras.losses.SparseCategoricalCrossentropy
    return {task: kind(from_logits=True) for task in TASKS}


def teacher_of(task, x, y):
    model = network(32, {task: TASKS[task]})
    model.compile("adam", {task: losses()[task]})
    data = kd.datasets.batches(x, {task: y}, 32, seed=0)
    model.fit(data, steps_per_epoch=STEPS, epochs=EPOCHS, verbose=0)
    return keras.Model(model.input, model.output[task], name=f"teacher_{task}")


def student_of(initial, teacher, alpha, data, loss_weights=None):
    student = network(4, name="student")
    student.set_weights(initial)
    if teacher is None:
        trained = student
    else:
        trained = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses={t: kd.losses.SoftTargets() for t in TASKS},
            alpha=alpha,
        )
    loss = None if alpha == 1.0 else losses()
    trained.compile(
        keras.optimizers.Adam(3e-3), loss, loss_weights=loss_weights
    )
    x, y, weight = data
    data = kd.datasets.batches(x, y, 32, seed=0, sample_weight=weight)
    logs = trained.fit(
        data, steps_per_epoch=STEPS, epochs=EPOCHS, verbose=0
    ).history
    weights = [logs[f"{t}_weight"][-1] for t in TASKS if loss_weights]
    return student, weights


def accuracy(model, x, y):
    outputs = model.predict(x, verbose=0)
    return [
        100 * np.mean(outputs[task].argmax(-1) == y[task]) for task in outputs
    ]


def main():
    images, digits = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
    rows = {}
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for fold, (train, test) in enumerate(folds.split(images, digits)):
        keras.utils.set_random_seed(fold)
        train = np.random.default_rng(fold).permutation(train)
        x, y = images[train[:DIGITS]], digits[train[:DIGITS]]
        labels = {"digit": y, "even": y % 2}
        mask = np.float32(np.arange(DIGITS) < EVEN)
        weights = {"digit": np.ones_like(mask), "even": mask}
        truth = {"digit": digits[test], "even": digits[test] % 2}
        few = x[:EVEN], labels["even"][:EVEN]
        teacher = kd.Teachers(
            {
                "digit": teacher_of("digit", x, y),
                "even": teacher_of("even", *few),
            }
        )
        initial = network(4).get_weights()
        labelled = x, labels, weights
        found = {
            "teachers": (teacher, []),
            "alone": student_of(initial, None, 0.0, labelled),
            "distilled": student_of(
                initial, teacher, 1.0, (images[train], None, None)
            ),
        }
        for kind in (None, "uncertainty", "dynamic"):
            name = f"with labels, {kind or 'fixed'}"
            found[name] = student_of(initial, teacher, 0.5, labelled, kind)
        for name, (model, learned) in found.items():
            row = [*accuracy(model, images[test], truth), *learned]
            rows.setdefault(name, []).append(row)
        print(f"fold {fold + 1} of {FOLDS}", flush=True)
    print(f"{'':28}{'digit %':>14}{'even %':>14}   last weights")
    for name, values in rows.items():
        values = np.array(values)
        half = 2.776 * values.std(0, ddof=1) / np.sqrt(FOLDS)
        cells = "".join(
            f"{f'{mean:.1f} ± {h:.1f}':>14}"
            for mean, h in list(zip(values.mean(0), half))[:2]
        )
        learned = "  ".join(f"{mean:.2f}" for mean in values.mean(0)[2:])
        print(f"{name:28}{cells}   {learned}")
    for name in list(rows)[2:]:
        gain = np.array(rows[name])[:, :2] - np.array(rows["alone"])[:, :2]
        half = 2.776 * gain.std(0, ddof=1) / np.sqrt(FOLDS)
        cells = " ".join(
            f"{task} {mean:+.1f} ± {h:.1f}"
            for task, mean, h in zip(TASKS, gain.mean(0), half)
        )
        print(f"{name} - alone, paired by fold: {cells}")


if __name__ == "__main__":
    main()
