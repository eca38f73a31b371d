"""What two networks do on the same samples, by hand."""

import keras
import numpy as np
import pytest

from keras_distill.report.disagreements import DISAGREEMENTS
from keras_distill.report.images import on_one_scale
from keras_distill.report.measuring import Measurement
from keras_distill.report.measuring import is_imbalanced
from keras_distill.report.measuring import measured

CLASSES = 3


def measured_alone(networks, dataset, **options):
    found = {None: Measurement(networks, **options)}
    return measured(found, dataset, verbose=False)[None]


def half(first, name):
    """A network whose logits are the first (second) half of its input."""
    kernel = np.zeros((2 * CLASSES, CLASSES), "float32")
    kernel[np.arange(CLASSES) + (0 if first else CLASSES)] = np.eye(CLASSES)
    model = keras.Sequential(
        [
            keras.Input((2 * CLASSES,)),
            keras.layers.Dense(CLASSES, use_bias=False),
        ],
        name=name,
    )
    model.set_weights([kernel])
    return model


def measure(student, teacher, labels):
    """Of probabilities, one row a sample."""
    x = np.log(np.concatenate([student, teacher], -1)).astype("float32")
    networks = {
        "student": (half(True, "student"), lambda x: x),
        "teacher": (half(False, "teacher"), lambda x: x),
    }
    return measured_alone(networks, (x, np.array(labels)))


def test_labels_by_name_of_one_output():
    x = np.zeros((2, 2 * CLASSES), "float32")
    networks = {"student": (half(True, "student"), lambda x: x)}
    by_name = [(x, {"logits": np.array([0, 1])})]
    assert measured_alone(networks, by_name).samples == 2
    weights = {"logits": np.array([1.0, 3.0])}
    by_name = [(x, {"logits": np.array([0, 1])}, weights)]
    found = measured_alone(networks, by_name)
    assert (
        found.facts("student")["accuracy"] == 0.25 and found.data()["weighted"]
    )
    several = {"a": np.array([0, 1]), "b": np.array([0, 1])}
    for what, labels in (
        ("labels", (several,)),
        ("sample weights", (np.array([0, 1]), several)),
    ):
        with pytest.raises(ValueError, match=rf"{what}.*\['a', 'b'\]"):
            measured_alone(networks, [(x, *labels)])


def sure(decision, confidence):
    rest = (1 - confidence) / (CLASSES - 1)
    row = [rest] * CLASSES
    row[decision] = confidence
    return row


def test_both_must_be_certain():
    found = measure(
        [sure(0, 0.9), sure(0, 0.7), sure(2, 0.99)],
        [sure(1, 0.5), sure(1, 0.6), sure(2, 0.99)],
        [0, 1, 2],
    )
    rows = [row for row, _ in found.disagreements]
    assert [row["sample"] for row in rows] == [1, 0]
    assert rows[0]["student_confidence"] == pytest.approx(0.7)
    assert rows[0]["teacher_confidence"] == pytest.approx(0.6)
    assert (rows[0]["student"], rows[0]["teacher"]) == (0, 1)
    assert rows[0]["label"] == 1


def test_frequent_splits_come_first_and_say_who_is_right():
    found = measure(
        [sure(0, 0.9)] * 3 + [sure(2, 0.9)],
        [sure(1, 0.9)] * 4,
        [1, 1, 0, 0],
    ).splits()
    assert found == [
        {
            "teacher": 1,
            "student": 0,
            "samples": 3,
            "teacher_right": 2,
            "student_right": 1,
        },
        {
            "teacher": 1,
            "student": 2,
            "samples": 1,
            "teacher_right": 0,
            "student_right": 0,
        },
    ]


def pictures(sizes):
    """Batches of one picture per size, on which both always disagree."""
    rng = np.random.default_rng(0)
    networks = {}
    for key, kernel in ("student", [[5.0, 0.0]]), ("teacher", [[0.0, 5.0]]):
        model = keras.Sequential(
            [
                keras.Input((None, None, 1)),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(2, use_bias=False),
            ]
        )
        model.set_weights([np.array(kernel, "float32")])
        networks[key] = (model, lambda x: x)
    batches = [
        (rng.uniform(0.5, 1, (4, size, size, 1)).astype("float32"), np.zeros(4))
        for size in sizes
    ]
    return measured_alone(networks, batches)


def test_kept_pictures_do_not_hold_their_batches():
    found = pictures([6, 6, 6, 6])
    assert len(found.disagreements) == DISAGREEMENTS
    assert all(image.base is None for _, image in found.disagreements)
    samples = [row["sample"] for row, _ in found.disagreements]
    assert len(set(samples)) == DISAGREEMENTS and max(samples) > 11


def test_pictures_of_different_sizes_are_shown_on_one_scale():
    found = pictures([6, 8])
    shown = on_one_scale([image for _, image in found.disagreements])
    assert sorted(image.shape for image in shown) == [
        *[(6, 6, 1)] * 4,
        *[(8, 8, 1)] * 4,
    ]
    images = [np.full((1, 2, 1), 2.0), None, np.full((2, 2, 1), 4.0)]
    made = on_one_scale(images)
    assert made[0].tolist() == [[[2], [2]]] and made[1] is None
    assert made[2].shape == (2, 2, 1) and (made[2] == 4).all()
    assert on_one_scale([None, None]) == [None, None]


def test_few_disagreements_are_kept_of_many_batches():
    number = 100
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 0.9, number)
    found = measure(
        [sure(0, c) for c in confidence],
        [sure(1, 0.95)] * number,
        [0] * number,
    )
    kept = [row["sample"] for row, _ in found.disagreements]
    assert kept == np.argsort(-confidence)[:DISAGREEMENTS].tolist()


def tokens(seed, name, masked=True):
    """A tagger of 3 classes over a vocabulary of 8."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(8, 4, mask_zero=masked),
            keras.layers.Dense(CLASSES),
        ],
        name=name,
    )


def everything(networks, dataset, **options):
    """All facts of a measurement, but those of the single samples."""
    seen = {key: (model, lambda x: x) for key, model in networks.items()}
    found = measured_alone(seen, dataset, **options)
    facts = {key: found.facts(key) for key in networks}
    return found.data(), facts, found.classes(), found.splits()


@pytest.fixture
def taggers():
    return {"student": tokens(0, "s"), "teacher": tokens(1, "t")}


def counted_alone(x, y, counts):
    """The positions that count, each a sequence of its own."""
    return x[counts][:, None], y[counts][:, None]


def same_but_for_intervals(left, right):
    """One sequence of several tokens is one sample, and worth less."""
    for a, b in zip(left[1].values(), right[1].values()):
        for facts in (a, b):
            del facts["accuracy_interval"], facts["balanced_accuracy_interval"]
        assert a.pop("reliability")["counts"] == b.pop("reliability")["counts"]
        assert a.pop("mean_confidence") == pytest.approx(
            b.pop("mean_confidence")
        )
        error = "expected_calibration_error"
        assert a.pop(error) == pytest.approx(b.pop(error), abs=1e-6)
    assert left[1:] == right[1:]
    for key in ("decisions", "majority", "imbalanced", "labels_fingerprint"):
        assert left[0][key] == right[0][key]


@pytest.mark.parametrize("how", ["mask", "ignore_class", "weights"])
def test_what_does_not_count_is_nowhere(taggers, how):
    rng = np.random.default_rng(0)
    x = rng.integers(1, 8, (12, 5)).astype("int32")
    y = rng.integers(0, CLASSES, (12, 5))
    counts = rng.random((12, 5)) < 0.6
    options, weights = {}, ()
    junk = y.copy()
    if how == "mask":
        x[~counts] = 0
        junk[~counts] = 99
    elif how == "ignore_class":
        junk[~counts] = options["ignore_class"] = -1
    else:
        junk[~counts] = 99
        weights = (counts.astype("float32"),)
    left = everything(taggers, (x, junk, *weights), **options)
    right = everything(taggers, counted_alone(x, y, counts))
    assert left[0]["decisions"] == counts.sum() < 60
    assert left[0]["samples"] == 12
    same_but_for_intervals(left, right)


def test_the_students_mask_counts_as_in_evaluate():
    networks = {"student": tokens(0, "s"), "teacher": tokens(1, "t", False)}
    x = np.array([[1, 2, 0, 0], [3, 0, 0, 0]], "int32")
    found = everything(networks, (x, np.zeros_like(x)))[0]
    assert found["decisions"] == 3


def test_disagreements_are_among_what_counts(taggers):
    x = np.random.default_rng(0).integers(1, 8, (40, 6)).astype("int32")
    y = np.where(np.arange(6) < 2, 1, -1) * np.ones((40, 1), int)
    seen = {key: (model, lambda x: x) for key, model in taggers.items()}
    found = measured_alone(seen, (x, y), ignore_class=-1)
    rows = [row for row, _ in found.disagreements]
    assert rows and all(row["label"] == 1 for row in rows)
    assert all(row["position"][0] < 2 for row in rows)
    assert len({row["sample"] for row in rows}) == len(rows)
    row = rows[0]
    at = x[row["sample"], row["position"][0]]
    alone = [[int(at)]]
    for key in ("student", "teacher"):
        logits = np.asarray(taggers[key](np.array(alone)))[0, 0]
        assert logits.argmax() == row[key]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([50, 50], False),
        ([58, 42], False),
        ([60, 40], True),
        ([12] + [10] * 9, False),
        ([20] + [10] * 9, True),
        ([100] * 5 + [10] * 5, True),
        ([30, 0, 0], False),
    ],
)
def test_when_classes_are_imbalanced(sizes, expected):
    assert is_imbalanced(np.array(sizes, "float64")) is expected


def test_nothing_counts():
    data = (np.zeros((4, 3), "int32"), np.zeros((4, 3), int))
    with pytest.raises(ValueError, match="Nothing in `dataset` counts"):
        everything({"student": tokens(0, "s")}, data)


def test_unlike_positions_are_refused():
    other = keras.Sequential(
        [
            keras.Input((4, 1)),
            keras.layers.Conv1D(CLASSES, 2),
        ],
        name="other",
    )
    student = keras.Sequential(
        [keras.Input((4, 1)), keras.layers.Conv1D(CLASSES, 1)]
    )
    with pytest.raises(ValueError, match=r"'other' decides at positions \(3,"):
        everything(
            {"student": student, "teacher": other},
            (np.zeros((2, 4, 1)), np.zeros((2, 4), int)),
        )


def test_maps_have_intersection_over_union():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 5, 2)).astype("float32")
    y = rng.integers(0, CLASSES, (3, 4, 5))
    y[0] = 255
    networks = {}
    for seed, name in enumerate(("student", "teacher")):
        keras.utils.set_random_seed(seed)
        networks[name] = keras.Sequential(
            [keras.Input((4, 5, 2)), keras.layers.Conv2D(CLASSES, 1)]
        )
    data, facts, classes, _ = everything(networks, (x, y), ignore_class=255)
    assert data["kind"] in ("pixels", "positions")
    for name, network in networks.items():
        metric = keras.metrics.MeanIoU(
            CLASSES, ignore_class=255, sparse_y_pred=False
        )
        metric.update_state(y, network(x))
        assert facts[name]["mean_iou"] == pytest.approx(float(metric.result()))
        shares = [row["iou"][name] for row in classes]
        assert np.mean(shares) == pytest.approx(facts[name]["mean_iou"])
