"""A forward pass on the pieces of a batch, one after the other."""

import tensorflow as tf


def in_pieces(function, inputs, size):
    """Applies a function to a batch, a few samples at a time.

        f(x) = concatenation of f(x_1), ..., f(x_k),   k = ceil(samples / size)

    The pieces are as equal as the batch allows. Each ends before the next
    begins: memory holds the intermediate results of one piece only.

    Args:
        function: Takes inputs like these and returns a structure of tensors
            whose rows are samples. It is traced once. No gradient may flow
            through it.
        inputs: A structure of tensors, batch axis first.
        size: Largest number of samples in a piece.

    Returns:
        What `function(inputs)` returns.

    Raises:
        ValueError: If the rows of a result are not the samples.
    """
    samples = tf.shape(tf.nest.flatten(inputs)[0])[0]
    if tf.executing_eagerly():
        parts = []
        for start in range(0, int(samples), size):
            piece = tf.nest.map_structure(
                lambda x: x[start : start + size], inputs
            )
            parts.append(function(piece))
            count = min(size, int(samples) - start)
            tf.nest.map_structure(lambda x: _check_rows(x, count), parts[-1])
        return tf.nest.map_structure(lambda *x: tf.concat(x, axis=0), *parts)

    # All pieces together have `k * length` rows: the last sample fills them up.
    k = -(-samples // size)
    length = -(-samples // tf.maximum(k, 1))
    rows = tf.minimum(tf.range(k * length), samples - 1)
    # A graph of its own: a loop must know in advance what it returns.
    body = tf.function(
        lambda rows: function(
            tf.nest.map_structure(lambda x: tf.gather(x, rows), inputs)
        ),
        autograph=False,
    ).get_concrete_function(tf.TensorSpec([None], rows.dtype))
    outputs = tf.map_fn(
        body,
        tf.reshape(rows, [k, length]),
        parallel_iterations=1,
        fn_output_signature=tf.nest.map_structure(
            lambda x: tf.TensorSpec(x.shape, x.dtype), body.structured_outputs
        ),
    )

    def joined(x):
        shape = tf.concat([[k * length], tf.shape(x)[2:]], axis=0)
        all_rows = tf.reshape(x, shape)[:samples]
        all_rows.set_shape([None, *x.shape[2:]])
        return all_rows

    return tf.nest.map_structure(joined, outputs)


def _check_rows(x, count):
    shape = tuple(x.shape)
    if not shape or shape[0] != count:
        raise ValueError(
            "teacher_batch_size cuts a batch into pieces, so every output and "
            "tap of the teacher must have one row per sample. Received: one of "
            f"shape {shape} for {count} samples. Leave teacher_batch_size out, "
            "or tap another layer."
        )
