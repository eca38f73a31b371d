"""Running a function once as a graph."""

import tensorflow as tf


def once_in_graph(function, *args):
    """`function(*args)` as a graph that XLA does not compile.

    Through the concrete function: of one that is called once, TensorFlow says
    after some that it is traced too often.
    """
    graph = tf.function(function, autograph=False, jit_compile=False)
    return graph.get_concrete_function(*args)(*args)
