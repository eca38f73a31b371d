"""Will the data come in the same order when the script runs again?

Relies on, in TensorFlow 2.21: `Dataset._inputs`, `Dataset._functions`,
`_ShuffleDataset._seed`, `_ShuffleDataset._seed2`.
"""

import types

import keras
import tensorflow as tf

from keras_distill._data.sources import are_arrays

# What TensorFlow takes for a global seed that was not set.
_NO_SEED = 87654321
_SET_SEED = "call keras.utils.set_random_seed at the beginning of the script"


def why_not_the_same_again(x, shuffle):
    """Returns why another process may see other data, or `None`.

    Args:
        x: The training data, as given to `fit`.
        shuffle: As given to `fit`.
    """
    if isinstance(x, tf.data.Dataset):
        return _reason(x)
    if isinstance(x, types.GeneratorType):
        return (
            "nobody knows the order of a generator; give a tf.data.Dataset, "
            "such as kd.datasets.batches(..., seed=0)"
        )
    shuffled = shuffle and (
        are_arrays(x) or isinstance(x, keras.utils.PyDataset)
    )
    if shuffled and tf.compat.v1.get_seed(0)[0] == _NO_SEED:
        return f"Keras shuffles the data without a seed; {_SET_SEED}"
    return None


def _reason(dataset):
    name = type(dataset).__name__
    if name == "_ShuffleDataset":
        if not any(int(seed) for seed in (dataset._seed, dataset._seed2)):
            return (
                "a dataset is shuffled without a seed; give "
                f"dataset.shuffle(..., seed=0), or {_SET_SEED}"
            )
    for function in dataset._functions():
        for operation in function.function.graph.get_operations():
            if _draws_unseeded(operation):
                return (
                    f"a function of the dataset draws random numbers "
                    f"('{operation.type}') without a seed; {_SET_SEED}"
                )
    for below in dataset._inputs():
        reason = _reason(below)
        if reason:
            return reason
    return None


def _draws_unseeded(operation):
    definition = operation.node_def.attr
    return (
        operation.op_def.is_stateful
        and "seed" in definition
        and "seed2" in definition
        and not definition["seed"].i
        and not definition["seed2"].i
    )
