"""The contract of a structure, which is also what no structure is."""

from collections.abc import Mapping
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_distill")
class Structure:
    """What the kernel W `(features, columns)` of `kd.multitask.Heads` is of.

    A column of W is an output of a task: a task with `units` outputs owns
    `units` columns. A structure makes W of one or more trained parts, and says
    what these cost. This base class is the case without any structure.

    A structure holds settings only, and no weights. To write your own, override
    the methods: they are functions of tensors, with `keras.ops`. The smooth
    part of the cost goes into `regularizers`, which the gradient sees. The rest
    goes into `shrink`, the proximal step that follows the optimizer's.

    Example:

    ```python
    @keras.saving.register_keras_serializable(package="my_project")
    class FewFeatures(kd.multitask.Structure):
        def penalty(self, parts):
            return keras.ops.sum(keras.ops.abs(parts["kernel"]))

        def shrink(self, parts, step):
            kernel = parts["kernel"]
            size = keras.ops.maximum(keras.ops.abs(kernel) - step, 0.0)
            return {"kernel": keras.ops.sign(kernel) * size}

    heads = kd.multitask.Heads({"a": 1, "b": 1}, structure=FewFeatures())
    ```
    """

    def check(self, features: int, columns: int) -> None:
        """Raises a `ValueError` for a kernel that it cannot be of."""

    def parts(self, kernel: Any) -> dict[str, Any]:
        """Returns the parts, name -> tensor, to start from a kernel."""
        return {"kernel": kernel}

    def merge(self, parts: Mapping[str, Any]) -> Any:
        """Returns the kernel that the parts make."""
        return parts["kernel"]

    def penalty(self, parts: Mapping[str, Any]) -> Any:
        """Returns what the parts cost, a scalar."""
        return 0.0

    def regularizers(self) -> dict[str, Any]:
        """Returns Keras regularizers of parts, name -> regularizer: that part
        of `penalty` that the gradient sees."""
        return {}

    def shrink(self, parts: Mapping[str, Any], step: Any) -> dict[str, Any]:
        """Returns new values of the parts that the rest of `penalty` changes.

        Args:
            parts: Name -> tensor.
            step: The learning rate, a scalar.
        """
        return {}

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Structure":
        return cls(**config)
