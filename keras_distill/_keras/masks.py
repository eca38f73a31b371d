"""The masks that Keras attaches to tensors; its losses and metrics read them.

Code that makes new tensors has to attach the masks again.

Relies on, in Keras 3.12.4 and 3.15.1: `Tensor._keras_mask`,
`Layer._set_mask_metadata`.
"""

import keras

from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.method_patching import intercepted


def mask_of(tensor):
    """Returns the mask of a tensor, or `None`."""
    return getattr(tensor, "_keras_mask", None)


def mask_of_tap(tap):
    """Returns the mask of a tap, or the first of several if all have one."""
    masks = [mask_of(tensor) for tensor in keras.tree.flatten(tap)]
    return None if any(mask is None for mask in masks) else masks[0]


def makes_masks(model):
    """Whether layers of a model (or `None`) leave positions out by mask."""
    return model is not None and any(
        isinstance(layer, keras.layers.Masking)
        or getattr(layer, "mask_zero", False)
        for layer in flatten_layers(model)
    )


def masks_of(structure):
    """Returns the masks of a structure of tensors."""
    return keras.tree.map_structure(mask_of, structure)


def masks_by_place(structure):
    """Returns the masks there are, by the number of their tensor.

    They go with the tensors through what makes new tensors, such as a
    `tf.function`; `with_masks` attaches them again.
    """
    masks = map(mask_of, keras.tree.flatten(structure))
    return {i: mask for i, mask in enumerate(masks) if mask is not None}


def with_masks(structure, masks):
    """Attaches masks of `masks_by_place`, and returns the structure."""
    for i, tensor in enumerate(keras.tree.flatten(structure)):
        if i in masks:
            tensor._keras_mask = masks[i]
    return structure


def without_gradient(structure):
    """The tensors and their masks, with no gradient through them."""
    masks = masks_by_place(structure)
    stop = keras.ops.stop_gradient
    return with_masks(keras.tree.map_structure(stop, structure), masks)


def masking_intercepted(layers, handler):
    """A context in which `handler` attaches the masks to what layers return.

    Args:
        layers: Keras layers.
        handler: A function `(layer, method, inputs, outputs, mask)`, see
            `intercepted`.
    """
    # Called after `call`. Layers that pass no masks on do not have it called.
    return intercepted(layers, "_set_mask_metadata", handler)


def masked(structure, masks):
    """Attaches masks to a structure of tensors, and returns the structure."""
    for tensor, mask in zip(
        keras.tree.flatten(structure), keras.tree.flatten(masks), strict=True
    ):
        if mask is not None:
            tensor._keras_mask = mask
    return structure
