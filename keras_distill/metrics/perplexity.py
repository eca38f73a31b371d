"""How well a language model predicts the next word."""

from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_ignore_class
from keras_distill._keras.masks import mask_of
from keras_distill.losses.ops.reductions import fitting_weight


@keras.saving.register_keras_serializable(package="keras_distill")
class Perplexity(keras.metrics.Mean):
    """Perplexity: how many words the model hesitates between, on average.

        perplexity = exp(sum_i w_i nll_i / sum_i w_i),   nll_i = -log p_i[y_i]

    `i` counts the words (positions) of all batches and replicas. `w` is the
    sample weight, 1 without one. It is 0 where the mask of the predictions
    leaves a word out, and for the label `ignore_class`. The mean is one over
    all words. (keras_hub.metrics.Perplexity takes a mean per batch and weighs
    batches by their samples, which differs where batches have different
    numbers of words.)

    As every Keras metric, it gets sample weights in `compile(weighted_metrics=
    [...])`, and none in `compile(metrics=[...])`. Callbacks such as
    `keras.callbacks.EarlyStopping("val_perplexity")` know that less is better.

    Args:
        from_logits: Whether the model gives logits; else probabilities.
            Defaults to `True`.
        ignore_class: The label of words that do not count, such as that of
            padding. Defaults to `None`: all count.
        name: The name in the logs. Defaults to `"perplexity"`.
        dtype: The dtype of the state. Defaults to float32.

    Input shapes:
        `update_state(y_true, y_pred, sample_weight=None)`: integer labels
        `(batch, ...)`, predictions `(batch, ..., words)`, weights `(batch,)`
        or one for each word.

    Example:

    ```python
    metric = kd.metrics.Perplexity()
    metric.update_state([[0, 1]], [[[0.0, 0.0], [0.0, 0.0]]])
    metric.result()  # 2.0: it does not know which of two words comes
    ```

    Reference: Jelinek et al. 1977, "Perplexity: a measure of the difficulty of
    speech recognition tasks".
    """

    def __init__(
        self,
        from_logits: bool = True,
        ignore_class: int | None = None,
        name: str = "perplexity",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.from_logits = checked_boolean("from_logits", from_logits)
        self.ignore_class = checked_ignore_class(ignore_class)
        self._direction = "down"

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = mask_of(y_pred)
        y_true = ops.cast(y_true, "int32")
        y_pred = ops.cast(y_pred, self.dtype)
        positions = tuple(y_pred.shape[:-1])
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, -1)
        if len(y_true.shape) != len(positions):
            raise ValueError(
                f"Perplexity takes labels (batch, ...), a word's number for "
                f"each prediction (batch, ..., words). Received: labels of "
                f"shape {tuple(y_true.shape)}, predictions of shape "
                f"{tuple(y_pred.shape)}. Make one-hot labels numbers: "
                "keras.ops.argmax(y, axis=-1)."
            )
        counted = [mask]
        if self.ignore_class is not None:
            known = ops.not_equal(y_true, self.ignore_class)
            y_true = ops.where(known, y_true, 0)
            counted.append(known)
        nll = keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=self.from_logits
        )
        weight = ops.ones_like(nll)
        for other in (*counted, sample_weight):
            if other is not None:
                other = ops.cast(other, self.dtype)
                weight *= fitting_weight(other, weight)
        # What does not count may be NaN.
        nll = ops.where(weight > 0, nll, 0)
        super().update_state(nll, weight)

    def result(self):
        return ops.exp(super().result())

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
        }
