"""What the losses of transformers check, and which positions count."""

from keras import ops

from keras_distill._shapes import sizes_agree
from keras_distill.losses.ops.reductions import fitting_weight


def check_positions(loss, teacher, student, axes):
    """Raises for sequences that do not have the same positions.

    Args:
        loss: The loss.
        teacher: The shape of the teacher's tap.
        student: The shape of the student's tap.
        axes: The axes of the positions.
    """
    sizes = [[shape[axis] for axis in axes] for shape in (teacher, student)]
    if not sizes_agree(*sizes):
        raise ValueError(
            f"{type(loss).__name__} compares sequences position by position, "
            "and these differ in length. Received: teacher "
            f"{tuple(teacher)}, student {tuple(student)}. Give both networks "
            "the same tokens, padded to the same length, or tap other layers "
            "with teacher_layer_name= and student_layer_name=."
        )


def positions_that_count(sample_weight, positions):
    """Where the weight of a position is not 0, `(batch, positions)`.

    Args:
        sample_weight: `None`, one weight per sample, or per position.
        positions: Number of positions, `None` if it is unknown.

    Returns:
        Booleans, or `None` if there are no weights per position.
    """
    shape = tuple(getattr(sample_weight, "shape", ()))
    if len(shape) != 2 or (positions != 1 and shape[1] == 1):
        return None
    if not sizes_agree(shape[1:], (positions,)):
        return None
    return ops.convert_to_tensor(sample_weight) > 0


def weight_of_pairs(sample_weight, scores):
    """Weights of pairs of positions, that multiply attention scores.

    Args:
        sample_weight: `(batch,)`; one weight per position: that of the query,
            and keys of weight 0 do not count; or one per query and key.
        scores: `(batch, heads, queries, keys)`.

    Returns:
        Four axes, some of size 1.
    """
    sample_weight = ops.convert_to_tensor(sample_weight)
    rank = len(sample_weight.shape)
    if rank > 2:
        weight = ops.cast(sample_weight, scores.dtype)
        return weight if rank == 4 else weight[:, None]
    count = positions_that_count(sample_weight, scores.shape[2])
    if count is None:
        return fitting_weight(sample_weight, scores)
    weight = ops.cast(sample_weight, scores.dtype)[:, None, :, None]
    if scores.shape[2] == scores.shape[3]:
        weight = weight * ops.cast(count, scores.dtype)[:, None, None, :]
    return weight
