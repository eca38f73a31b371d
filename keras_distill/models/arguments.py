"""Checks of the arguments of the networks."""

import keras

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_integers


def image_input(input_shape, classes):
    """Checks what all networks take, and returns their input.

    Args:
        input_shape: (height, width, channels); height and width may be `None`.
        classes: Number of logits.
    """
    checked_integer("classes", classes)
    sizes = input_shape if isinstance(input_shape, (list, tuple)) else ()
    try:
        height, width, channels = sizes
        checked_integer("height", height, or_none=True)
        checked_integer("width", width, or_none=True)
        checked_integer("channels", channels)
    except ValueError:
        raise ValueError(
            "input_shape must be (height, width, channels), integers of at "
            "least 1; height and width may be None. Received: "
            f"{input_shape!r}"
        ) from None
    return keras.Input((height, width, channels), name="image")


def blocks_of_depth(depth, per_block, others, stages=3):
    """Computes the blocks in each stage of a network named by its depth.

    Args:
        depth: Number of layers with weights, without those of shortcuts.
        per_block: Number of convolutions in a block.
        others: Number of layers outside of the blocks.
        stages: Number of stages.

    Returns:
        A tuple with the same number for each stage.

    Raises:
        ValueError: for a depth that no number of blocks gives.
    """
    step = stages * per_block
    blocks, rest = divmod(checked_integer("depth", depth) - others, step)
    if blocks < 1 or rest:
        lower = max(blocks, 1) * step + others
        raise ValueError(
            f"depth must be {step} n + {others} with n >= 1; the nearest are "
            f"{lower} and {lower + step}. Received: depth={depth}"
        )
    return (blocks,) * stages


def blocks_per_stage(depth, blocks, default, per_block, others=2):
    """Returns the blocks given, or those of `depth` or the default depth.

    Returns:
        `(blocks, name)`: a tuple of integers, and how to name them.

    Raises:
        ValueError: for both, for blocks that are not positive integers, or for
            a depth that is not of the form.
    """
    if blocks is None:
        depth = default if depth is None else depth
        return blocks_of_depth(depth, per_block, others), str(depth)
    if depth is not None:
        raise ValueError(
            "Give depth or blocks, not both: the depth follows from the "
            f"blocks. Received: depth={depth!r}, blocks={blocks!r}"
        )
    blocks = checked_integers("blocks", blocks, hint="one for each stage")
    return blocks, "_" + "_".join(map(str, blocks))
