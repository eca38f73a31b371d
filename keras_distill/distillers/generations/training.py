"""How one generation is trained, the same way for each."""

from typing import Any
from typing import NamedTuple

import keras

from keras_distill._arguments import checked_integer
from keras_distill._keras.cloning import clone_from_config
from keras_distill.distillers import checks
from keras_distill.distillers.distiller import Distiller
from keras_distill.distillers.generations.backup import plain
from keras_distill.distillers.generations.networks import TRAINING
from keras_distill.distillers.generations.networks import set_seeds
from keras_distill.distillers.generations.supervised_model import (
    SupervisedModel,
)
from keras_distill.losses.keras_losses import as_distillation_losses

# Arguments of `fit` that `evaluate` takes too, under another name.
_OF_EVALUATION = {
    "validation_steps": "steps",
    "validation_batch_size": "batch_size",
}
_OWN_OPTIONS = ("x", "y", "initial_epoch", "validation_split")


class Training(NamedTuple):
    """The arguments of `kd.born_again` that say how to train."""

    dataset: Any
    distillation_losses: Any
    distillation_loss_weights: Any
    alpha: Any
    optimizer: Any
    loss: Any
    metrics: Any
    epochs: int
    validation_data: Any
    callbacks: Any
    seed: int
    verbose: Any
    fit_options: dict

    def check(self, plain):
        """Raises for arguments that cannot be right.

        Args:
            plain: Whether a network is trained without a teacher.
        """
        checked_integer("epochs", self.epochs)
        given = sorted(set(self.fit_options) & set(_OWN_OPTIONS))
        if given:
            raise TypeError(
                f"born_again does not take {given}. It takes the data as one "
                "tf.data.Dataset or PyDataset, and begins every generation at "
                "its first epoch, or where `directory` says."
            )
        checked_integer("seed", self.seed, least=0)
        if self.validation_data is not None and not self._measures:
            raise ValueError(
                "validation_data is given, but neither loss= nor metrics= to "
                "measure on it: give metrics=['accuracy'], or leave it out."
            )
        if plain and self.loss is None:
            raise ValueError(
                "Without a teacher, generation 0 is trained from labels and "
                "needs a loss: loss=keras.losses."
                "SparseCategoricalCrossentropy(from_logits=True). Or give "
                "teacher=."
            )
        if self.callbacks is not None and not callable(self.callbacks):
            raise TypeError(
                "callbacks must be a function of the number of the generation "
                "that returns new ones: callbacks=lambda generation: [...]. "
                f"Received: {self.callbacks!r}"
            )

    @property
    def _measures(self):
        return self.loss is not None or self.metrics is not None

    def data(self, generation, first_epoch=0):
        """What `fit` gets: the batches from this epoch on."""
        import tensorflow as tf

        data = self.dataset
        own = callable(data) and not isinstance(data, keras.utils.PyDataset)
        if own:
            data = data(generation, first_epoch)
        if not isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
            raise TypeError(
                "dataset must be a tf.data.Dataset or PyDataset of batches, or "
                "a function (generation, first_epoch) that returns one. For "
                "arrays: kd.datasets.batches(x, y, batch_size=32, seed=0) "
                f"with steps_per_epoch=. Received: {type(data).__name__}"
            )
        if isinstance(data, tf.data.Dataset):
            steps = self.fit_options.get("steps_per_epoch")
            if (
                steps is None
                and data.cardinality() == tf.data.INFINITE_CARDINALITY
            ):
                raise ValueError(
                    "The dataset has no end: give steps_per_epoch=, such as "
                    "kd.datasets.steps_per_epoch(samples, batch_size)."
                )
            # Keras begins data anew that ends with the epoch. Other data
            # goes on from epoch to epoch, past what was seen before.
            if steps is not None and data.cardinality() != steps and not own:
                data = data.repeat()
                if first_epoch:
                    data = data.skip(steps * first_epoch)
        return data

    def first_batch(self, generation):
        data = self.data(generation)
        return data[0] if hasattr(data, "num_batches") else next(iter(data))

    def compiled(self, network, teacher):
        """What is fitted: a `Distiller`, or a `SupervisedModel` if there is
        no teacher."""
        arguments = {
            "optimizer": self.new_optimizer(),
            "loss": self.loss,
            "metrics": self.new_metrics(),
        }
        if teacher is None:
            model = SupervisedModel(network)
        else:
            model = Distiller(
                student=network,
                teacher=teacher,
                distillation_losses=self.new_losses(),
                distillation_loss_weights=self.distillation_loss_weights,
                alpha=self.alpha,
            )
            if model._networks().deployment is not None:
                raise ValueError(
                    "A loss that puts the teacher's classifier behind the "
                    "student deploys more than the student, and born_again "
                    "passes on the student alone. Take the classifier over "
                    "instead: shared_layers=[its name]."
                )
        model.compile(**arguments)
        return model

    def fit(self, generation, network, teacher, backup=None):
        """Trains one generation.

        Args:
            generation: Its number.
            network: Its network.
            teacher: A `keras.Model`, or `None`.
            backup: A `Backup`, if the state of every epoch is to be kept.

        Returns:
            The history, a dict name -> numbers by epoch.
        """
        set_seeds(self.seed, generation, TRAINING)
        model = self.compiled(network, teacher)
        callbacks = list(self.callbacks(generation)) if self.callbacks else []
        first_epoch, before = 0, {}
        if backup is not None:
            callbacks += backup.callbacks()
            first_epoch = backup.epochs_done
            before = {name: list(h) for name, h in backup.history.items()}
        data = self.data(generation, first_epoch)
        options = dict(self.fit_options)
        if not isinstance(data, keras.utils.PyDataset):
            options.setdefault("shuffle", False)  # Keras warns of its default
        history = model.fit(
            data,
            epochs=self.epochs,
            initial_epoch=first_epoch,
            validation_data=self.validation_data,
            callbacks=callbacks,
            verbose=self.verbose,
            **options,
        ).history
        names = dict.fromkeys([*before, *history])
        return {
            name: [*before.get(name, []), *map(plain, history.get(name, []))]
            for name in names
        }

    def evaluate(self, network, role="student"):
        """Task loss and metrics on the validation data: name -> number,
        or a list of them for metrics that give several."""
        if self.validation_data is None:
            return {}
        model = SupervisedModel(network, role)
        model.compile(loss=self.loss, metrics=self.new_metrics())
        data = self.validation_data
        options = {
            there: self.fit_options[here]
            for here, there in _OF_EVALUATION.items()
            if here in self.fit_options
        }
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        found = model.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            verbose=0,
            return_dict=True,
            **options,
        )
        if self.loss is None:
            found.pop("loss", None)
        return {name: plain(value) for name, value in found.items()}

    # What belongs to one generation is made anew for each.

    def new_optimizer(self):
        optimizer = self.optimizer
        if isinstance(optimizer, keras.optimizers.Optimizer):
            if optimizer.built:
                raise ValueError(
                    "The optimizer has been used already. born_again makes a "
                    "new one of its configuration for each generation: give a "
                    "new optimizer, or a function that returns one."
                )
            return clone_from_config(optimizer)
        if callable(optimizer):
            optimizer = optimizer()
        return keras.optimizers.get(optimizer)

    def new_losses(self):
        losses = as_distillation_losses(self.distillation_losses)
        return {name: clone_from_config(loss) for name, loss in losses.items()}

    def new_metrics(self):
        return keras.tree.map_structure(clone_from_config, self.metrics)

    def settings(self):
        """What decides the weights of a generation, as JSON knows it."""
        losses = as_distillation_losses(self.distillation_losses)
        spec = None
        if not callable(self.dataset):
            spec = str(getattr(self.dataset, "element_spec", None))
        return {
            "alpha": _described(self.alpha),
            "dataset": spec,
            "distillation_loss_weights": checks.loss_weights(
                self.distillation_loss_weights, losses
            ),
            "distillation_losses": {
                name: _described(loss) for name, loss in losses.items()
            },
            "epochs": self.epochs,
            "fit_options": {
                name: _described(value)
                for name, value in self.fit_options.items()
            },
            "loss": _described(self.loss),
            "metrics": keras.tree.map_structure(_described, self.metrics),
            "optimizer": _described(self.new_optimizer()),
            "seed": self.seed,
        }


def _described(thing):
    """What a setting is, as JSON: a configuration, or a function's name."""
    if hasattr(thing, "__qualname__"):
        return thing.__qualname__
    try:
        return _without_names(keras.saving.serialize_keras_object(thing))
    except Exception:  # it is for the comparison of two settings only
        return repr(type(thing))


def _without_names(config):
    """Keras numbers objects anew in every process."""
    if isinstance(config, dict):
        return {k: _without_names(v) for k, v in config.items() if k != "name"}
    if isinstance(config, (list, tuple)):
        return [_without_names(value) for value in config]
    return config
