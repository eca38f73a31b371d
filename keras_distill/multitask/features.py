from collections.abc import Mapping
from typing import Any

import keras

from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.multitask import norms
from keras_distill.multitask.structure import Structure


@keras.saving.register_keras_serializable(package="keras_distill")
class FeatureTransformation(Structure):
    """Few transformed features serve all tasks.

        W = U A,   cost: strength * ||A||_{2,1}^2     U'U = I

    The norm sums the lengths of the rows of A, so few rows stay. The minimum
    over U is the convex `strength * (sum of singular values of W)^2`: W has a
    low rank. That is what is trained, by its proximal operator.

    Args:
        strength: How much it costs, 0 or more. No value suits all data:
            choose it on held-out samples.
        transformation: `"orthogonal"`: as above. `"identity"`: U = I, the cost
            is the squared sum of the lengths of the rows of W itself, and
            features are selected. Defaults to `"orthogonal"`.
        epsilon: 0: the proximal step. Above 0: the smooth form
            `strength * tr((W W' + epsilon I)^(1/2))^2`, which the gradient
            sees; no singular value becomes 0. Defaults to 0.

    Raises:
        ValueError: For numbers below 0, or an unknown transformation.

    Example:

    ```python
    heads = kd.multitask.Heads(
        {"shape": 4, "texture": 3},
        structure=kd.multitask.FeatureTransformation(strength=0.01),
    )
    ```

    Reference:
        Argyriou, Evgeniou and Pontil, "Convex multi-task feature learning",
        2008, eqs. 5, 11 and 16.
    """

    def __init__(
        self,
        strength: float,
        *,
        transformation: str = "orthogonal",
        epsilon: float = 0.0,
    ):
        self.strength = checked_number("strength", strength, "[0, inf)")
        self.transformation = one_of(
            "transformation", transformation, ("orthogonal", "identity")
        )
        self.epsilon = checked_number("epsilon", epsilon, "[0, inf)")

    def penalty(self, parts: Mapping[str, Any]) -> Any:
        return self._cost(parts["kernel"])

    def regularizers(self) -> dict[str, Any]:
        return {"kernel": self._cost} if self.epsilon else {}

    def shrink(self, parts: Mapping[str, Any], step: Any) -> dict[str, Any]:
        if self.epsilon:
            return {}
        name = "nuclear" if self.transformation == "orthogonal" else "rows"
        amount = step * self.strength
        return {
            "kernel": norms.prox(f"{name}_squared", parts["kernel"], amount)
        }

    def _cost(self, kernel):
        smooth = {
            "orthogonal": norms.smooth_nuclear_squared,
            "identity": norms.smooth_rows_squared,
        }[self.transformation]
        return self.strength * smooth(kernel, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        return {
            "strength": self.strength,
            "transformation": self.transformation,
            "epsilon": self.epsilon,
        }
