"""The masks that Keras hangs on tensors, for what makes new tensors of them.

Keras's losses and metrics read `_keras_mask`; there is no public accessor.
"""

import keras


def mask_of(tensor):
    """The mask of a sequence, or `None`."""
    return getattr(tensor, "_keras_mask", None)


def masks_of(structure):
    return keras.tree.map_structure(mask_of, structure)


def masked(structure, masks):
    """Hangs the masks on tensors that have lost them, and returns these."""
    for tensor, mask in zip(
        keras.tree.flatten(structure), keras.tree.flatten(masks), strict=True
    ):
        if mask is not None:
            tensor._keras_mask = mask
    return structure
