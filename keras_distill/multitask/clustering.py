from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill.losses.ops.elementwise import at_least_float32
from keras_distill.multitask import norms
from keras_distill.multitask.structure import Structure


@keras.saving.register_keras_serializable(package="keras_distill")
class TaskClustering(Structure):
    """Tasks are mixtures of a few groups, and groups may overlap.

        W = L S,   cost: sparsity * ||S||_1 + decay * ||L||_F^2

    L `(features, groups)` holds a kernel per group, S `(groups, columns)` the
    shares of the tasks in them, many of them exactly 0. The optimizer sees the
    decay; a soft threshold of S follows it.

    This is not convex, so the start matters. It is the singular value
    decomposition of a kernel without structure: the random one, or, better, a
    trained one. Train `Heads` without structure first and pass its kernel:
    `heads.assign_kernel(independent.merged_kernel())`.

    W has a rank of at most `groups`. Tasks that have nothing in common get
    worse (docs/multitask.md).

    Args:
        groups: Number of groups, at most the number of features and of
            columns, which are the outputs of all tasks together: a task of
            10 classes has 10.
        sparsity: Cost of the shares, 0 or more.
        decay: Cost of the groups' kernels, 0 or more. At 0 the sparsity means
            nothing: S shrinks while L grows.

    Raises:
        ValueError: For numbers out of range; when `Heads` is built, for more
            groups than columns or features.

    Example:

    ```python
    heads = kd.multitask.Heads(
        {f"digit_{i}": 1 for i in range(10)},
        structure=kd.multitask.TaskClustering(3, sparsity=0.01, decay=0.001),
    )
    ```

    Reference:
        Kumar and Daume III, "Learning task grouping and overlap in multi-task
        learning", 2012, eq. 2.
    """

    def __init__(self, groups: int, sparsity: float, decay: float):
        self.groups = checked_integer("groups", groups)
        self.sparsity = checked_number("sparsity", sparsity, "[0, inf)")
        self.decay = checked_number("decay", decay, "[0, inf)")

    def check(self, features: int, columns: int) -> None:
        if self.groups > min(features, columns):
            raise ValueError(
                f"groups={self.groups} is more than the tasks can form: there "
                f"are {columns} columns (outputs of all tasks) and {features} "
                f"features. Pass groups={min(features, columns)} or less."
            )

    def parts(self, kernel: Any) -> dict[str, Any]:
        kernel = at_least_float32(kernel)
        left, values, right = ops.svd(kernel, full_matrices=False)
        roots = ops.sqrt(values[: self.groups])
        return {
            "groups": left[:, : self.groups] * roots,
            "shares": roots[:, None] * right[: self.groups],
        }

    def merge(self, parts: Mapping[str, Any]) -> Any:
        return ops.matmul(parts["groups"], parts["shares"])

    def penalty(self, parts: Mapping[str, Any]) -> Any:
        return self.sparsity * norms.norm(
            "l1", parts["shares"]
        ) + self.decay * norms.norm("frobenius", parts["groups"])

    def regularizers(self) -> dict[str, Any]:
        return {"groups": keras.regularizers.L2(self.decay)}

    def shrink(self, parts: Mapping[str, Any], step: Any) -> dict[str, Any]:
        amount = step * self.sparsity
        return {"shares": norms.prox("l1", parts["shares"], amount)}

    def get_config(self) -> dict[str, Any]:
        return {
            "groups": self.groups,
            "sparsity": self.sparsity,
            "decay": self.decay,
        }
