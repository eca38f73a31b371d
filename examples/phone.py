"""From a trained teacher to a phone file of 60 KiB: `kd.distill`, three seeds.

    python examples/phone.py
    python examples/phone.py --quick  # one seed, small numbers

A teacher of more than a million parameters reads 62 characters, from 20 000
images. The user has labels for 2000. `kd.distill` gets the 2000, the other
images without labels, and a budget of 60 KiB. The same student is trained alone
on the 2000, and with the settings of a plain `kd.Distiller` (temperature 1,
alpha 0.5, labelled images only). Half of the test images choose which student
and file ship, and the other half give the table. Their fonts are in no training
image. The data are rendered from Debian's fonts (`kd.datasets.glyphs`).

Each run is the command

    keras-distill run labelled --teacher teacher.keras --unlabelled others \\
        --budget kib=60

on arrays instead of folders. A run that is stopped goes on.
"""

import argparse
import json
import pathlib
import sys

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # _shared

from _shared import reporting
from _shared.small_networks import network
from _shared.small_networks import residual_block

import keras_distill as kd

SAVED = pathlib.Path(__file__).parents[1] / "saved_models"
LABELLED, KIB = 2000, 60
DEFAULTS = {"temperature": 1.0, "alpha": 0.5, "learning_rate": 3e-3}


def trained_teacher(folder, data, steps, widths):
    """Trains the teacher, or loads it."""
    path = folder / "teacher.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)
        teacher = network(
            residual_block, widths, data.x_train.shape[1:], classes=62
        )
        teacher.compile(
            keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(2e-3, steps)
            ),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        teacher.fit(
            kd.datasets.batches(data.x_train, data.y_train, 128, seed=0),
            steps_per_epoch=steps,
            shuffle=False,
        )
        teacher.save(path)
    teacher = keras.models.load_model(path)
    print(f"teacher: {teacher.count_params():,} parameters", flush=True)
    return teacher


def one_seed(folder, teacher, data, seed, steps):
    """Returns accuracies on the test images, by name."""
    labelled = data.x_train[:LABELLED], data.y_train[:LABELLED]
    common = {
        "student": "auto",
        "budget": {"kib": KIB},
        "validation_data": (data.x_test, data.y_test),
    }
    chosen = kd.distill(
        teacher,
        labelled,
        unlabelled=data.x_train[LABELLED:],
        settings={"seed": seed, "steps": steps},
        skip=["diagnose"],
        output=folder / f"run_{seed}",
        resume=True,
        **common,
    )
    plain = kd.distill(
        teacher,
        labelled,
        settings={"seed": seed, "steps": steps, **DEFAULTS},
        skip=["diagnose", "compare", "export", "verify", "report"],
        output=folder / f"defaults_{seed}",
        resume=True,
        **common,
    )
    verification = json.loads((chosen.output / "verification.json").read_text())
    rows = {row["file"]: row for row in verification["rows"]}
    accuracy = chosen.measured["accuracy"]
    return {
        "teacher": accuracy["teacher"],
        "student alone": accuracy["alone"],
        "defaults, labelled images": plain.measured["accuracy"]["distilled"],
        "kd.distill": accuracy["distilled"],
        f"its int8 file, {rows['int8']['size_bytes'] / 1024:.1f} KiB": rows[
            "int8"
        ]["accuracy"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    folder = SAVED / ("phone" + "_quick" * args.quick)
    folder.mkdir(parents=True, exist_ok=True)
    if args.quick:
        data = kd.datasets.glyphs(62, 4000, test_samples=1000, size=16)
        teacher = trained_teacher(folder, data, 150, [(32, 1), (64, 2)])
        seeds, steps = 1, 150
    else:
        data = kd.datasets.glyphs(62, 20_000, test_samples=10_000, size=28)
        widths = [(48, 2), (96, 2), (256, 1)]
        teacher = trained_teacher(folder, data, 3000, widths)
        seeds, steps = 3, 2400
    runs = [
        one_seed(folder, teacher, data, seed, steps) for seed in range(seeds)
    ]
    table = {
        name: [list(run.values())[i] for run in runs]
        for i, name in enumerate(runs[0])
    }
    alone = np.array(table["student alone"])
    gap = np.array(table["teacher"]) - alone
    print(f"\n| network | test accuracy %, {seeds} seed(s) | gap closed |")
    print("|---|---|---|")
    for name, values in table.items():
        mean, half = reporting.interval(100 * np.asarray(values))
        closed = np.mean((np.asarray(values) - alone) / gap)
        print(f"| {name} | {mean:.1f} ± {half:.1f} | {100 * closed:.0f} % |")
    (folder / "results.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
