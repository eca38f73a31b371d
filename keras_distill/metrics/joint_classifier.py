"""The terms of the bound behind `kd.losses.IdealJointClassifier`, on data."""

from typing import Any

import numpy as np
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._data.batch_fields import plain_batch
from keras_distill._data.labels import class_indices
from keras_distill.losses.ops.elementwise import at_least_float32


class JointClassifierGap:
    """Measures what bounds the error of a student with a shared classifier.

        h:  the shared classifier;  h*: the ideal joint classifier
        student_error     = P[h(f_s) != y]
        teacher_error     = P[h(f_t) != y]
        discrepancy       = |P[h(f_s) != h*(f_s)] - P[h(f_t) != h*(f_t)]|
        ideal_joint_error = P[h*(f_s) != y] + P[h*(f_t) != y]
        bound             = teacher_error + discrepancy + ideal_joint_error

    `f_s`, `f_t` are the features of student (after its connector) and teacher
    that the shared classifier reads. `student_error <= bound` holds for any
    `h*`, by the triangle inequality; the better `h*`, the tighter the bound.
    `h*` is the linear classifier with the least joint error among the steps of
    a softmax regression on both features together, which starts at `h`. The
    best of all would be NP-hard to find.

    Args:
        kernel: The kernel of the shared classifier, `(channels, classes)`.
        bias: Its bias, `(classes,)`. Defaults to zeros.
        steps: The steps of the regression (Adam on all features at once).
            Defaults to 300.

    Input shapes:
        `update_state(teacher_features, student_features, y)`: `(batch,
        channels)` twice, and sparse `(batch,)` or one-hot `(batch, classes)`
        labels. Keeps all features in memory.

    Returns:
        `result()`: a dict of the five numbers above, and `disagreement`, the
        share `P[h(f_s) != h(f_t)]`.

    Raises:
        ValueError: If features have another width than the classifier, or
            `result()` is called without data.

    Example:

    ```python
    gap = kd.metrics.JointClassifierGap(np.eye(2))
    teacher_features = np.array([[1.0, 0.0], [0.0, 1.0]])
    student_features = np.array([[1.0, 0.0], [0.5, 0.2]])
    gap.update_state(teacher_features, student_features, np.array([0, 1]))
    gap.result()["student_error"]  # 0.5
    ```

    Reference:
        Li et al., "Knowledge Distillation Under Ideal Joint Classifier
        Assumption", 2024. The discrepancy is written as in Ben-David et al.,
        "A theory of learning from different domains", 2010, on which bounds of
        this form rest.
    """

    def __init__(self, kernel: Any, bias: Any = None, *, steps: int = 300):
        self.kernel = np.asarray(ops.convert_to_numpy(kernel), "float64")
        if bias is None:
            bias = np.zeros(self.kernel.shape[-1:])
        self.bias = np.asarray(ops.convert_to_numpy(bias), "float64")
        self.steps = checked_integer("steps", steps)
        self.reset_state()

    @classmethod
    def measure(
        cls, distiller: Any, dataset: Any, **kwargs: Any
    ) -> dict[str, float]:
        """Returns the terms of a trained `kd.Distiller` on a dataset.

        Args:
            distiller: One with a teacher and a loss that reuses its
                classifier (`IdealJointClassifier`, `ReusedClassifier`).
            dataset: An iterable of batches `(x, y)`.
            **kwargs: As in the constructor.

        Returns:
            The `result()`.
        """
        pair = distiller._networks()
        loss: Any = getattr(pair.deployment, "loss", None)
        if pair.teacher is None or not hasattr(loss, "classifier_kernel"):
            raise ValueError(
                "JointClassifierGap.measure needs a Distiller with a teacher "
                "and a loss that deploys the teacher's classifier, such as "
                "kd.losses.IdealJointClassifier. Received: teacher "
                f"{pair.teacher!r}, losses {list(pair.losses)}."
            )
        gap = cls(loss.classifier_kernel, loss.classifier_bias, **kwargs)
        for batch in dataset:
            x, y, _ = plain_batch(batch)
            teacher = pair.teacher_pass(distiller.views.teacher_evaluation(x))
            student = pair.student_pass(
                distiller.views.evaluation(x), training=False
            )
            teacher = teacher.select(loss.teacher_layer_name)
            gap.update_state(
                ops.mean(at_least_float32(teacher), axis=(1, 2)),
                ops.mean(student.connected, axis=(1, 2)),
                y,
            )
        return gap.result()

    def reset_state(self) -> None:
        """Forgets all data."""
        self._batches: list[tuple] = []

    def update_state(
        self, teacher_features: Any, student_features: Any, y: Any
    ) -> None:
        """Adds a batch of features and labels."""
        features = [
            np.asarray(ops.convert_to_numpy(x), "float64")
            for x in (teacher_features, student_features)
        ]
        channels = len(self.kernel)
        for x in features:
            if x.ndim != 2 or x.shape[1] != channels:
                raise ValueError(
                    "JointClassifierGap needs features (batch, "
                    f"{channels}), as the classifier reads them. Received: "
                    f"{x.shape}"
                )
        classes = self.kernel.shape[-1]
        y = class_indices(y, classes, "y", "JointClassifierGap")
        self._batches.append((*features, y))

    def result(self) -> dict[str, float]:
        """Returns the terms."""
        if not self._batches:
            raise ValueError(
                "JointClassifierGap has no data: call update_state first."
            )
        teacher, student, y = (np.concatenate(x) for x in zip(*self._batches))
        both = np.concatenate([teacher, student])
        kernel, bias = ideal_joint_classifier(
            both, np.concatenate([y, y]), self.kernel, self.bias, self.steps
        )
        shared, ideal = [
            [(x @ w + b).argmax(-1) for x in (teacher, student)]
            for w, b in ((self.kernel, self.bias), (kernel, bias))
        ]
        unlike = [np.mean(a != b) for a, b in zip(shared, ideal)]
        terms = {
            "student_error": np.mean(shared[1] != y),
            "teacher_error": np.mean(shared[0] != y),
            "discrepancy": abs(unlike[1] - unlike[0]),
            "ideal_joint_error": np.mean(ideal[0] != y)
            + np.mean(ideal[1] != y),
        }
        terms["bound"] = (
            terms["teacher_error"]
            + terms["discrepancy"]
            + terms["ideal_joint_error"]
        )
        terms["disagreement"] = np.mean(shared[0] != shared[1])
        return {name: float(value) for name, value in terms.items()}


def ideal_joint_classifier(features, y, kernel, bias, steps=300):
    """Returns the best linear classifier among the steps of a regression.

    Args:
        features: `(n, channels)`.
        y: `(n,)` integers.
        kernel: `(channels, classes)`, where to start.
        bias: `(classes,)`.
        steps: The steps of Adam, rate 0.05, on standardized features.

    Returns:
        The `(kernel, bias)` with the smallest share of errors.
    """
    mean, std = features.mean(0), features.std(0) + 1e-8
    # A column of ones for the bias.
    x = np.pad((features - mean) / std, ((0, 0), (0, 1)), constant_values=1.0)
    weights = np.vstack([kernel * std[:, None], bias + mean @ kernel])
    target = np.eye(kernel.shape[-1])[y]
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    best, least = weights, np.inf
    for step in range(steps + 1):
        logits = x @ weights
        errors = np.mean(logits.argmax(-1) != y)
        if errors < least:
            best, least = weights, errors
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        gradient = x.T @ (p - target) / len(x)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        size = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
        weights = weights - 0.05 * first / (1 - 0.9 ** (step + 1)) / size
    kernel = best[:-1] / std[:, None]
    return kernel, best[-1] - mean @ kernel
