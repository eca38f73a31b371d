"""Will the data come in the same order when the script runs again?"""

import types

import keras
import tensorflow as tf

from keras_distill._data.sources import are_arrays
from keras_distill._keras.dataset_seeds import unseeded

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
        name = unseeded(x)
        return name and (
            f"the dataset draws random numbers without a seed ('{name}'); give "
            f"dataset.shuffle(..., seed=0), or {_SET_SEED}"
        )
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
