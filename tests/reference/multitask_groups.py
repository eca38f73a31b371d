"""The reference groups of multi-task learning: see `adapter.py`."""

from functools import partial

import keras
from gradients import value_and_gradients
from keras import ops

from keras_distill import losses
from keras_distill import multitask
from keras_distill.multitask import norms


def covariance_root(kernel, epsilon):
    """`(W W' + epsilon I)^(1/2)`, `(features, features)`."""
    # Not from eigenvalues of W W': squares lose half of the digits.
    left, values, _ = ops.svd(kernel, full_matrices=False)
    least = epsilon**0.5
    added = ops.sqrt(ops.square(values) + epsilon) - least
    identity = ops.eye(kernel.shape[0], dtype=kernel.dtype)
    return ops.matmul(left * added, ops.transpose(left)) + least * identity


def feature_transformation(hyperparameters, inputs, dtype):
    """The squared nuclear norm, its smooth form, and both for rows."""
    strength, step, epsilon = (
        hyperparameters[key] for key in ("strength", "step", "epsilon")
    )
    make = partial(multitask.FeatureTransformation, strength)
    smooth, rows = make(epsilon=epsilon), make(transformation="identity")
    parts = {"kernel": inputs["kernel"]}

    def cost(structure):
        return value_and_gradients(
            lambda: {"loss": structure.penalty(parts)}, parts
        )

    smoothed = cost(smooth)
    root = covariance_root(inputs["kernel"], epsilon)
    return {
        **cost(make()),
        "prox": make().shrink(parts, step)["kernel"],
        "loss_smooth": smoothed["loss"],
        "grad_kernel_smooth": smoothed["grad_kernel"],
        "D": root / ops.trace(root),
        "loss_rows_squared": rows.penalty(parts),
        "prox_rows_squared": rows.shrink(parts, step)["kernel"],
    }


def fit_of(structure, parts, inputs, bias=None):
    """Half the mean squared error of each task, added up over tasks.

    A task has samples of its own: `(tasks, samples, features)`.
    """
    logits = ops.einsum("tnd,dt->tn", inputs["x"], structure.merge(parts))
    if bias is not None:
        logits = logits + ops.expand_dims(bias, -1)
    samples = inputs["x"].shape[1]
    return ops.sum(ops.square(logits - inputs["y"])) / (2.0 * samples)


def trajectory(structure, parts, inputs, hyperparameters, bias=None):
    """The variables after some steps, and the loss after each.

    A step is one of plain SGD on the fit and on what the gradient sees of the
    cost, and a proximal step behind it.
    """
    rate, costs = hyperparameters["learning_rate"], []
    start = parts if bias is None else {**parts, "bias": bias}
    variables = {
        name: keras.Variable(ops.convert_to_tensor(x), dtype=x.dtype)
        for name, x in start.items()
    }
    own = {name: variables[name] for name in parts}

    def fit():
        return fit_of(structure, own, inputs, variables.get("bias"))

    def objective():
        regularizers = structure.regularizers().items()
        return {"loss": sum((r(own[n]) for n, r in regularizers), fit())}

    for _ in range(hyperparameters["steps"]):
        results = value_and_gradients(objective, variables)
        for name, variable in variables.items():
            variable.assign(variable - rate * results[f"grad_{name}"])
        for name, value in structure.shrink(own, rate).items():
            own[name].assign(value)
        costs.append(fit() + structure.penalty(own))
    return variables, ops.stack(costs)


def task_clustering(hyperparameters, inputs, dtype):
    structure = multitask.TaskClustering(
        inputs["L"].shape[1],
        hyperparameters["sparsity"],
        hyperparameters["decay"],
    )
    parts = {"groups": inputs["L"], "shares": inputs["S"]}
    fit = value_and_gradients(
        lambda: {"loss": fit_of(structure, parts, inputs, inputs["bias"])},
        {"L": inputs["L"], "S": inputs["S"], "bias": inputs["bias"]},
    )
    penalty = structure.penalty(parts)
    after, costs = trajectory(
        structure, parts, inputs, hyperparameters, inputs["bias"]
    )
    return {
        **fit,
        "fit": fit["loss"],
        "loss_regularizer": penalty,
        "loss": fit["loss"] + penalty,
        "kernel": structure.merge(parts),
        "prox_S": structure.shrink(parts, hyperparameters["learning_rate"])[
            "shares"
        ],
        "L_after": after["groups"],
        "S_after": after["shares"],
        "bias_after": after["bias"],
        "loss_trajectory": costs,
    }


def parameter_decomposition(hyperparameters, inputs, dtype):
    names = [
        name.replace("us_squared", "us") for name in hyperparameters["norms"]
    ]
    pairs = zip(names, hyperparameters["strengths"])
    structure = multitask.ParameterDecomposition(list(pairs))
    names = [f"component_{k}" for k in range(len(structure.components))]
    parts = {name: inputs[name] for name in names}
    fit = value_and_gradients(
        lambda: {"loss": fit_of(structure, parts, inputs)}, parts
    )
    penalty = structure.penalty(parts)
    shrunk = structure.shrink(parts, hyperparameters["prox_step"])
    after, costs = trajectory(structure, parts, inputs, hyperparameters)
    results = {
        "fit": fit["loss"],
        "grad_component": fit["grad_component_0"],
        "loss_regularizer": penalty,
        "loss": fit["loss"] + penalty,
        "loss_trajectory": costs,
    }
    components = enumerate(zip(names, structure.components))
    for k, (name, (norm, strength)) in components:
        results[f"value_{k}"] = strength * norms.norm(norm, parts[name])
        results[f"prox_{k}"] = shrunk[name]
        results[f"component_after_{k}"] = after[name]
    return results


def feature_distillation(hyperparameters, inputs, dtype):
    import adapter

    teachers = adapter.levels(inputs, "teacher_feature")
    loss = losses.MultiTaskFeature(
        teacher_layer_name=list(teachers),
        student_layer_name="student_feature",
        task_weights=hyperparameters["weights"],
        epsilon=hyperparameters["epsilon"],
        dtype=dtype,
    )
    student = inputs["student_feature"]
    adapter.built(loss, teachers, student)
    watched = {"student_feature": student}
    for name, value in adapter.levels(inputs, "adaptor").items():
        adaptor = loss.adaptors[int(name.rpartition("_")[2])]
        adaptor.assign(value)
        watched[name] = adaptor
    return value_and_gradients(
        lambda: {"loss": loss.compute_loss(teachers, student)}, watched
    )


GROUPS = {
    "mt_feature_transformation": feature_transformation,
    "mt_task_clustering": task_clustering,
    "mt_parameter_decomposition": parameter_decomposition,
    "mt_feature_distillation": feature_distillation,
}
