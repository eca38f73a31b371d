from typing import Any

import keras
from keras import ops

from keras_distill.losses.ops.gathering import draw_per_sample
from keras_distill.losses.ops.probabilities import cross_entropy
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.ops.seeded import Seeded
from keras_distill.losses.response.born_again import GRADIENT_PARTS
from keras_distill.losses.response.born_again import BornAgainLoss
from keras_distill.losses.response.born_again import gradient_parts


def random_permutation(classes_fixed, seed):
    """Permutes all classes but one in every row.

    Args:
        classes_fixed: One-hot `(batch, ..., classes)`: the class that stays.
        seed: A `keras.random.SeedGenerator`, or an integer.

    Returns:
        Integers `(batch, ..., classes)`: each row a permutation, uniform over
        the `(classes - 1)!` possible ones.
    """
    classes = classes_fixed.shape[-1]
    inner = tuple(ops.shape(classes_fixed))[1:]
    keys = draw_per_sample(
        lambda samples: keras.random.uniform(
            (samples, *inner), dtype="float32", seed=seed
        ),
        classes_fixed,
    )
    # The others in random order, then the fixed one.
    order = ops.argsort(ops.where(classes_fixed > 0.5, 2.0, keys), axis=-1)
    # Which of these goes where: the others to the places that are not fixed.
    place = ops.arange(classes)
    fixed = ops.expand_dims(ops.argmax(classes_fixed, axis=-1), -1)
    fixed = ops.cast(fixed, place.dtype)
    place = ops.where(
        ops.equal(place, fixed),
        classes - 1,
        place - ops.cast(place > fixed, place.dtype),
    )
    return ops.take_along_axis(order, place, axis=-1)


@keras.saving.register_keras_serializable(package="keras_distill")
class DarkKnowledgeWithPermutedPredictions(Seeded, BornAgainLoss):
    """Soft targets whose classes, all but the largest, are shuffled.

        p = softmax(teacher)
        target_k = p_permutation(k);  the argmax keeps its place
        l = -sum_k target_k log softmax(student)_k
        loss = sum(weight * l) / number of positions

    (DKPP.) The teacher's higher moments stay; its knowledge of which classes
    are alike is destroyed. Every position gets a new permutation in every
    step, the same one on any number of replicas.

    Args:
        seed: Seed of the permutations, an integer. Defaults to 0. Its state is
            saved with the Distiller.
        log_gradient_parts: Also log the sizes of the two parts of the gradient
            by the student's logits (see `gradient_parts`):
            `<name>_correct_class`, here the class that the teacher predicts,
            and `<name>_dark_knowledge`. Defaults to `False`.
        class_map: List of the teacher's class index of each student class.
        teacher_layer_name: The teacher's logits. Defaults to its output.
        student_layer_name: The student's logits. Defaults to its output.
        name: Defaults to `"dark_knowledge_with_permuted_predictions"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Teacher `(batch, ..., teacher_classes)`, student `(batch, ...,
        classes)`, any float dtype. `sample_weight`: `(batch,)` or one weight
        per position; a mask has weights of 0 and 1.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: in `bind`, for a head that ends in a softmax or sigmoid; in
            `build`, if classes or positions differ.

    Example:

    ```python
    loss = kd.losses.DarkKnowledgeWithPermutedPredictions(seed=1)
    teacher = np.array([[9.0, 1.0, 2.0], [0.0, 4.0, 1.0]], "float32")
    student = np.array([[9.0, 1.0, 2.0], [0.0, 4.0, 1.0]], "float32")
    loss.compute_loss(teacher, student)  # another value in every step
    ```

    Reference:
        Furlanello et al., "Born-Again Neural Networks", 2018, section 3.2.
    """

    def permutation(self, decided):
        """Draws the permutations of one step. Override it to give your own.

        Args:
            decided: One-hot `(batch, ..., classes)`: the teacher's argmax.
        """
        return random_permutation(decided, self.seed_generator)

    def targets(self, teacher):
        """Returns permuted probabilities, and the one-hot argmax."""
        decided = ops.one_hot(
            ops.argmax(teacher, axis=-1),
            teacher.shape[-1],
            dtype=teacher.dtype,
        )
        permuted = ops.take_along_axis(
            ops.softmax(teacher, axis=-1), self.permutation(decided), axis=-1
        )
        return permuted, decided

    def compute_loss_and_logs(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> tuple[Any, dict[str, Any]]:
        teacher, student = self.comparable(teacher_outputs, student_outputs)
        target, decided = self.targets(teacher)
        values = cross_entropy(target, log_probabilities(student))
        logs = {}
        if self.log_gradient_parts:
            parts = gradient_parts(target, student, decided)
            parts = [weighted_mean(part, sample_weight) for part in parts]
            logs = dict(zip(GRADIENT_PARTS, parts))
        return weighted_mean(values, sample_weight), logs
