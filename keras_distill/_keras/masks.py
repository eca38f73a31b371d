"""The masks that Keras attaches to tensors; its losses and metrics read them.

Code that makes new tensors has to attach the masks again.

Relies on, in Keras 3.12.4 and 3.15.1: `Tensor._keras_mask`.
"""

import keras


def mask_of(tensor):
    """Returns the mask of a tensor, or `None`."""
    return getattr(tensor, "_keras_mask", None)


def masks_of(structure):
    """Returns the masks of a structure of tensors."""
    return keras.tree.map_structure(mask_of, structure)


def masked(structure, masks):
    """Attaches masks to a structure of tensors, and returns the structure."""
    for tensor, mask in zip(
        keras.tree.flatten(structure), keras.tree.flatten(masks), strict=True
    ):
        if mask is not None:
            tensor._keras_mask = mask
    return structure
