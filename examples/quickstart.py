# %% [markdown]
# # Quickstart: a small student that is better than the same network alone
#
#     pip install -e ".[examples]" && python examples/quickstart.py
#
# 1797 handwritten digits, but only 200 of them come with a label. A teacher of
# 57 000 parameters learns from these 200. A student of 1 900 parameters learns
# once **alone**, from the same 200 labels, and once **distilled**: it imitates
# the teacher on all training images, which needs no labels. Both students have
# the same initial weights and the same number of steps. Five folds of
# cross-validation: every image is tested once, by networks that never saw it.
# The distilled student becomes five TFLite files, which are run and checked.

# %%
import pathlib
import shutil
import time

import keras
import numpy as np
from _shared.reporting import comparison
from _shared.reporting import curves
from _shared.reporting import interval
from _shared.reporting import percent
from _shared.reporting import table

import keras_distill as kd

FOLDS, LABELS, STEPS, EPOCHS, BATCH = 5, 200, 100, 10, 32
OUT = pathlib.Path(kd.__file__).parents[1] / "saved_models" / "quickstart"
OUT.mkdir(parents=True, exist_ok=True)
shutil.rmtree(OUT / "tensorboard", ignore_errors=True)  # an earlier run's
layers = keras.layers
started = time.perf_counter()


# %% [markdown]
# ## The two networks: plain Keras models that end in logits


# %%
def teacher_network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.3),
            layers.Dense(10, name="logits"),
        ],
        name="teacher",
    )


def student_network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ],
        name="student",
    )


def optimizer(rate):
    return keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(rate, STEPS * EPOCHS)
    )


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# %% [markdown]
# ## Training: `fit`, as with any Keras model


# %%
def fit(model, dataset, split, run, fold):
    callbacks = []
    if fold == 0:
        callbacks.append(keras.callbacks.TensorBoard(OUT / "tensorboard" / run))
    return model.fit(
        dataset,
        validation_data=(split.x_test, split.y_test),
        validation_batch_size=512,
        steps_per_epoch=STEPS,
        epochs=EPOCHS,
        shuffle=False,  # the dataset is shuffled by (seed, epoch)
        verbose=1 if fold == 0 else 0,
        callbacks=callbacks,
    ).history


def train_plain(model, rate, split, run, fold):
    x, y = kd.datasets.subset(split.x_train, split.y_train, LABELS, seed=fold)
    model.compile(optimizer(rate), crossentropy(), metrics=["accuracy"])
    labelled = kd.datasets.batches(x, y, batch_size=BATCH, seed=fold)
    return fit(model, labelled, split, run, fold)


def distill(student, teacher, split, fold):
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
        alpha=1.0,  # the teacher's view alone: no labels
    )
    distiller.compile(optimizer(5e-3), metrics=["accuracy"])
    unlabelled = kd.datasets.batches(split.x_train, batch_size=BATCH, seed=fold)
    return fit(distiller, unlabelled, split, "distilled", fold), distiller


def predictions(model, split):
    logits = model.predict(split.x_test, batch_size=512, verbose=0)
    return logits.argmax(axis=-1)


accuracies = {"teacher": [], "alone": [], "distilled": []}
agreements = {"alone": [], "distilled": []}
histories = {"student alone": [], "student distilled": []}
for fold in range(FOLDS):
    split = kd.datasets.digits(fold=fold, folds=FOLDS, seed=0)
    keras.utils.set_random_seed(fold)
    teacher, alone, student = (
        teacher_network(),
        student_network(),
        student_network(),
    )
    alone.set_weights(student.get_weights())

    train_plain(teacher, 1e-3, split, "teacher", fold)
    histories["student alone"].append(
        train_plain(alone, 5e-3, split, "alone", fold)
    )
    history, distiller = distill(student, teacher, split, fold)
    histories["student distilled"].append(history)

    networks = {"teacher": teacher, "alone": alone, "distilled": student}
    decided = {name: predictions(m, split) for name, m in networks.items()}
    for name, classes in decided.items():
        accuracies[name].append(float(np.mean(classes == split.y_test)))
    for name in agreements:
        same = decided[name] == decided["teacher"]
        agreements[name].append(float(np.mean(same)))
    print(
        f"fold {fold}: "
        + ", ".join(f"{n} {100 * a[-1]:.1f} %" for n, a in accuracies.items())
    )
    if fold == 0:
        shipped = distiller, teacher, alone, split

# %% [markdown]
# ## To the phone: export, then run the files over the whole test fold

# %%
distiller, teacher, alone, split = shipped
distiller.export(OUT / "student.keras", overwrite=True)
files = {
    quantization: distiller.export(
        OUT / f"student_{quantization}.tflite",
        quantization=None if quantization == "float32" else quantization,
        representative_dataset=split.x_train,
        metadata={"class_names": [str(digit) for digit in range(10)]},
        overwrite=True,
        verbose=False,
    )
    for quantization in ("float32", "float16", "dynamic", "int8", "int16x8")
}
verification = kd.export.verify(
    files,
    distiller.student,
    (split.x_test, split.y_test),
    teacher=teacher,
    max_accuracy_drop=0.5,
)

# %% [markdown]
# ## What came of it

# %%
rows = comparison(
    {"teacher": teacher, "student": student}, accuracies, agreements
)
gain = np.subtract(accuracies["distilled"], accuracies["alone"])
mean, half = interval(100 * gain)
print(f"\n{FOLDS} folds, {LABELS} labels, mean ± 95 % confidence interval\n")
print(table(rows))
print(
    f"\ndistilled - alone, paired by fold: {percent(gain, '+')} points "
    f"(95 % interval {mean - half:+.1f} to {mean + half:+.1f})\n"
)
print(verification)

curves(OUT / "curves.png", histories, f"digits, {LABELS} labels")
seconds = time.perf_counter() - started
kd.write_report(
    OUT / "report.html",
    kd.report.Networks(distiller, alone=alone),
    (split.x_test, split.y_test),
    evidence=kd.report.Evidence(
        verification=verification,
        accuracies=accuracies,
        agreements=agreements,
        exported_run=0,
        history=histories,
        train_dataset=kd.datasets.batches(
            split.x_train, batch_size=BATCH, seed=0
        ),
    ),
    about=kd.report.About(
        title="Quickstart: a distilled student for handwritten digits",
        configuration={
            "data": "scikit-learn digits, stratified cross-validation, seed 0",
            "folds": FOLDS,
            "labels": LABELS,
            "steps": STEPS * EPOCHS,
            "seconds": round(seconds, 1),
        },
        seeds=list(range(FOLDS)),
    ),
    overwrite=True,
)

print(f"\n{seconds:.0f} s. Everything is in {OUT}")
print(
    "Look:  report.html; tensorboard --logdir "
    "saved_models/quickstart/tensorboard"
)
print("Ship:  student_int8.tflite, or student.keras (plain Keras)")
print("Next:  python examples/fashion_mnist.py; your own data: README.md")
