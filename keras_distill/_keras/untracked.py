"""A reference that Keras does not follow.

Relies on Keras tracking only its own classes and containers of them (checked in
Keras 3.12.4 and 3.15.1).
"""


class Untracked:
    """A reference that Keras does not follow.

    Keras tracks every model, layer and container that is an attribute of a
    model, also through properties: the teacher would be in each checkpoint,
    in `trainable_variables` and in `count_params`.
    """

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value
