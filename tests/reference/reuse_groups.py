"""Groups of losses with labels, and with the teacher's classifier."""

from functools import partial

from keras import ops

from keras_distill import losses
from keras_distill.losses.confidence_weighted_by_teacher_max import (
    confidence_weights,
)
from keras_distill.losses.decoupled_kd import decoupled_divergences
from keras_distill.losses.probabilities import log_probabilities


def of_logits(loss, inputs, terms):
    """The value and gradient of `loss`, and what `terms` gives beside it."""
    import adapter

    teacher, student = inputs["teacher_logits"], inputs["student_logits"]
    adapter.built(loss, teacher, student)
    value = partial(loss.compute_loss, teacher, student, y=inputs.get("labels"))
    return adapter.value_and_gradients(
        lambda: {"loss": value(), **terms(teacher, student)},
        {"student_logits": student},
    )


def dkd(hyperparameters, inputs, dtype):
    loss = losses.DecoupledKD(**hyperparameters, dtype=dtype)

    def terms(teacher, student):
        target = ops.one_hot(inputs["labels"], student.shape[-1], dtype=dtype)
        parts = decoupled_divergences(
            teacher, student, target, loss.temperature
        )
        return dict(zip(("loss_tckd", "loss_nckd"), map(ops.mean, parts)))

    return of_logits(loss, inputs, terms)


def dist(epsilon, hyperparameters, inputs, dtype):
    import adapter

    adapter.fixed(hyperparameters, eps=1e-8)
    loss = losses.DIST(
        beta=hyperparameters["beta"],
        gamma=hyperparameters["gamma"],
        temperature=hyperparameters["tau"],
        epsilon=epsilon,
        dtype=dtype,
    )
    names = ("loss_inter", "loss_intra")
    return of_logits(
        loss, inputs, lambda t, s: dict(zip(names, loss.terms(t, s)))
    )


def ban_cwtm(hyperparameters, inputs, dtype):
    loss = losses.ConfidenceWeightedByTeacherMax(dtype=dtype)

    def terms(teacher, student):
        largest = ops.max(log_probabilities(teacher), axis=-1)
        return {"weights": confidence_weights(largest)}

    return of_logits(loss, inputs, terms)


def ban_dkpp(hyperparameters, inputs, dtype):
    loss = losses.DarkKnowledgeWithPermutedPredictions(dtype=dtype)
    loss.permutation = lambda decided: inputs["permutation"]
    return of_logits(
        loss,
        inputs,
        lambda teacher, student: {"permuted_targets": loss.targets(teacher)[0]},
    )


GROUPS = {
    "dkd": dkd,
    "dist_clamp": partial(dist, "clamp"),
    "dist_addeps": partial(dist, "add"),
    "ban_cwtm": ban_cwtm,
    "ban_dkpp": ban_dkpp,
}
