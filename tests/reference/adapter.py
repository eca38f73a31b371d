"""Computes the golden cases of a reference folder with `keras_distill.losses`.

A case says which formula (`group`) was run on which inputs with which
hyperparameters. One function per group builds the public loss that implements
this formula and evaluates it; nothing here knows a file or a shape.

To add a group: write `def its_name(hyperparameters, inputs, dtype)` that
returns `value_and_gradients(...)`, and list it in `GROUPS`.
"""

import re
from functools import partial

import feature_groups
import keras
import multitask_groups
import numpy as np
import optimizer_groups
import relation_groups
import reuse_groups
from gradients import constant
from gradients import value_and_gradients

from keras_distill import losses


class UnknownGroup(ValueError):
    """No function here computes this group."""


def evaluate(case, arrays, dtype="float64"):
    """The loss of one case, and its gradients.

    Args:
        case: An entry of the manifest: a dict with `group` and
            `hyperparameters`.
        arrays: Name -> NumPy array: the inputs and parameters of the case.
            Expected values among them are not looked at.
        dtype: `"float64"` or `"float32"`: what is computed in.

    Returns:
        A dict of NumPy arrays: `"loss"`, `"grad_<name>"` for every student
        input and trainable parameter, and the terms of the loss that the
        group's formula names.

    Raises:
        UnknownGroup: if the case's group is not in `GROUPS`.
    """
    function = GROUPS.get(case["group"])
    if function is None:
        raise UnknownGroup(
            f"No function for group {case['group']!r}. Known: {sorted(GROUPS)}"
        )
    inputs = {name: constant(array, dtype) for name, array in arrays.items()}
    results = function(case.get("hyperparameters") or {}, inputs, dtype)
    return {name: np.asarray(value) for name, value in results.items()}


# What several groups share.


def built(loss, teacher, student):
    """Builds `loss` for these taps (a tensor, or a dict of tensors)."""
    loss.build(shape_of(teacher), shape_of(student))
    return loss


def shape_of(taps):
    if isinstance(taps, dict):
        return {name: tuple(x.shape) for name, x in taps.items()}
    return tuple(taps.shape)


def levels(inputs, name):
    """`name`, or `name_0`, `name_1`, ... in the order of their numbers."""
    numbered = {
        int(match[1] or 0): match[0]
        for match in (re.fullmatch(name + r"(?:_(\d+))?", n) for n in inputs)
        if match
    }
    return {numbered[i]: inputs[numbered[i]] for i in sorted(numbered)}


def cross_entropy(inputs, dtype):
    """Mean cross-entropy of the student's logits with the labels."""
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, dtype=dtype
    )
    return loss(inputs["labels"], inputs["student_logits"])


def distilled_logits(make_loss, inputs, dtype, teacher="teacher_logits"):
    """Returns a function: the value of a loss of the logits alone."""
    teacher, student = inputs[teacher], inputs["student_logits"]
    loss = built(make_loss(dtype=dtype), teacher, student)
    return lambda: loss.compute_loss(teacher, student)


def logits_only(make_loss, inputs, dtype, **kwargs):
    distillation = distilled_logits(make_loss, inputs, dtype, **kwargs)
    return value_and_gradients(
        lambda: {"loss": distillation()}, levels(inputs, "student_logits")
    )


def with_labels(make_loss, hyperparameters, inputs, dtype):
    """`alpha * cross-entropy + beta * distillation`, and both terms."""
    distillation = distilled_logits(make_loss, inputs, dtype)

    def compute():
        task, soft = cross_entropy(inputs, dtype), distillation()
        total = hyperparameters["alpha"] * task + hyperparameters["beta"] * soft
        return {"loss": total, "loss_ce": task, "loss_kl_T2": soft}

    return value_and_gradients(compute, levels(inputs, "student_logits"))


def features(make_loss, hyperparameters, inputs, dtype, connector=()):
    """A loss of pairs of feature maps, and its connector's parameters.

    Args:
        connector: Names of the stored parameters. `"regressor_kernel"` is the
            loss's weight called `kernel`; with several levels
            `"regressor_kernel_1"` is that of level 1.
    """
    teacher = levels(inputs, "teacher_feature")
    student = levels(inputs, "student_feature")
    watched = dict(student)
    names = {"teacher": list(teacher), "student": list(student)}
    if len(student) == 1:
        (teacher,), (student,) = teacher.values(), student.values()
        names = {network: one for network, (one,) in names.items()}
    loss = make_loss(
        teacher_layer_name=names["teacher"],
        student_layer_name=names["student"],
        layer_weights=hyperparameters.get("weights"),
        dtype=dtype,
    )
    built(loss, teacher, student)
    for name in connector:
        stored = levels(inputs, name)
        weights = weights_called(loss, name.rpartition("_")[2])
        if len(stored) != len(weights):
            raise ValueError(
                f"The case stores {list(stored)} for {len(weights)} weights of "
                f"{loss.name}: {[w.path for w in loss.weights]}"
            )
        for key, weight in zip(stored, weights):
            weight.assign(stored[key])
            watched[key] = weight
    return value_and_gradients(
        lambda: {"loss": loss.compute_loss(teacher, student)}, watched
    )


def weights_called(loss, name):
    """The trainable weights of `loss` called `name`, in creation order."""
    return [w for w in loss.trainable_variables if w.name == name]


def soft_targets(hyperparameters, **kwargs):
    return partial(
        losses.SoftTargets,
        temperature=hyperparameters["temperature"],
        **kwargs,
    )


def fixed(hyperparameters, **constants):
    """Refuses a case that changes what the library keeps constant."""
    for name, value in constants.items():
        if hyperparameters.get(name, value) != value:
            raise ValueError(
                f"keras_distill has {name}={value}, which cannot be changed. "
                f"The case wants {hyperparameters[name]}."
            )


# One function per group.


def kd_kl(hyperparameters, inputs, dtype):
    return logits_only(soft_targets(hyperparameters), inputs, dtype)


def kd_total(hyperparameters, inputs, dtype):
    make_loss = soft_targets(hyperparameters)
    return with_labels(make_loss, hyperparameters, inputs, dtype)


def kd_ce(hyperparameters, inputs, dtype):
    make_loss = soft_targets(
        hyperparameters,
        form="cross_entropy",
        scale_by_temperature_squared=False,
    )
    return logits_only(make_loss, inputs, dtype)


def soft_target_ce(hyperparameters, inputs, dtype):
    make_loss = soft_targets(
        hyperparameters,
        form="cross_entropy",
        teacher_probabilities="as_given",
        scale_by_temperature_squared=False,
    )
    return logits_only(make_loss, inputs, dtype, teacher="soft_targets")


def logitstd_kl(hyperparameters, inputs, dtype):
    fixed(hyperparameters, eps=1e-7)
    unscaled = soft_targets(
        hyperparameters, standardize=True, scale_by_temperature_squared=False
    )
    scaled = soft_targets(hyperparameters, standardize=True)
    results = logits_only(unscaled, inputs, dtype)
    results["loss_times_T2"] = logits_only(scaled, inputs, dtype)["loss"]
    return results


def logitstd_total(hyperparameters, inputs, dtype):
    fixed(hyperparameters, eps=1e-7)
    make_loss = soft_targets(hyperparameters, standardize=True)
    return with_labels(make_loss, hyperparameters, inputs, dtype)


def fitnet_plain(hyperparameters, inputs, dtype):
    make_loss = partial(losses.Hint, regressor=None)
    return features(make_loss, hyperparameters, inputs, dtype)


def fitnet_conv1x1(hyperparameters, inputs, dtype):
    return features(
        partial(losses.Hint, regressor="conv1x1"),
        hyperparameters,
        inputs,
        dtype,
        connector=("regressor_kernel", "regressor_bias"),
    )


def fitnet_convbnrelu(hyperparameters, inputs, dtype):
    fixed(hyperparameters, bn_eps=1e-5)
    return features(
        partial(losses.Hint, regressor="conv_bn_relu"),
        hyperparameters,
        inputs,
        dtype,
        connector=("regressor_kernel", "regressor_bias", "bn_gamma", "bn_beta"),
    )


def at_code(hyperparameters, inputs, dtype):
    make_loss = partial(
        losses.AttentionTransfer, form="code", power=hyperparameters["p"]
    )
    return features(make_loss, hyperparameters, inputs, dtype)


def at_paper(hyperparameters, inputs, dtype):
    make_loss = partial(
        losses.AttentionTransfer,
        form="paper",
        power=hyperparameters.get("p", 2),
    )
    return features(make_loss, hyperparameters, inputs, dtype)


GROUPS = {
    "kd_kl": kd_kl,
    "kd_total": kd_total,
    "kd_ce": kd_ce,
    "soft_target_ce": soft_target_ce,
    "logitstd_kl": logitstd_kl,
    "logitstd_total": logitstd_total,
    "fitnet_plain": fitnet_plain,
    "fitnet_conv1x1": fitnet_conv1x1,
    "fitnet_convbnrelu": fitnet_convbnrelu,
    "at_code": at_code,
    "at_paper": at_paper,
    **relation_groups.GROUPS,
    **feature_groups.GROUPS,
    **reuse_groups.GROUPS,
    **optimizer_groups.GROUPS,
    **multitask_groups.GROUPS,
}
