"""Losses of `keras.distillation`, and the names of losses."""

import copy
from typing import Any

import keras
from keras import ops

from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.base import snake_case
from keras_distill.losses.structures import validated_taps

RESERVED = ("student", "distillation")


@keras.saving.register_keras_serializable(package="keras_distill")
class StockLoss(DistillationLoss):
    """A loss of `keras.distillation` inside `kd.Distiller`.

    These losses ignore sample weights: they take the mean.

    Args:
        loss: A `keras.distillation.DistillationLoss`.
        name: Name in the logs. Defaults to its class name in snake case.
    """

    def __init__(self, loss: Any, name: str | None = None):
        super().__init__(
            teacher_layer_name=getattr(loss, "teacher_layer_name", None),
            student_layer_name=getattr(loss, "student_layer_name", None),
            name=name or snake_case(type(loss).__name__),
        )
        self.loss = loss
        self.compares_classes = isinstance(
            loss, keras.distillation.LogitsDistillation
        )
        self._computed = _without_replica_scaling(loss)

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> Any:
        # float16 logits overflow inside keras.distillation's losses.
        wide = keras.tree.map_structure(
            lambda t: ops.cast(t, "float32"), (teacher_outputs, student_outputs)
        )
        self.loss.validate_outputs(*wide)
        return self._computed.compute_loss(*wide)

    def get_config(self) -> dict[str, Any]:
        return {
            "loss": keras.saving.serialize_keras_object(self.loss),
            "name": self.name,
            "layer_names": {
                argument: self._name_to_save(argument)
                for argument in ("teacher_layer_name", "student_layer_name")
            },
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["loss"] = keras.saving.deserialize_keras_object(config["loss"])
        layer_names = config.pop("layer_names", {})
        loss = cls(**config)
        for argument, names in layer_names.items():
            setattr(loss, argument, validated_taps(names, argument))
        return loss


def _without_replica_scaling(loss):
    """Returns the loss with an inner `keras.losses.Loss` that is a mean.

    A `Loss` object divides by the number of replicas, and a function does not;
    a mean follows both. With reduction "none" both give that mean.
    """

    def unscaled(inner):
        mean = ("sum_over_batch_size", "mean")
        if getattr(inner, "reduction", None) in mean:
            inner = copy.copy(inner)
            inner.reduction = "none"
        return inner

    if not hasattr(loss, "loss"):
        return loss
    loss = copy.copy(loss)
    loss.loss = keras.tree.map_structure(unscaled, loss.loss)
    return loss


def as_distillation_losses(losses, outputs=None):
    """Returns one loss, a list or a dict of losses as a dict by unique name.

    Args:
        losses: As in `kd.Distiller`.
        outputs: The keys of the student's output if it is known to be a dict.
            Under such a key, or with a list, losses belong to this task.

    Raises:
        TypeError: for something that is not a distillation loss.
        ValueError: for no loss, a name given twice, or a reserved name.
    """
    if isinstance(losses, dict):
        named = []
        for name, given in losses.items():
            several = isinstance(given, (list, tuple))
            if several or name in (outputs or ()):
                _check_task(name, given, outputs)
                of_task = given if several else [given]
                named += [(None, loss, False, name) for loss in of_task]
            else:
                named.append((name, given, True, None))
    else:
        several = isinstance(losses, (list, tuple))
        named = [
            (None, loss, False, None)
            for loss in (losses if several else [losses])
        ]
    if losses is None or not named:
        raise ValueError(
            "distillation_losses must hold at least one distillation loss, "
            f"such as kd.losses.SoftTargets(). Received: {losses!r}"
        )
    result = {}
    for name, loss, fixed, task in named:
        if isinstance(loss, type) or not isinstance(
            loss, keras.distillation.DistillationLoss
        ):
            hint = (
                "Give an instance, not the class."
                if isinstance(loss, type)
                else "A Keras loss such as 'mse' belongs in compile(loss=...)."
            )
            raise TypeError(
                "distillation_losses takes kd.losses.* and keras.distillation "
                f"losses. Received: {loss!r}. {hint}"
            )
        default = snake_case(type(loss).__name__)
        if not isinstance(loss, DistillationLoss):
            loss = StockLoss(loss)
        # Default names may be made unique, the user's may not.
        fixed = fixed or loss.name != default
        name = name or loss.name
        loss.task = task
        if task is not None:
            name = f"{task}_{name}"
        if not isinstance(name, str) or name in RESERVED or "/" in name:
            raise ValueError(
                f"'{name}' cannot be the name of a distillation loss: names "
                f"are strings without '/', and {RESERVED} belong to the logs."
            )
        if name in result:
            if fixed:
                raise ValueError(
                    f"Two distillation losses are called '{name}'. Give each "
                    "its own name=, or pass a dict name -> loss."
                )
            number = 1
            while f"{name}_{number}" in result:
                number += 1
            name = f"{name}_{number}"
        if any(loss is other for other in result.values()):
            raise ValueError(
                f"The same loss object '{name}' is given twice. Give it once "
                "with twice the weight, or construct two."
            )
        result[name] = loss
    return result


def _check_task(task, losses, outputs):
    """Raises for losses of a task that the student does not have."""
    if outputs is not None and task not in outputs:
        raise ValueError(
            f"distillation_losses['{task}'] is a list, which is for a task: an "
            f"output of the student. Its outputs are {list(outputs)}."
        )
    if isinstance(losses, (list, tuple)) and not losses:
        raise ValueError(
            f"distillation_losses['{task}'] must hold at least one loss. "
            f"Received: {losses!r}"
        )


def nested_by_task(values, losses):
    """Returns a dict by name of loss as the user gives it: those of a task as
    a list under its name."""
    nested: dict = {}
    for name, value in values.items():
        task = losses[name].task
        if task is None:
            nested[name] = value
        else:
            nested.setdefault(task, []).append(value)
    return nested
