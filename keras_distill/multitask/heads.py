"""One layer for the heads of all tasks."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_instance
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_mapping
from keras_distill.losses.ops.elementwise import at_least_float32
from keras_distill.multitask.structure import Structure


@keras.saving.register_keras_serializable(package="keras_distill")
class Heads(keras.layers.Layer):
    """The linear heads of several tasks, whose kernels share structure.

        logits_t = x W_t + b_t      W = [W_1, ..., W_T] of the structure

    Without structure it is one `Dense` per task. With a structure, tasks learn
    from each other, which helps if each has few samples and they are related;
    docs/multitask.md says which structure helps when.

    A structure is trained by the optimizer's step and a proximal step behind
    it, which makes singular values, entries or rows exactly 0. `kd.Distiller`
    takes it in every step in which the optimizer moves the weights, at its
    learning rate. In `keras.Model.fit` pass `kd.callbacks.ProximalSteps()`; in
    a loop of your own call `proximal_step(learning_rate)`. The step suits SGD.
    Adam scales every weight by its own rate, which a proximal step at one rate
    does not follow: it works, but its minimum is another.

    `kd.multitask.merged(model)` makes a model with one `Dense` per task.
    `deployable_student()`, `export` and `kd.export` do so by themselves.
    `kd.multitask.inspect(heads)` shows what was learned.

    Args:
        tasks: A dict name of a task -> number of its outputs.
        structure: A `FeatureTransformation`, `TaskClustering`,
            `ParameterDecomposition` or your own `kd.multitask.Structure`, or
            `None`. Defaults to `None`.
        use_bias: Whether each output has a bias, which no structure concerns.
            Defaults to `True`.
        **kwargs: Those of `keras.layers.Layer`.

    Input shapes:
        `(batch, ..., features)`.

    Returns:
        `call`: a dict name of a task -> logits `(batch, ..., units)`.

    Raises:
        ValueError: For an empty dict, numbers below 1, or a structure with
            one task, which has nothing to share.

    Example:

    ```python
    features = keras.Input((16,))
    heads = kd.multitask.Heads(
        {"shape": 4, "texture": 3},
        structure=kd.multitask.FeatureTransformation(strength=0.01),
    )
    student = keras.Model(features, heads(features))
    ```
    """

    def __init__(
        self,
        tasks: Mapping[str, int],
        structure: Structure | None = None,
        *,
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        hint = "name of a task -> number of its outputs"
        checked_mapping("tasks", tasks, hint=hint)
        if not tasks or not all(isinstance(t, str) and t for t in tasks):
            raise ValueError(
                f"tasks must be a dict, {hint}. Received: {tasks!r}"
            )
        self.tasks = {
            name: checked_integer(f"tasks[{name!r}]", units)
            for name, units in tasks.items()
        }
        checked_instance(
            "structure", structure, Structure, "kd.multitask.Structure"
        )
        if structure is not None and len(self.tasks) == 1:
            raise ValueError(
                "structure shares between tasks, and there is one task: "
                f"{self.tasks}. Leave structure out."
            )
        self.structure = structure
        self.use_bias = checked_boolean("use_bias", use_bias)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        features, columns = input_shape[-1], sum(self.tasks.values())
        if features is None:
            raise ValueError(
                f"The last axis of the input of '{self.name}' must be known. "
                f"Received: {tuple(input_shape)}"
            )
        structure = self._structure()
        structure.check(features, columns)
        # As independent layers start. Each draws the same whenever asked, and
        # parts made of one kernel agree.
        glorots = [keras.initializers.GlorotUniform() for _ in self.tasks]

        def start(name, dtype):
            blocks = [
                glorot((features, units), dtype="float32")
                for glorot, units in zip(glorots, self.tasks.values())
            ]
            kernel = ops.concatenate(blocks, axis=1)
            return ops.cast(structure.parts(kernel)[name], dtype)

        parts = structure.parts(ops.zeros((features, columns)))
        regularizers = structure.regularizers()
        self._parts = {
            name: self.add_weight(
                shape=tuple(value.shape),
                initializer=lambda shape, dtype, name=name: start(name, dtype),
                regularizer=regularizers.get(name),
                name=name,
            )
            for name, value in parts.items()
        }
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(columns,), initializer="zeros", name="bias"
            )

    def call(self, inputs: Any) -> dict[str, Any]:
        parts = {n: ops.convert_to_tensor(p) for n, p in self._parts.items()}
        logits = ops.matmul(inputs, self._structure().merge(parts))
        if self.bias is not None:
            logits = logits + self.bias
        return {t: logits[..., a:b] for t, (a, b) in self.columns().items()}

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        shape = tuple(input_shape)[:-1]
        return {task: (*shape, units) for task, units in self.tasks.items()}

    def compute_mask(self, inputs: Any, previous_mask: Any) -> dict[str, Any]:
        return {task: previous_mask for task in self.tasks}

    def proximal_step(self, learning_rate: Any) -> None:
        """Takes the proximal step of the structure.

        Args:
            learning_rate: The rate of the step of the optimizer before it.
        """
        values = self._structure().shrink(self._values(), learning_rate)
        for name, value in values.items():
            self._parts[name].assign(value)

    def penalty(self) -> Any:
        """Returns what the structure costs now, a scalar.

        The `loss` of training holds the smooth part of it only.
        """
        return self._structure().penalty(self._values())

    def columns(self) -> dict[str, tuple[int, int]]:
        """Returns the first column of each task, and the first behind it."""
        result, first = {}, 0
        for task, units in self.tasks.items():
            result[task] = first, first + units
            first += units
        return result

    def merged_kernel(self) -> Any:
        """Returns the kernel W, `(features, columns)`."""
        return self._structure().merge(self._values())

    def assign_kernel(self, kernel: Any, bias: Any = None) -> None:
        """Starts from given heads: the parts become those of their kernel.

        Args:
            kernel: `(features, columns)`, such as the `merged_kernel()` of
                heads without structure.
            bias: `(columns,)`, or `None` to leave it. Defaults to `None`.
        """
        self._check_built()
        expected = tuple(self.merged_kernel().shape)
        if tuple(ops.shape(kernel)) != expected:
            raise ValueError(
                f"kernel must be of shape {expected}. Received: "
                f"{tuple(ops.shape(kernel))}"
            )
        if bias is not None and self.bias is None:
            raise ValueError(
                f"bias cannot be assigned: '{self.name}' has use_bias=False."
            )
        parts = self._structure().parts(at_least_float32(kernel))
        for name, value in parts.items():
            self._parts[name].assign(value)
        if self.bias is not None and bias is not None:
            self.bias.assign(bias)

    def parts(self) -> dict[str, Any]:
        """Returns the trained parts of the kernel, name -> `keras.Variable`."""
        self._check_built()
        return dict(self._parts)

    def _structure(self):
        return self.structure or Structure()

    def _values(self):
        return {n: at_least_float32(p) for n, p in self.parts().items()}

    def _check_built(self):
        if not self.built:
            raise ValueError(
                f"'{self.name}' is not built: it has no weights yet. Call it "
                "on a batch, or `build(input_shape)`, first."
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "tasks": dict(self.tasks),
            "structure": keras.saving.serialize_keras_object(self.structure),
            "use_bias": self.use_bias,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Heads":
        structure = keras.saving.deserialize_keras_object(config["structure"])
        return cls(**{**config, "structure": structure})
