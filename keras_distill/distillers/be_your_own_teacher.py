"""`BeYourOwnTeacher`: a network whose deepest layers teach the shallow ones."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_string
from keras_distill._data.batch_fields import plain_batch
from keras_distill._keras.graph import call_outputs
from keras_distill._keras.graph import producer
from keras_distill._keras.graph import symbolic_output
from keras_distill._training.deployment import Deployment
from keras_distill.distillers import checks
from keras_distill.distillers.distiller import Distiller
from keras_distill.losses.own_layers.early_exits import EarlyExits
from keras_distill.losses.structures import as_list


@keras.saving.register_keras_serializable(package="keras_distill")
class BeYourOwnTeacher(Distiller):
    """Trains a network with exits at shallow layers, taught by its deepest.

        L = L_S + sum over exits of l_i + R      (l_i: `kd.losses.EarlyExits`)

    `L_S` is the loss that you give to `compile`, on the network's own output:
    labels alone teach the deepest classifier. Everything else works as in
    `kd.Distiller`. The logs show `exit_<k>_loss` and `exit_<k>_accuracy` for
    each exit.

    `deployable_student()` is the student without exits. `deployable_exits()`
    is one model with the logits of every exit, for a device that may stop
    early.

    Args:
        student: The `keras.Model` to train. Its output are logits.
        exits: Layers that get an exit, from the first on: a name or a list of
            names, with the syntax of taps. They give maps, before the pooling.
        alpha: As in `kd.losses.EarlyExits`.
        temperature: As in `kd.losses.EarlyExits`.
        feature_weight: As in `kd.losses.EarlyExits`.
        feature_layer_name: The deepest map, which the student pools. Defaults
            to the last map in the student's graph.
        output_layer_name: The layer that gives the student's logits. Defaults
            to the last layer of its graph. Name both for a subclassed student,
            which has no graph.
        views: As in `kd.Distiller`.
        name: Name of the model.

    Raises:
        TypeError, ValueError: At construction, for no exits, an exit that is
            listed twice or unknown, that has no positions or that comes after
            the deepest map, for a head of probabilities, or for numbers out of
            range.

    Example:

    ```python
    distiller = kd.BeYourOwnTeacher(student=student, exits=["act1"])
    distiller.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    distiller.fit(dataset, epochs=2, verbose=0)
    distiller.evaluate_exits(validation)  # {"exit_1": 0.31, "output": ...}
    distiller.deployable_exits().save("exits.keras")
    ```

    Reference: Zhang et al. 2019, "Be Your Own Teacher: Improve the Performance
    of Convolutional Neural Networks via Self Distillation", section 3.
    """

    def __init__(
        self,
        *,
        student: keras.Model,
        exits: str | Sequence[str],
        alpha: float = 0.3,
        temperature: float = 3.0,
        feature_weight: float = 0.03,
        feature_layer_name: str | None = None,
        output_layer_name: str | None = None,
        views: Any = None,
        name: str = "be_your_own_teacher",
    ) -> None:
        checks.check_student(student)
        loss: Any = exits  # A saved distiller gives the loss itself.
        if not isinstance(loss, EarlyExits):
            checked_string(
                "feature_layer_name", feature_layer_name, or_none=True
            )
            checked_string("output_layer_name", output_layer_name, or_none=True)
            names = _checked_exits(exits)
            deepest = feature_layer_name or _deepest_map(student)
            output = output_layer_name or _output_layer(student)
            _check_apart(names, deepest, output)
            loss = EarlyExits(
                student_layer_name=[*names, deepest, output],
                alpha=alpha,
                temperature=temperature,
                feature_weight=feature_weight,
                name="exit",
            )
        super().__init__(
            student=student,
            distillation_losses={"exit": loss},
            alpha=loss.alpha,
            views=views,
            name=name,
        )
        self._check_order()

    @property
    def exits(self) -> list[str]:
        """The layers of the exits, from the first on."""
        return list(self._exit_loss().student_layer_name[:-2])

    def _exit_loss(self):
        """The `kd.losses.EarlyExits` that holds the exits."""
        return self.distillation_losses["exit"]

    def objective(self, student_loss: Any, distillation_loss: Any) -> Any:
        return student_loss + distillation_loss

    def _check_compile(self, loss):
        if loss is None:
            raise ValueError(
                "compile() needs loss=...: the deepest classifier learns from "
                "labels alone, and teaches the exits. Received: loss=None."
            )

    def deployable_exits(self, ensemble: bool = False) -> keras.Model:
        """Returns one model that gives the logits of every exit.

        Args:
            ensemble: Whether it also gives `"ensemble"`, the mean of all
                logits (the authors' code leaves the first exit out of it).
                Defaults to `False`.

        Returns:
            A `keras.Model` of plain layers, which it shares with student and
            exits, with a dict of outputs: `"exit_1"`, ..., `"output"`. For a
            device that stops at an exit, export `keras.Model(model.input,
            model.output["exit_1"])`.

        Raises:
            ValueError: For a subclassed student, which has no graph.
        """
        checked_boolean("ensemble", ensemble)
        layers = self._networks().student_taps.layers
        model = Deployment(self._exit_loss()).model(self.student, layers)
        outputs = dict(model.output)
        if ensemble:
            average = keras.layers.Average(dtype="float32", name="ensemble")
            outputs["ensemble"] = average(list(outputs.values()))
        return keras.Model(
            model.input, outputs, name=f"{self.student.name}_exits"
        )

    def evaluate_exits(
        self, x: Any, y: Any = None, batch_size: int = 32
    ) -> dict[str, float]:
        """Measures the accuracy of every exit, of the output, and of the mean
        of all logits.

        Args:
            x: A dataset of batches `(x, y)`, seen as in `evaluate`, or inputs.
            y: Labels, sparse or one-hot, if `x` is not a dataset.
            batch_size: Batch size for arrays. Defaults to 32.

        Returns:
            A dict `"exit_1"`, ..., `"output"`, `"ensemble"` -> accuracy.
        """
        import tensorflow as tf

        checked_integer("batch_size", batch_size)
        if y is not None:
            x = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
        right: dict[str, int] = {}
        count = 0
        predict = tf.function(self._exit_classes)
        for batch in x:
            images, labels, _ = plain_batch(batch)
            labels = ops.convert_to_numpy(self.views.evaluation_labels(labels))
            if labels.ndim == 2:
                sparse = labels.shape[-1] == 1
                labels = labels[:, 0] if sparse else labels.argmax(axis=-1)
            for name, classes in predict(images).items():
                same = ops.convert_to_numpy(classes) == labels
                right[name] = right.get(name, 0) + int(same.sum())
            count += len(labels)
        if not count:
            raise ValueError("The data yields nothing, not a single batch.")
        return {name: total / count for name, total in right.items()}

    def _exit_classes(self, x):
        loss = self._exit_loss()
        outputs = self._networks().student_pass(self.views.evaluation(x), False)
        logits = loss.deployed_graph(outputs.select(loss.student_layer_name))
        logits = {k: ops.cast(z, "float32") for k, z in logits.items()}
        logits["ensemble"] = sum(logits.values()) / len(logits)
        return {k: ops.argmax(z, axis=-1) for k, z in logits.items()}

    def _check_order(self):
        """Raises if an exit does not lead to the deepest map."""
        *exits, deepest, _ = self._exit_loss().student_layer_name
        tapped = self._networks().student_taps.layers
        before = _tensors_before(
            symbolic_output(self.student, *tapped[deepest])
        )
        inside = {
            id(output)
            for layer in getattr(self.student, "layers", ())
            for output in call_outputs(layer)
        }
        for name in exits:
            tensor = symbolic_output(self.student, *tapped[name])
            # This graph does not show the layers of a nested network.
            if id(tensor) in inside and id(tensor) not in before:
                raise ValueError(
                    f"The exit '{name}' does not lead to the deepest map, "
                    f"'{deepest}': it comes after it, or lies beside it. Exits "
                    "come before the deepest map, which feature_layer_name= "
                    "names."
                )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the loss in place of the exits."""
        config = {
            "student": self.student,
            "exits": self._exit_loss(),
            "views": self.views,
            "name": self.name,
        }
        return keras.saving.serialize_keras_object(config)


def _checked_exits(exits):
    names = as_list(exits)
    if not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError(
            "exits must name one layer of the student or more, from the first "
            f"on. Received: {exits!r}"
        )
    if len(set(names)) != len(names):
        raise ValueError(f"exits lists a layer twice. Received: {exits!r}")
    return names


def _check_apart(exits, deepest, output):
    for name, what in ((deepest, "deepest map"), (output, "output")):
        if name in exits:
            raise ValueError(
                f"The exit '{name}' is the student's {what} itself, which "
                "teaches the exits. Exits come before the deepest map, "
                f"'{deepest}'; feature_layer_name= names another one."
            )


def _output_layer(student):
    found = None
    outputs = getattr(student, "outputs", None) or ()
    if len(outputs) == 1:
        found = producer(outputs[0]).operation
    if not isinstance(found, keras.layers.Layer):
        raise _not_found(student, "output_layer_name", "gives its logits")
    return found.name


def _deepest_map(student):
    name = _last_map(student)
    if name is None:
        raise _not_found(
            student, "feature_layer_name", "gives the map that it pools"
        )
    return name


def _last_map(model):
    """Path of the layer that gives the last map before the output."""
    outputs = getattr(model, "outputs", None) or ()
    tensor = outputs[0] if len(outputs) == 1 else None
    while tensor is not None:
        operation, inputs, _ = producer(tensor)
        layer = isinstance(operation, keras.layers.Layer)
        if len(tensor.shape) == 4:
            first = isinstance(operation, keras.layers.InputLayer)
            return operation.name if layer and not first else None
        if isinstance(operation, keras.Model):
            inner = _last_map(operation)
            return inner and f"{operation.name}/{inner}"
        tensor = inputs[0] if len(inputs) == 1 else None
    return None


def _not_found(student, argument, what):
    return ValueError(
        f"The graph of the student '{student.name}' does not show the layer "
        f"that {what}. Name it: {argument}=... (Operations such as `x + y` are "
        "not layers; use keras.layers.Add.)"
    )


def _tensors_before(tensor):
    """Ids of the tensors that this one is made of."""
    seen, todo = set(), [] if tensor is None else [tensor]
    while todo:
        for x in producer(todo.pop()).inputs:
            if id(x) not in seen:
                seen.add(id(x))
                todo.append(x)
    return seen
