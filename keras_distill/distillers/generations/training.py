"""How one generation is trained, the same way for each."""

import inspect
from typing import Any
from typing import NamedTuple

import keras

from keras_distill._arguments import checked_integer
from keras_distill._keras.cloning import clone_from_config
from keras_distill._training.proximal import proximal_layers
from keras_distill.callbacks.proximal_steps import ProximalSteps
from keras_distill.distillers import checks
from keras_distill.distillers.distiller import Distiller
from keras_distill.distillers.generations.directory import as_json
from keras_distill.distillers.generations.networks import TRAINING
from keras_distill.distillers.generations.networks import set_seeds
from keras_distill.distillers.generations.supervised_model import (
    SupervisedModel,
)
from keras_distill.losses.keras_losses import as_distillation_losses
from keras_distill.losses.keras_losses import nested_by_task

OPTIONS = {
    "distiller_options": {
        "distillation_losses",
        "distillation_loss_weights",
        "alpha",
        "teacher_dtype",
        "teacher_batch_size",
    },
    "compile_options": set(inspect.signature(keras.Model.compile).parameters)
    - {"self"},
    "fit_options": set(inspect.signature(keras.Model.fit).parameters)
    - {"self", "x", "y", "initial_epoch", "validation_split"},
}
# Arguments of `fit` that `evaluate` takes too, under another name.
_OF_EVALUATION = {
    "validation_steps": "steps",
    "validation_batch_size": "batch_size",
}
# Arguments of `fit` that change no weight.
_WITHOUT_EFFECT = ("callbacks", "epochs", "validation_data", "verbose")


class Training(NamedTuple):
    """The arguments of `kd.born_again` that say how to train.

    Attributes:
        dataset: As given.
        distiller_options: Arguments of `kd.Distiller`, by name.
        compile_options: Arguments of `compile`, by name.
        fit_options: Arguments of `fit`, by name.
        seed: As given.
    """

    dataset: Any
    distiller_options: dict[str, Any]
    compile_options: dict[str, Any]
    fit_options: dict[str, Any]
    seed: int

    @property
    def epochs(self):
        return self.fit_options.get("epochs", 1)

    @property
    def verbose(self):
        return self.fit_options.get("verbose", "auto")

    @property
    def validation_data(self):
        return self.fit_options.get("validation_data")

    @property
    def loss(self):
        return self.compile_options.get("loss")

    def check(self, from_labels):
        """Raises for arguments that cannot be right.

        Args:
            from_labels: Whether generation 0 is trained, without a teacher.
        """
        for argument in OPTIONS:
            _check_names(argument, getattr(self, argument))
        checked_integer("epochs", self.epochs)
        checked_integer("seed", self.seed, least=0)
        measures = ("loss", "metrics", "weighted_metrics")
        if self.validation_data is not None and not any(
            self.compile_options.get(name) is not None for name in measures
        ):
            raise ValueError(
                "validation_data is given, but neither a loss nor metrics to "
                "measure on it. Add compile_options={'metrics': "
                "['accuracy']}, or leave validation_data out."
            )
        if from_labels and self.loss is None:
            raise ValueError(
                "Without a teacher, generation 0 is trained from labels and "
                "needs a loss: compile_options={'loss': keras.losses."
                "SparseCategoricalCrossentropy(from_logits=True)}. Or pass "
                "teacher=."
            )
        callbacks = self.fit_options.get("callbacks")
        if callbacks is not None and not callable(callbacks):
            raise TypeError(
                "callbacks must be a function of the number of the generation "
                "that returns new ones: callbacks=lambda generation: [...]. "
                f"Received: {callbacks!r}"
            )

    def data(self, generation, first_epoch=0):
        """Returns the data of `fit`: the batches from this epoch on."""
        import tensorflow as tf

        data = self.dataset
        if self._data_is_function:
            data = data(generation, first_epoch)
        if not isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
            raise TypeError(
                "dataset must be a tf.data.Dataset or PyDataset of batches, or "
                "a function (generation, first_epoch) that returns one. For "
                "arrays use kd.datasets.batches(x, y, batch_size=32, seed=0) "
                f"with steps_per_epoch=. Received: {type(data).__name__}"
            )
        if isinstance(data, tf.data.Dataset):
            steps = self.fit_options.get("steps_per_epoch")
            if (
                steps is None
                and data.cardinality() == tf.data.INFINITE_CARDINALITY
            ):
                raise ValueError(
                    "The dataset has no end. Pass steps_per_epoch=, such as "
                    "kd.datasets.steps_per_epoch(samples, batch_size)."
                )
            # Keras starts data again that ends with the epoch. Other data
            # goes on from epoch to epoch.
            if steps is not None and data.cardinality() != steps:
                data = data if self._data_is_function else data.repeat()
        return data

    def first_batch(self, generation):
        data = self.data(generation)
        return data[0] if hasattr(data, "num_batches") else next(iter(data))

    def compiled(self, network, teacher):
        """Returns what is fitted: a `Distiller`, or a `SupervisedModel` if
        there is no teacher."""
        options = self.new_compile_options()
        options["optimizer"] = self.new_optimizer()
        if teacher is None:
            model = SupervisedModel(network)
        else:
            losses = {"distillation_losses": self.new_losses()}
            model = Distiller(
                student=network,
                teacher=teacher,
                **{**self.distiller_options, **losses},
            )
            if model._networks().deployment is not None:
                raise ValueError(
                    "This loss deploys the teacher's classifier on top of the "
                    "student, but born_again passes only the student on. Take "
                    "the classifier over instead: shared_layers=[its name]."
                )
        model.compile(**options)
        return model

    def fit(self, generation, network, teacher, folder=None):
        """Trains one generation.

        Args:
            generation: Its number.
            network: Its network.
            teacher: A `keras.Model`, or `None`.
            folder: A `Directory`, to keep the state after every epoch.

        Returns:
            The history, a dict name -> numbers by epoch.
        """
        set_seeds(self.seed, generation, TRAINING)
        model = self.compiled(network, teacher)
        options = dict(self.fit_options)
        make_callbacks = options.pop("callbacks", None)
        callbacks = list(make_callbacks(generation)) if make_callbacks else []
        if teacher is None and proximal_layers(network):
            callbacks.insert(0, ProximalSteps())  # as a Distiller takes them
        first_epoch = 0
        if folder is not None:
            backup = folder.backup(generation)
            callbacks.append(folder.tensorboard(generation))
            backup.accompany(callbacks)
            callbacks.append(backup)
            if self._data_is_function:
                first_epoch = backup.initial_epoch
        data = self.data(generation, first_epoch)
        if not isinstance(data, keras.utils.PyDataset):
            options.setdefault("shuffle", False)  # Keras warns of its default
        history = model.fit(
            data, callbacks=callbacks, initial_epoch=first_epoch, **options
        ).history
        return {name: [*map(as_json, history[name])] for name in history}

    @property
    def _data_is_function(self):
        return callable(self.dataset) and not isinstance(
            self.dataset, keras.utils.PyDataset
        )

    def evaluate(self, network, role="student"):
        """Returns task loss and metrics on the validation data: a dict name ->
        number, or list for a metric that gives several."""
        if self.validation_data is None:
            return {}
        model = SupervisedModel(network, role)
        model.compile(**self.new_compile_options())
        options = {
            there: self.fit_options[here]
            for here, there in _OF_EVALUATION.items()
            if here in self.fit_options
        }
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
            self.validation_data
        )
        results = model.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            verbose=0,
            return_dict=True,
            **options,
        )
        if self.loss is None:
            results.pop("loss", None)
        return {name: as_json(value) for name, value in results.items()}

    # Each generation gets new optimizers, losses and metrics.

    def new_optimizer(self):
        optimizer = self.compile_options["optimizer"]
        if isinstance(optimizer, keras.optimizers.Optimizer):
            if optimizer.built:
                raise ValueError(
                    "The optimizer has been used already. born_again makes a "
                    "new one of its configuration for each generation: pass a "
                    "new optimizer, or a function that returns one."
                )
            return clone_from_config(optimizer)
        if callable(optimizer):
            optimizer = optimizer()
        return keras.optimizers.get(optimizer)

    def new_losses(self):
        losses = self.distiller_options["distillation_losses"]
        losses = as_distillation_losses(losses)
        new = {name: clone_from_config(loss) for name, loss in losses.items()}
        return nested_by_task(new, losses)

    def new_compile_options(self):
        """The arguments of `compile` without the optimizer."""
        options = dict(self.compile_options)
        del options["optimizer"]
        for name in ("metrics", "weighted_metrics"):
            options[name] = keras.tree.map_structure(
                clone_from_config, options.get(name)
            )
        return options

    def settings(self):
        """Returns all that decides the weights of a generation, as JSON."""
        losses = as_distillation_losses(
            self.distiller_options["distillation_losses"]
        )
        options = {**self.distiller_options, **self.compile_options}
        options["distillation_loss_weights"] = checks.loss_weights(
            options.get("distillation_loss_weights"), losses
        )
        options["distillation_losses"] = losses
        options["optimizer"] = self.new_optimizer()
        dataset = None
        if not callable(self.dataset):
            dataset = str(getattr(self.dataset, "element_spec", None))
        return {
            **_described(options),
            "dataset": dataset,
            "epochs": self.epochs,
            "fit_options": {
                name: _described(value)
                for name, value in self.fit_options.items()
                if name not in _WITHOUT_EFFECT
            },
            "seed": self.seed,
        }


def _check_names(argument, options):
    """Raises for options that the call behind `argument` does not take."""
    for name in sorted(set(options) - OPTIONS[argument]):
        elsewhere = [k for k, names in OPTIONS.items() if name in names]
        fix = f"It takes {sorted(OPTIONS[argument])}."
        if elsewhere == ["fit_options"]:
            fix = f"Pass {name}= to born_again itself."
        elif elsewhere:
            fix = f"Pass it as {elsewhere[0]}={{'{name}': ...}}."
        if argument == "fit_options":
            argument = "born_again"
        raise TypeError(f"{argument} does not take '{name}'. {fix}")


def _described(setting):
    """A setting as JSON: its configuration, or the name of a function."""
    if hasattr(setting, "__qualname__"):
        return setting.__qualname__
    if isinstance(setting, dict):
        return {name: _described(value) for name, value in setting.items()}
    if isinstance(setting, (list, tuple)):
        return [_described(value) for value in setting]
    try:
        return _without_names(keras.saving.serialize_keras_object(setting))
    except Exception:  # This is only for comparing two settings.
        return repr(type(setting))


def _without_names(config):
    """Drops names: Keras numbers objects anew in every process."""
    if isinstance(config, dict):
        return {k: _without_names(v) for k, v in config.items() if k != "name"}
    if isinstance(config, (list, tuple)):
        return [_without_names(value) for value in config]
    return config
