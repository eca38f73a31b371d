"""Groups of losses with labels, and with the teacher's classifier."""

from functools import partial

from gradients import value_and_gradients
from keras import ops

from keras_distill import losses
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.response.confidence_weighting import (
    confidence_weights,
)
from keras_distill.losses.response.decoupled_kd import decoupled_divergences


def of_logits(loss, inputs, terms):
    """The value and gradient of `loss`, and what `terms` gives beside it."""
    import adapter

    teacher, student = inputs["teacher_logits"], inputs["student_logits"]
    adapter.built(loss, teacher, student)
    value = partial(loss.compute_loss, teacher, student, y=inputs.get("labels"))
    return value_and_gradients(
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


def with_classifier(loss, inputs, constants):
    """Gives a loss the stored classifier and connector; -> what is watched.

    Args:
        constants: Name in the case -> name of the loss's weights.
    """
    import adapter

    loss.set_classifier(inputs["classifier_kernel"], inputs["classifier_bias"])
    adapter.built(loss, inputs["teacher_feature"], inputs["student_feature"])
    watched = {"student_feature": inputs["student_feature"]}
    for name, weight_name in constants.items():
        stored = adapter.levels(inputs, name)
        weights = adapter.weights_called(loss, weight_name)
        for (key, array), weight in zip(stored.items(), weights, strict=True):
            weight.assign(array)
            watched[key] = weight
    return watched


TAPS = {"teacher_layer_name": "teacher", "student_layer_name": "student"}
CONNECTOR = {
    "connector_kernel": "kernel",
    "bn_gamma": "gamma",
    "bn_beta": "beta",
}


def srrl(hyperparameters, inputs, dtype):
    import adapter

    adapter.fixed(hyperparameters, bn_eps=1e-5)
    weight = hyperparameters["weight"]
    loss = losses.SoftmaxRegression(**TAPS, logit_weight=weight, dtype=dtype)
    watched = with_classifier(loss, inputs, CONNECTOR)
    watched["student_logits"] = inputs["student_logits"]
    taps = inputs["teacher_feature"], inputs["student_feature"]

    def compute():
        task = adapter.cross_entropy(inputs, dtype)
        features, logits = loss.terms(*taps)
        teacher, student = loss.features(*taps)
        return {
            "loss": task + loss.compute_loss(*taps),
            "loss_ce": task,
            "loss_stat": features,
            "loss_sr": logits,
            "teacher_logits_expected": loss.classify(
                ops.mean(teacher, axis=(1, 2))
            ),
            "student_through_teacher_classifier_logits": loss.classify(
                ops.mean(student, axis=(1, 2))
            ),
        }

    return value_and_gradients(compute, watched)


def ijckd(hyperparameters, inputs, dtype):
    import adapter

    adapter.fixed(hyperparameters, bn_eps=1e-5)
    loss = losses.IdealJointClassifier(
        **TAPS,
        cross_entropy_weight=hyperparameters["weight_ce"],
        logit_weight=hyperparameters["weight_sr"],
        feature_weight=hyperparameters["weight_fm"],
        reduction=hyperparameters["factor"],
        dtype=dtype,
    )
    watched = with_classifier(loss, inputs, CONNECTOR)
    taps = inputs["teacher_feature"], inputs["student_feature"]
    y = inputs["labels"]

    def compute():
        terms = loss.terms(*taps, y)
        return {
            "loss": loss.compute_loss(*taps, y=y),
            **dict(zip(("loss_ce", "loss_sr", "loss_fm"), terms)),
            "teacher_logits_expected": loss.classify(
                ops.mean(taps[0], axis=(1, 2))
            ),
            "student_logits_expected": loss.deployed_logits(
                taps[1], training=True
            ),
        }

    return value_and_gradients(compute, watched)


GROUPS = {
    "dkd": dkd,
    "dist_clamp": partial(dist, "clamp"),
    "dist_addeps": partial(dist, "add"),
    "ban_cwtm": ban_cwtm,
    "ban_dkpp": ban_dkpp,
    "srrl": srrl,
    "ijckd": ijckd,
}
