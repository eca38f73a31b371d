"""Segmentation for phones: a U-Net teaches a student of 15,000 parameters.

    python examples/segmentation.py
    python examples/segmentation.py --quick

Letters of Debian's fonts lie on the drawings of `openclipart-png`. The network
says of every pixel which of four letters covers it, or none. Pixels on the edge
of a letter are void (255), as in PASCAL VOC: they count in no loss, no metric
and no table. Fonts and drawings of the test scenes are others than those of the
training. Needs `apt-get install openclipart-png` and font packages.

The teacher runs once: a `kd.TeacherCache` serves all students. The student that
is exported learns from 6000 scenes without a label, 1200 of them those that the
others have labels for. Weights and temperatures are those that the losses'
authors give; nothing was tuned.
"""

import argparse
import json
import pathlib
import sys

import keras
import numpy as np

import keras_distill as kd
from keras_distill.datasets import glyph_fonts

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # _shared

from _shared import reporting

SAVED = pathlib.Path(__file__).parents[1] / "saved_models"
LETTERS, VOID, SIZE = "AOTX", 255, 24
NAMES = ["background", *LETTERS]
FULL = {"train": 1200, "unlabelled": 4800, "test": 500}
FULL |= {"teacher": 1800, "student": 1600, "seeds": 3}  # Steps.
QUICK = {"train": 96, "unlabelled": 96, "test": 32}
QUICK |= {"teacher": 20, "student": 10, "seeds": 1}
BATCH = 16
TAPS = {"teacher_layer_name": "bottom", "student_layer_name": "bottom"}
LOGITS = {"teacher_layer_name": "logits", "student_layer_name": "logits"}
WAYS = {
    "soft targets": {},
    "and ChannelWise": {"more": (kd.losses.ChannelWise, LOGITS, 3.0)},
    "and PearsonFeature": {"more": (kd.losses.PearsonFeature, TAPS, 6.0)},
    "and MaskedGenerative": {"more": (kd.losses.MaskedGenerative, TAPS, 2e-5)},
}
# The shipped one: the teacher alone says what is in scenes without labels.
WITHOUT_LABELS = "ChannelWise, more scenes, no labels"
WAYS[WITHOUT_LABELS] = WAYS["and ChannelWise"]


def fonts(test):
    """One font of each package that draws the letters; a fifth is for tests."""
    folder = pathlib.Path("/usr/share/fonts")
    found = glyph_fonts.installed(folder, glyph_fonts.LATIN)
    if len(found) < 5:
        sys.exit("Install fonts, such as: apt-get install fonts-dejavu")
    chosen = []
    for i, files in enumerate(found.values()):
        if (i % 5 == 0) == test:
            usable = (f for f in files[:5] if _draws_all(f))
            chosen.extend(list(usable)[:1])
    return chosen


def _draws_all(file):
    drawn = glyph_fonts.drawn(file, LETTERS)
    return drawn is not None and len(drawn.classes) == len(LETTERS)


def scenes(count, test, seed):
    """Images in [0, 1] `(count, 24, 24, 3)`, labels `(count, 24, 24)`."""
    from PIL import Image
    from PIL import ImageDraw
    from PIL import ImageFont

    rng = np.random.default_rng(seed)
    pictures = kd.datasets.drawings(64).x
    parts = np.array_split(np.random.default_rng(0).permutation(8000), 5)
    numbers = parts[0] if test else np.concatenate(parts[1:])
    files = fonts(test)
    x = np.zeros((count, SIZE, SIZE, 3), "float32")
    y = np.zeros((count, SIZE, SIZE), "uint8")
    for i in range(count):
        top, left = rng.integers(0, 64 - SIZE, 2)
        picture = pictures[numbers[rng.integers(len(numbers))]]
        x[i] = picture[top : top + SIZE, left : left + SIZE] / 255.0
        letter = rng.integers(len(LETTERS))
        file = files[rng.integers(len(files))]
        font = ImageFont.truetype(str(file), int(rng.integers(76, 108)))
        # Four times as large: what is between is the edge.
        large = Image.new("L", (4 * SIZE, 4 * SIZE))
        ImageDraw.Draw(large).text(
            tuple(rng.integers(40, 57, 2)),
            LETTERS[letter],
            fill=255,
            font=font,
            anchor="mm",
            stroke_width=3,
        )
        large = large.rotate(float(rng.uniform(-20, 20)))
        ink = np.asarray(large.resize((SIZE, SIZE), Image.Resampling.BOX))
        ink = ink.astype("float32") / 255.0
        x[i] += ink[..., None] * (rng.uniform(0, 1, 3) - x[i])
        y[i] = np.where(ink > 0.2, VOID, 0)
        y[i] = np.where(ink > 0.8, letter + 1, y[i])
    x += rng.normal(0, 0.02, x.shape)
    return np.clip(x, 0, 1).astype("float32"), y


def u_net(widths, convolutions, name):
    """A U-Net of three levels; its deepest map is called "bottom"."""
    layers = keras.layers

    def block(x, width, name=None):
        for i in range(convolutions):
            last = i == convolutions - 1
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.ReLU(6.0, name=name if last else None)(x)
        return x

    inputs = x = keras.Input((SIZE, SIZE, 3), name="image")
    skips = []
    for width in widths[:-1]:
        x = block(x, width)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, widths[-1], "bottom")
    for width, skip in zip(widths[-2::-1], skips[::-1]):
        x = layers.UpSampling2D(interpolation="bilinear")(x)
        x = block(layers.Concatenate()([x, skip]), width)
    x = layers.Conv2D(len(NAMES), 1, name="logits")(x)
    return keras.Model(inputs, x, name=name)


def iou_metric():
    return keras.metrics.MeanIoU(
        len(NAMES), ignore_class=VOID, sparse_y_pred=False, name="mean_iou"
    )


def compile_for(model, steps):
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=VOID
        ),
        metrics=[iou_metric()],
        steps_per_execution=10,
        jit_compile=False,
    )


def mean_iou(model, x, y):
    metric = iou_metric()
    metric.update_state(y, model.predict(x, batch_size=100, verbose=0))
    return float(metric.result())


def train(model, data, steps):
    compile_for(model, steps)
    model.fit(data, steps_per_epoch=steps, epochs=1, verbose=2)


def student_network(seed):
    keras.utils.set_random_seed(seed)
    return u_net((8, 16, 32), 1, "student")


def taught(way, data, settings, seed):
    """A student, trained with the cached outputs of the teacher."""
    losses = {"soft": kd.losses.SoftTargets()}
    weights = {"soft": 1.0}
    for kind, taps, weight in WAYS[way].values():
        losses["more"], weights["more"] = kind(**taps), weight
    student = student_network(seed)
    distiller = kd.Distiller(
        student=student,
        distillation_losses=losses,
        distillation_loss_weights=weights,
        alpha=1.0 if way == WITHOUT_LABELS else 0.5,
    )
    train(distiller, data, settings["student"])
    return student


def draw(path, x, y, networks):
    """Saves scenes, labels (void in white) and what networks decide."""
    from matplotlib import colormaps

    colours = colormaps["tab10"](range(len(NAMES)))[:, :3]
    colours[0] = 0.15
    titles = ["image", "label", *networks]
    decided = [n.predict(x, verbose=0).argmax(-1) for n in networks.values()]
    shape = len(x), len(titles)
    size = (1.6 * len(titles), 1.6 * len(x))
    with reporting.picture(path, *shape, figsize=size) as axes:
        for i, row in enumerate(axes):
            label = np.where(y[i] == VOID, 0, y[i])
            shown = np.where((y[i] == VOID)[..., None], 1.0, colours[label])
            maps = [x[i], shown, *(colours[d[i]] for d in decided)]
            for axis, title, picture in zip(row, titles, maps):
                axis.imshow(picture, interpolation="nearest")
                axis.set_axis_off()
                if i == 0:
                    axis.set_title(title, fontsize=9)


def table(teacher, results, networks):
    """Rows of mean IoU, and its difference to the student alone by seed."""
    alone = np.array(results["alone"])
    rows = []
    for name, values in {"teacher": [teacher], **results}.items():
        network = networks[name == "teacher"]
        more = np.array(values) - alone if name in WAYS else None
        rows.append(
            {
                "network": "student alone" if name == "alone" else name,
                "parameters": f"{network.count_params():,}",
                "mean IoU %": reporting.percent(values),
                "against alone": ""
                if more is None
                else reporting.percent(more, "+"),
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny numbers")
    quick = parser.parse_args().quick
    settings = QUICK if quick else FULL
    folder = SAVED / ("segmentation_quick" if quick else "segmentation")
    folder.mkdir(parents=True, exist_ok=True)
    x, y = scenes(settings["train"], False, 1)
    x_test, y_test = scenes(settings["test"], True, 2)
    x_all = np.concatenate([x, scenes(settings["unlabelled"], False, 3)[0]])

    keras.utils.set_random_seed(0)
    teacher = u_net((12, 24, 48), 2, "teacher")
    batches = kd.datasets.batches(x, y, BATCH, seed=0)
    train(teacher, batches, settings["teacher"])
    of_teacher = mean_iou(teacher, x_test, y_test)
    print(f"teacher: {100 * of_teacher:.1f} %")
    # Its first samples are those with labels.
    cache = kd.TeacherCache.build(
        teacher,
        x_all,
        folder / "teacher_outputs",
        outputs=kd.teachers.StoredOutputs(layer_names=["bottom", "logits"]),
        overwrite=True,
    )

    def with_teacher(x, y, seed):
        batches = kd.datasets.batches(x, y, BATCH, seed=seed, indexed=True)
        return cache.join(batches, samples=range(len(x)))

    results = {name: [] for name in ("alone", *WAYS)}
    shown = {"teacher": teacher}
    for seed in range(settings["seeds"]):
        for name in results:
            if name == "alone":
                student = student_network(seed)
                batches = kd.datasets.batches(x, y, BATCH, seed=10 + seed)
                train(student, batches, settings["student"])
            else:
                labels = name != WITHOUT_LABELS
                data = (x, y) if labels else (x_all, None)
                data = with_teacher(*data, 10 + seed)
                student = taught(name, data, settings, seed)
            results[name].append(mean_iou(student, x_test, y_test))
            print(f"seed {seed}, {name}: {100 * results[name][-1]:.1f} %")
            if not seed:
                shown.setdefault(name, student)
    student = shown[WITHOUT_LABELS]
    files = {
        kind or "float32": kd.export.tflite(
            student,
            folder / f"{kind or 'float32'}.tflite",
            quantization=kind,
            representative_dataset=x[:100],
            metadata={"class_names": NAMES},
            overwrite=True,
        )
        for kind in (None, "int8")
    }
    verification = kd.export.verify(
        files,
        student,
        (x_test, y_test),
        teacher=teacher,
        ignore_class=VOID,
        metric="mean_iou",
    )
    rows = table(of_teacher, results, (shown["alone"], teacher))
    print(f"\n{reporting.table(rows)}\n")
    print(f"seed 0, {WITHOUT_LABELS}:\n{verification}")
    report = {"settings": settings, "table": rows, "mean_iou": results}
    report["verification"] = verification.as_dict()
    (folder / "report.json").write_text(json.dumps(report, indent=2))
    chosen = {k: shown[k] for k in ("teacher", "alone")}
    chosen["distilled"] = student
    kd.write_report(
        folder / "student.html",
        kd.report.Networks(student, teacher=teacher, alone=shown["alone"]),
        (x_test, y_test),
        evidence=kd.report.Evidence(verification=verification),
        about=kd.report.About(
            title="Student of seed 0, distilled", class_names=NAMES, seeds=0
        ),
        ignore_class=VOID,
        overwrite=True,
    )
    draw(folder / "segmentation.png", x_test[:6], y_test[:6], chosen)
    print(f"Saved '{folder}'.")


if __name__ == "__main__":
    main()
