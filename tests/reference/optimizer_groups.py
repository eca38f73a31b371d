"""The groups of reference cases that are trajectories of an optimizer."""

import keras
import numpy as np

from keras_distill import optimizers


def shampoo(hyperparameters, inputs, dtype):
    """Steps with given gradients; see `formula` in the manifest."""
    count = sum(name.startswith("variable_") for name in inputs)
    variables = [
        keras.Variable(inputs[f"variable_{i}"], dtype=dtype)
        for i in range(count)
    ]
    gradients = [inputs[f"gradients_{i}"] for i in range(count)]
    # A rate that Keras stores would be rounded to float32.
    rate = keras.ops.convert_to_tensor(hyperparameters["learning_rate"], dtype)
    optimizer = optimizers.Shampoo(
        **{**hyperparameters, "learning_rate": lambda: rate}
    )
    optimizer.build(variables)
    trajectories = [[] for _ in variables]
    for step in range(len(gradients[0])):
        optimizer.apply([g[step] for g in gradients], variables)
        for trajectory, variable in zip(trajectories, variables):
            trajectory.append(variable.numpy())
    results = {
        "loss": 0.5 * sum(np.sum(np.square(v.numpy())) for v in variables)
    }
    for i, trajectory in enumerate(trajectories):
        results[f"trajectory_{i}"] = np.stack(trajectory)
    for i in range(count):
        kept = {"statistics": optimizer._statistics, "root": optimizer._roots}
        for name, matrices in kept.items():
            for axis, matrix in enumerate(matrices[i]):
                results[f"{name}_{i}_block0_dim{axis}"] = matrix.numpy()[0]
    return results


GROUPS = {"shampoo": shampoo}
