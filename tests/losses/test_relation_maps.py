"""FSP and ICKD, against NumPy written from the equations."""

import numpy as np
import pytest
import tensorflow as tf

from keras_distill.losses import FlowOfSolutionProcedure
from keras_distill.losses import InterChannelCorrelation
from keras_distill.losses.ops.pooling import adaptive_max_pool

TAPS = {
    "teacher_layer_name": ["a", "b"],
    "student_layer_name": ["c", "d"],
}


def features(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def value(loss, teacher, student, **kwargs):
    return float(loss.compute_loss(teacher, student, **kwargs))


def flow(first, second):
    """G of one sample, entry by entry."""
    height, width, _ = first.shape
    return np.array(
        [
            [
                sum(
                    first[h, w, m] * second[h, w, n]
                    for h in range(height)
                    for w in range(width)
                )
                / (height * width)
                for n in range(second.shape[-1])
            ]
            for m in range(first.shape[-1])
        ]
    )


def flow_pairs(seed=0):
    teacher = {"a": features(3, 4, 6, 2), "b": features(3, 4, 6, 3, seed=1)}
    student = {
        "c": features(3, 2, 3, 2, seed=2),
        "d": features(3, 2, 3, 3, seed=3),
    }
    differences = [
        flow(teacher["a"][b], teacher["b"][b])
        - flow(student["c"][b], student["d"][b])
        for b in range(3)
    ]
    return teacher, student, np.array(differences)


@pytest.mark.parametrize(
    "form, each",
    [
        ("paper", lambda d: np.sum(d**2)),
        ("mean", lambda d: np.mean(d**2)),
        ("norm", lambda d: sum(np.linalg.norm(d[:, n]) for n in range(3))),
    ],
)
def test_flow_of_solution_procedure(form, each):
    teacher, student, differences = flow_pairs()
    expected = np.array([each(d) for d in differences])
    loss = FlowOfSolutionProcedure(form=form, layer_weights=[0.3], **TAPS)
    np.testing.assert_allclose(
        value(loss, teacher, student), 0.3 * expected.mean()
    )
    weight = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        value(loss, teacher, student, sample_weight=weight),
        0.3 * np.sum(weight * expected) / 3,
    )


def test_flows_and_their_weights():
    names = ["p", "q", "r", "s"]
    maps = [features(2, 4, 4, 3, seed=seed) for seed in range(8)]
    teacher, student = dict(zip(names, maps)), dict(zip(names, maps[4:]))

    def one(i, j):
        taps = [names[i], names[j]]
        loss = FlowOfSolutionProcedure(
            teacher_layer_name=taps, student_layer_name=taps
        )
        return value(
            loss, {n: teacher[n] for n in taps}, {n: student[n] for n in taps}
        )

    def together(**kwargs):
        loss = FlowOfSolutionProcedure(
            teacher_layer_name=names, student_layer_name=names, **kwargs
        )
        return value(loss, teacher, student)

    np.testing.assert_allclose(together(), one(0, 1) + one(1, 2) + one(2, 3))
    np.testing.assert_allclose(
        together(flows="disjoint", layer_weights=[2.0, 0.5]),
        2.0 * one(0, 1) + 0.5 * one(2, 3),
    )


@pytest.mark.parametrize("height, width", [(2, 2), (3, 4), (5, 3), (1, 1)])
def test_adaptive_max_pool(height, width):
    x = features(2, 7, 8, 3)
    found = adaptive_max_pool(tf.constant(x), height, width)
    for i in range(height):
        for j in range(width):
            rows = slice(i * 7 // height, -(-(i + 1) * 7 // height))
            columns = slice(j * 8 // width, -(-(j + 1) * 8 // width))
            np.testing.assert_allclose(
                found[:, i, j], x[:, rows, columns].max(axis=(1, 2))
            )


def test_adaptive_max_pool_leaves_an_axis_alone():
    x = tf.constant(features(2, 4, 4, 3))
    assert adaptive_max_pool(x, None, 2).shape == (2, 4, 2, 3)
    assert adaptive_max_pool(x, 4, None) is x


@pytest.mark.parametrize("form", ["paper", "code"])
def test_inter_channel_correlation(form):
    teacher, student = features(3, 4, 5, 4), features(3, 2, 2, 4, seed=1)

    def correlation(x):
        rows = x.reshape(-1, 4).T @ x.reshape(-1, 4)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    squares = [
        np.sum((correlation(t) - correlation(s)) ** 2)
        for t, s in zip(teacher, student)
    ]
    expected = np.mean(squares) / 16
    if form == "code":
        expected = np.sum(squares) / (4 * 3 * 3)
    loss = InterChannelCorrelation(
        teacher_layer_name="a", student_layer_name="b", form=form
    )
    np.testing.assert_allclose(value(loss, teacher, student), expected)


@pytest.mark.parametrize("form", ["correlation", "mean", "paper", "norm"])
@pytest.mark.parametrize("batch", [1, 3])
def test_degenerate_maps_are_finite(batch, form):
    some = features(batch, 4, 4, 3).astype("float32")
    dead = some.copy()
    dead[..., 1] = 0.0
    zero = np.zeros_like(some)
    for teacher, student in (
        (some, some),
        (zero, zero),
        (some, zero),
        (some, dead),
        (zero, some),
    ):
        student = tf.constant(student)
        with tf.GradientTape() as tape:
            tape.watch(student)
            if form == "correlation":
                loss = InterChannelCorrelation(
                    teacher_layer_name="a", student_layer_name="b"
                )
                result = loss.compute_loss(teacher, student)
            else:
                loss = FlowOfSolutionProcedure(form=form, **TAPS)
                result = loss.compute_loss(
                    {"a": teacher, "b": teacher}, {"c": student, "d": student}
                )
        gradient = tape.gradient(result, student)
        assert np.isfinite(result)
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() < 1e6


# Errors.


def test_channels_must_agree_or_be_joined():
    teacher = {"a": (None, 4, 4, 2), "b": (None, 4, 4, 3)}
    student = {"c": (None, 4, 4, 2), "d": (None, 4, 4, 5)}
    with pytest.raises(ValueError, match='Pass regressor="auto"') as error:
        FlowOfSolutionProcedure(**TAPS).build(teacher, student)
    assert "(None, 4, 4, 3), student (None, 4, 4, 5)" in str(error.value)
    loss = FlowOfSolutionProcedure(regressor="auto", **TAPS)
    loss.build(teacher, student)
    assert [r is not None for r in loss.regressors.values()] == [False, True]


@pytest.mark.parametrize(
    "teacher, student, flows",
    [
        ("a", "b", "consecutive"),
        (["a"], ["b"], "consecutive"),
        (["a", "b"], ["c", "d", "e"], "consecutive"),
        (["a", "b", "c"], ["d", "e", "f"], "disjoint"),
        (None, None, "consecutive"),
    ],
)
def test_flows_need_pairs_of_layers(teacher, student, flows):
    with pytest.raises(ValueError, match="layers of each network"):
        FlowOfSolutionProcedure(
            teacher_layer_name=teacher, student_layer_name=student, flows=flows
        )


def test_one_weight_per_flow():
    with pytest.raises(ValueError, match="one weight per flow"):
        FlowOfSolutionProcedure(layer_weights=[1.0, 2.0], **TAPS)


def test_features_must_be_maps():
    vectors = {"a": (None, 4), "b": (None, 4)}
    with pytest.raises(ValueError, match="compares maps"):
        FlowOfSolutionProcedure(**TAPS).build(
            vectors, {"c": (None, 4), "d": (None, 4)}
        )
    with pytest.raises(ValueError, match="compares maps") as error:
        InterChannelCorrelation(
            teacher_layer_name="a", student_layer_name="b"
        ).build((None, 8), (None, 4, 4, 8))
    assert "teacher (None, 8), student (None, 4, 4, 8)" in str(error.value)
