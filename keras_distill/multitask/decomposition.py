from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.multitask import norms
from keras_distill.multitask.structure import Structure


@keras.saving.register_keras_serializable(package="keras_distill")
class ParameterDecomposition(Structure):
    """The kernel is a sum of components, each simple in its own way.

        W = sum_k W_k,   cost: sum_k strength_k * norm_k(W_k)

    | norm | what it sums | what it leaves |
    |---|---|---|
    | `"l1"` | absolute entries | entries of single tasks |
    | `"linf"` | the largest absolute entry of each row | shared features |
    | `"rows"` | lengths of rows (features) | shared features |
    | `"columns"` | lengths of columns (outputs) | outlier tasks |
    | `"nuclear"` | singular values | a low rank |
    | `"frobenius"` | squared entries | everything, small |

    `"l1_squared"`, `"rows_squared"`, `"columns_squared"` and
    `"nuclear_squared"` are the squares of these sums. Published pairs: `"linf"`
    and `"l1"` (dirty model), `"nuclear"` and `"columns"` (robust), `"rows"` and
    `"columns"`, `"nuclear"` and `"l1"`.

    Every component sees the gradient of W, so W moves as many times faster as
    there are components: a rate at which plain heads just train is too high.

    Args:
        components: A list of `(norm, strength)`, strengths 0 or more. No
            values suit all data: choose them on held-out samples.

    Raises:
        ValueError: For an empty list, an unknown norm or a strength below 0.

    Example:

    ```python
    heads = kd.multitask.Heads(
        {"shape": 4, "texture": 3},
        structure=kd.multitask.ParameterDecomposition(
            [("linf", 0.02), ("l1", 0.01)]
        ),
    )
    ```

    Reference:
        Jalali et al., "A dirty model for multi-task learning", 2010 (linf and
        l1); Chen, Zhou and Ye, 2011 (nuclear and columns); Gong, Ye and Zhang,
        2012 (rows and columns); Chen, Liu and Ye, 2012 (nuclear and l1).
    """

    def __init__(self, components: Sequence[tuple[str, float]]):
        expected = (
            "components must be a list of (norm, strength), such as "
            f'[("linf", 0.02), ("l1", 0.01)]. Received: {components!r}'
        )
        if not isinstance(components, (list, tuple)) or not components:
            raise ValueError(expected)
        self.components = []
        for component in components:
            if not isinstance(component, (list, tuple)) or len(component) != 2:
                raise ValueError(expected)
            name, strength = component
            one_of("The norm of components", name, norms.NORMS)
            strength = checked_number(
                "The strength of components", strength, "[0, inf)"
            )
            self.components.append((name, strength))

    def parts(self, kernel: Any) -> dict[str, Any]:
        share = kernel / len(self.components)
        return {name: share for name in self._names()}

    def merge(self, parts: Mapping[str, Any]) -> Any:
        first, *others = (parts[name] for name in self._names())
        for other in others:
            first = first + other
        return first

    def penalty(self, parts: Mapping[str, Any]) -> Any:
        return sum(
            strength * norms.norm(norm, parts[name])
            for name, (norm, strength) in zip(self._names(), self.components)
        )

    def shrink(self, parts: Mapping[str, Any], step: Any) -> dict[str, Any]:
        return {
            name: norms.prox(norm, parts[name], step * strength)
            for name, (norm, strength) in zip(self._names(), self.components)
        }

    def _names(self):
        return [f"component_{k}" for k in range(len(self.components))]

    def get_config(self) -> dict[str, Any]:
        return {"components": [list(pair) for pair in self.components]}
