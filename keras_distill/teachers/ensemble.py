"""Several networks as one."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_distill._arguments import checked_booleans
from keras_distill._arguments import checked_numbers
from keras_distill._keras.graph import producer
from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.heads import final_activation
from keras_distill._keras.layers import call_model
from keras_distill._keras.symbolic_pass import with_free_batch
from keras_distill._shapes import sizes_agree
from keras_distill.losses.values import look_like_probabilities
from keras_distill.taps.taps import Taps
from keras_distill.teachers.combination import mixed


@keras.saving.register_keras_serializable(package="keras_distill")
class Ensemble(keras.Model):
    """The mean of several classifiers' probabilities, as one Keras model.

        f(x) = log( sum_i w_i softmax(f_i(x)) ),   sum_i w_i = 1

    The logarithm makes the output logits again (their softmax is the mean), so
    that an ensemble teaches, evaluates and exports like any network.

    Args:
        models: Built `keras.Model`s with the same inputs and classes, whose
            heads give logits or softmax probabilities. They may be different
            networks, ensembles themselves, and have the same name.
        weights: One number per model, >= 0. Defaults to equal weights.
        probabilities: Whether a model gives probabilities, one bool per model.
            Defaults to what the last layer says. If that says nothing
            (subclassed models, an average of softmaxes), the model is run on
            some numbers.
        name: The name of the model.

    Input shapes:
        The inputs of the members.

    Returns:
        `(batch, ..., classes)` log-probabilities, float32.

    Raises:
        ValueError: If there are no models, their inputs or classes differ, a
            head is a sigmoid or has one unit (there is no softmax to average),
            or the weights do not fit. Subclassed models show their shapes only
            on data.

    Example:

    ```python
    teacher = kd.Ensemble([first, second, third])
    teacher.export("teacher.tflite", format="litert")
    ```

    Reference:
        Furlanello et al., "Born-Again Neural Networks", 2018 (ensembles of
        generations, the mean of their predictions).
    """

    def __init__(
        self,
        models: Sequence[keras.Model],
        weights: Sequence[float] | None = None,
        probabilities: Sequence[bool] | None = None,
        name: str = "ensemble",
    ):
        # Each member casts the inputs to its own policy.
        super().__init__(name=name, autocast=False)
        if not isinstance(models, (list, tuple)):
            raise TypeError(
                "models must be a list of built keras.Models. Received: "
                f"{models!r} of type {type(models).__name__}"
            )
        for model in models:
            if not isinstance(model, keras.Model) or not model.built:
                raise ValueError(
                    "models: Ensemble takes built keras.Models. Received: "
                    f"{model!r}"
                )
        if not models:
            raise ValueError("models: Ensemble needs at least one model.")
        if weights is None:
            weights = [1.0] * len(models)
        weights = checked_numbers("weights", weights, "[0, inf)")
        if len(weights) != len(models) or not sum(weights):
            raise ValueError(
                f"weights needs {len(models)} numbers >= 0, not all 0. "
                f"Received: {weights}"
            )
        if probabilities is not None:
            probabilities = checked_booleans(
                "probabilities", probabilities, len(models)
            )
        _check_members(models)
        if probabilities is None:
            probabilities = [gives_probabilities(model) for model in models]
        self.probabilities = list(probabilities)
        self.models = list(models)
        self.member_weights = [w / sum(weights) for w in weights]
        if self.inputs:
            # Called once, Keras knows the input shape: for `export`.
            self(with_free_batch(self.input))
        self.built = True

    # As of a Functional model: `kd.export`, `kd.cost` and losses learn from
    # them what goes in and out, before there is data.

    @property
    def inputs(self):
        """The symbolic inputs of the first member that has some, or `None`."""
        inputs = (getattr(model, "inputs", None) for model in self.models)
        return next(filter(None, inputs), None)

    @property
    def input(self):
        """These inputs as a member takes them: a tensor, a list or a dict."""
        for model in self.models:
            if getattr(model, "inputs", None):
                return symbolic_inputs(model)
        return None

    def build(self, input_shape=None):
        # The members are built.
        self.built = True

    def call(self, inputs, training=None):
        probabilities = []
        for model, is_softmax in zip(self.models, self.probabilities):
            output = ops.cast(call_model(model, inputs, training), "float32")
            if output.shape[-1] == 1:
                raise _one_unit(model, "one unit")
            if not is_softmax:
                output = ops.softmax(output, axis=-1)
            probabilities.append(output)
        return mixed(probabilities, self.member_weights)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "models": [serialize(model) for model in self.models],
            "weights": self.member_weights,
            "probabilities": self.probabilities,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        deserialize = keras.saving.deserialize_keras_object
        config["models"] = [deserialize(model) for model in config["models"]]
        return cls(**config)


def gives_probabilities(model):
    """Returns whether a built model ends in a softmax."""
    head = final_activation(model)
    if head is not None or not _may_hide_a_softmax(model):
        return head == "softmax"
    output = _of_some_numbers(model)
    return output is not None and look_like_probabilities(output, "softmax")


def _may_hide_a_softmax(model):
    if getattr(model, "is_black_box", False):
        return False  # It has looked at its output itself.
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return True
    last = producer(outputs[0]).operation
    return not isinstance(last, (keras.layers.Dense, keras.layers.Activation))


def _of_some_numbers(model):
    """Returns the model's output for some inputs of the shape it was built for.

    It is a NumPy array; `None` if the shape is not known or does not work.
    """
    shapes = (model.get_build_config() or {}).get("input_shape")
    if getattr(model, "inputs", None):
        symbols = symbolic_inputs(model)
    elif shapes is None or keras.tree.is_nested(shapes[0]):
        return None
    else:
        symbols = keras.KerasTensor(shapes)

    def numbers(symbol):
        shape = (4, *(size or 32 for size in symbol.shape[1:]))
        draw = np.random.default_rng(0).uniform(size=shape)
        return ops.convert_to_tensor(draw.astype(symbol.dtype))

    try:
        output = model(keras.tree.map_structure(numbers, symbols))
    except Exception:
        # The user's own `call` may take other numbers, or not one tensor.
        return None
    if keras.tree.is_nested(output) or len(output.shape) < 2:
        return None
    return ops.convert_to_numpy(ops.cast(output, "float32"))


def _check_members(models):
    """Raises unless all models have the same inputs and classes."""
    inputs, outputs = [], []
    for model in models:
        head = final_activation(model)
        shapes = Taps(model, []).shapes()
        if shapes is not None:
            structure = symbolic_inputs(model)
            inputs.append((model.name, _shapes(structure)))
            outputs.append((model.name, tuple(shapes[0])))
        if head == "sigmoid" or (shapes and shapes[0][-1] == 1):
            raise _one_unit(
                model, "a sigmoid" if head == "sigmoid" else "one unit"
            )
    if len({shape[-1] for _, shape in outputs}) > 1:
        raise ValueError(
            "The members of an ensemble must have the same classes. "
            f"Output shapes: {outputs}"
        )
    for name, shapes in inputs[1:]:
        if not _fit(inputs[0][1], shapes):
            raise ValueError(
                "The members of an ensemble must take the same inputs. "
                f"'{inputs[0][0]}' takes {inputs[0][1]}, '{name}' {shapes}."
            )


def _one_unit(model, end):
    return ValueError(
        "Ensemble averages the softmax probabilities of two classes or more. "
        f"'{model.name}' ends in {end}."
    )


def _shapes(structure):
    """Returns a dict input name (or place) -> shape without the batch axis."""
    if not isinstance(structure, dict):
        structure = dict(enumerate(keras.tree.flatten(structure)))
    return {key: tuple(tensor.shape[1:]) for key, tensor in structure.items()}


def _fit(some, others):
    return some.keys() == others.keys() and all(
        sizes_agree(shape, others[key]) for key, shape in some.items()
    )
