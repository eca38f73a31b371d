"""Whether a `tf.data.Dataset` shuffles.

Relies on, in TensorFlow 2.21 (with Keras 3.12.4 and 3.15.1):
`tf.data.Dataset._inputs`, `tf.data.Dataset._functions`, the class
`_ShuffleDataset`, and the name of the operations of
`tf.random.experimental.stateless_shuffle`.
"""

_SHUFFLES = ("RandomShuffle", "ShuffleDataset", "stateless_shuffle")


def shuffling(dataset):
    """Returns the name of what shuffles, or `None`."""
    if type(dataset).__name__ == "_ShuffleDataset":
        return "shuffle"
    for function in dataset._functions():
        for operation in function.function.graph.get_operations():
            for name in _SHUFFLES:
                if name in operation.type or name in operation.name:
                    return name
    names = (shuffling(below) for below in dataset._inputs())
    return next((name for name in names if name), None)
