"""A network that teaches itself."""

import keras
from keras import ops

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

    `L_S` is the loss given to `compile`, on the network's own output: labels
    alone teach the deepest classifier. Everything else is as in a
    `kd.Distiller`, of which this is one with one loss and another sum. The logs
    have `exit_<k>_loss` and `exit_<k>_accuracy` per exit.

    What ships: `deployable_student()` is the student without exits;
    `deployable_exits()` one model with the logits of every exit, for a device
    that may stop early.

    Args:
        student: The `keras.Model` to train; its output are logits.
        exits: Layers that get an exit, from the first on: a name or a list of
            names, syntax as for taps. Maps, before the pooling.
        alpha, temperature, feature_weight: see `kd.losses.EarlyExits`.
        feature_layer_name: The deepest map, which the student pools. Defaults
            to the last map in the student's graph.
        output_layer_name: The layer that gives the student's logits. Defaults
            to the last one of its graph. A subclassed student has no graph:
            name both.
        views: As in `kd.Distiller`.
        name: Name of the model.

    Raises:
        TypeError, ValueError: at construction, for no exits, an exit listed
            twice or unknown, one without positions, one behind the deepest
            map, a head of probabilities, or numbers out of range.

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
        student,
        exits,
        alpha=0.3,
        temperature=3.0,
        feature_weight=0.03,
        feature_layer_name=None,
        output_layer_name=None,
        views=None,
        name="be_your_own_teacher",
    ):
        checks.check_student(student)
        loss = exits  # As a file gives it back.
        if not isinstance(loss, EarlyExits):
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
    def exits(self):
        """The layers of the exits, from the first on."""
        return list(self.exit_loss().student_layer_name[:-2])

    def exit_loss(self):
        """The `kd.losses.EarlyExits` that holds the exits."""
        return self.distillation_losses["exit"]

    def objective(self, student_loss, distillation_loss):
        return student_loss + distillation_loss

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        """Configures training, as `kd.Distiller.compile`; `loss` is needed."""
        if loss is None:
            raise ValueError(
                "compile() needs loss=...: the deepest classifier learns from "
                "labels alone, and teaches the exits. Received: loss=None."
            )
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def deployable_exits(self, ensemble=False):
        """One plain Keras model that gives the logits of every exit.

        Args:
            ensemble: Whether it also gives `"ensemble"`, the mean of all
                logits, as the authors' code (which leaves out the first exit).

        Returns:
            A `keras.Model` with a dict of outputs, `"exit_1"`, ...,
            `"output"`, on the layers of student and exits. A device that stops
            at an exit exports that part: `keras.Model(model.input,
            model.output["exit_1"])`.

        Raises:
            ValueError: for a subclassed student, which has no graph.
        """
        layers = self._networks().student_taps.layers
        model = Deployment(self.exit_loss()).model(self.student, layers)
        outputs = dict(model.output)
        if ensemble:
            average = keras.layers.Average(dtype="float32", name="ensemble")
            outputs["ensemble"] = average(list(outputs.values()))
        return keras.Model(
            model.input, outputs, name=f"{self.student.name}_exits"
        )

    def evaluate_exits(self, x, y=None, batch_size=32):
        """Accuracy of every exit, the output, and the mean of their logits.

        Args:
            x: A dataset of batches `(x, y)`, seen as in `evaluate`; or inputs.
            y: Labels, sparse or one-hot, if `x` is not a dataset.
            batch_size: Of arrays.

        Returns:
            A dict `"exit_1"`, ..., `"output"`, `"ensemble"` -> accuracy.
        """
        import tensorflow as tf

        if y is not None:
            x = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
        right, count = {}, 0
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
            raise ValueError("The data yields nothing: not one batch.")
        return {name: total / count for name, total in right.items()}

    def _exit_classes(self, x):
        loss = self.exit_loss()
        seen = self._networks().student_pass(self.views.evaluation(x), False)
        logits = loss.deployed_graph(seen.select(loss.student_layer_name))
        logits = {k: ops.cast(z, "float32") for k, z in logits.items()}
        logits["ensemble"] = sum(logits.values()) / len(logits)
        return {k: ops.argmax(z, axis=-1) for k, z in logits.items()}

    def _check_order(self):
        """An exit must be on the way to the deepest map."""
        *exits, deepest, _ = self.exit_loss().student_layer_name
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
            # One of a nested network is not to be seen in this graph.
            if id(tensor) in inside and id(tensor) not in before:
                raise ValueError(
                    f"The exit '{name}' does not lead to the deepest map, "
                    f"'{deepest}': it lies behind it, or beside it. Exits come "
                    "before the deepest map; feature_layer_name= names it."
                )

    def get_config(self):
        config = super().get_config()
        return {
            "student": config["student"],
            "exits": config["distillation_losses"]["exit"],
            "views": config["views"],
            "name": config["name"],
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in ("student", "exits", "views"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


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
                f"'{deepest}'; feature_layer_name= names another."
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
        f"The layer of the student '{student.name}' that {what} is not to be "
        f"seen in its graph. Name it: {argument}=... (Plain operations such as "
        "`x + y` are no layers; use keras.layers.Add.)"
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
