"""Knowledge review: context loss by loops, the fused stages by NumPy."""

import numpy as np
import pytest

from keras_distill.losses import KnowledgeReview
from keras_distill.losses.feature.fusion import resize_nearest
from keras_distill.losses.feature.knowledge_review import hierarchical_context


def review(**kwargs):
    return KnowledgeReview(
        **{
            "teacher_layer_name": "t",
            "student_layer_name": "s",
            "dtype": "float64",
            **kwargs,
        }
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def pooled(x, cells):
    rows, columns = x.shape[1:3]
    out = np.zeros((x.shape[0], cells, cells, x.shape[3]))
    for i in range(cells):
        for j in range(cells):
            window = x[
                :,
                i * rows // cells : -(-(i + 1) * rows // cells),
                j * columns // cells : -(-(j + 1) * columns // cells),
            ]
            out[:, i, j] = window.mean(axis=(1, 2))
    return out


def context(teacher, student):
    """Per sample, from the pooled maps themselves."""
    terms = [(1.0, (teacher - student) ** 2)]
    for cells in (4, 2, 1):
        if cells < student.shape[1]:
            d = pooled(teacher, cells) - pooled(student, cells)
            terms.append((terms[-1][0] / 2, d**2))
    total = sum(weight for weight, _ in terms)
    return sum(w * d.mean(axis=(1, 2, 3)) for w, d in terms) / total


@pytest.mark.parametrize(
    "size", [(8, 8), (7, 7), (4, 4), (3, 5), (5, 2), (2, 2), (1, 1)]
)
def test_hierarchical_context(size):
    teacher, student = normal(3, *size, 2), normal(3, *size, 2, seed=1)
    expected = context(teacher, student)
    np.testing.assert_allclose(hierarchical_context(teacher, student), expected)
    loss, weight = review(fusion=None), np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student, sample_weight=weight),
        np.sum(weight * expected) / 3,
    )


def conv(x, kernel):
    """Zero-padded convolution."""
    k = kernel.shape[0]
    x = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    rows, columns = x.shape[1] - k + 1, x.shape[2] - k + 1
    out = 0.0
    for i in range(k):
        for j in range(k):
            out = out + x[:, i : i + rows, j : j + columns] @ kernel[i, j]
    return out


def conv_bn(x, layer):
    kernel, gamma, beta = (w.numpy() for w in layer.trainable_variables)
    x = conv(x, kernel)
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def test_the_review_goes_from_the_deepest_stage_to_the_first():
    teacher = {"z": normal(3, 8, 8, 4), "a": normal(3, 4, 4, 5)}
    student = {"y": normal(3, 8, 8, 2, seed=1), "b": normal(3, 4, 4, 3, seed=2)}
    loss = review(
        teacher_layer_name=["z", "a"],
        student_layer_name=["y", "b"],
        hidden_channels=6,
        layer_weights=[1.0, 0.5],
    )
    value = loss.compute_loss(teacher, student)
    first, deep = loss.fusions
    for index, variable in enumerate(loss.trainable_variables):
        variable.assign(0.5 * normal(*variable.shape, seed=index))
    value = loss.compute_loss(teacher, student)

    r_deep = conv_bn(student["b"], deep.reduce)
    x = conv_bn(student["y"], first.reduce)
    up = r_deep.repeat(2, axis=1).repeat(2, axis=2)
    kernel, bias = (w.numpy() for w in first.weigh.weights)
    logits = conv(np.concatenate([x, up], axis=-1), kernel) + bias
    a, b = np.split(1 / (1 + np.exp(-logits)), 2, axis=-1)
    f_first = conv_bn(a * x + b * up, first.expand)
    f_deep = conv_bn(r_deep, deep.expand)
    expected = context(teacher["z"], f_first).mean()
    expected += 0.5 * context(teacher["a"], f_deep).mean()
    np.testing.assert_allclose(value, expected)


def test_hidden_channels_are_those_of_the_deepest_student_layer():
    for deepest, hidden in ((24, 24), (600, 512)):
        loss = review()
        loss.build((None, 2, 2, 8), (None, 2, 2, deepest))
        assert loss.fusions[0].reduce.output_shape[-1] == hidden


@pytest.mark.parametrize("size", [(2, 3), (4, 6), (5, 4), (1, 1), (3, 9)])
def test_resize_nearest(size):
    x = normal(2, 2, 3, 4)
    rows = [i * 2 // size[0] for i in range(size[0])]
    columns = [j * 3 // size[1] for j in range(size[1])]
    np.testing.assert_array_equal(
        resize_nearest(x, *size), x[:, rows][:, :, columns]
    )


@pytest.mark.parametrize(
    "teacher, student, message",
    [
        ((None, 8), (None, 8), "compares maps"),
        ((None, 4, 4, 8), (None, 4, 4, 6), 'fusion="residual"'),
        ((None, 4, 4, 8), (None, 2, 2, 8), 'fusion="residual"'),
        ((None, None, None, 8), (None, 2, 2, 8), "known height"),
    ],
)
def test_shapes_that_cannot_be_compared(teacher, student, message):
    with pytest.raises(ValueError, match=message) as error:
        review(fusion=None).build(teacher, student)
    assert f"teacher {teacher}, student {student}" in str(error.value)
