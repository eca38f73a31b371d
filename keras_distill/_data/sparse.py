"""Sparse inputs: `tf.SparseTensor`, and the matrices of scipy in `fit`."""

import keras


def is_scipy(array):
    """Whether an array is a sparse matrix or array of scipy."""
    return hasattr(array, "tocsr")


def is_sparse(tensor):
    """Whether a tensor is a `tf.SparseTensor`."""
    import tensorflow as tf

    return isinstance(tensor, tf.SparseTensor)


def number_of_rows(array):
    """The number of samples of an array or tensor of any kind."""
    shape = getattr(array, "shape", None)
    return len(array) if shape is None else int(shape[0])


def first_rows(array, count):
    """The first samples of an array or tensor of any kind."""
    if is_scipy(array):
        return array.tocsr()[:count]
    if is_sparse(array):
        import tensorflow as tf

        size = [count, *array.shape[1:]]
        return tf.sparse.slice(array, [0] * len(size), size)
    return array[:count]


def as_tensor(array):
    """Makes a tensor; of a scipy matrix a `tf.SparseTensor`, as Keras does."""
    if not is_scipy(array):
        return keras.ops.convert_to_tensor(array)
    import numpy as np
    import tensorflow as tf

    coo = array.tocoo()
    indices = np.stack([coo.row, coo.col], axis=1).astype("int64")
    values = coo.data
    if np.issubdtype(values.dtype, np.floating):
        values = values.astype(keras.config.floatx())
    return tf.sparse.reorder(tf.SparseTensor(indices, values, coo.shape))
