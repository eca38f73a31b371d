"""Strategies: which ones work, their scope, and several machines."""

import warnings

import keras
import tensorflow as tf

from keras_distill._keras.layers import batch_normalizations

MIRRORED = (
    tf.distribute.MirroredStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
)
# Callbacks that write files, which only the chief may do.
WRITERS = (
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.CSVLogger,
    keras.callbacks.TensorBoard,
)


def check_strategy(strategy):
    """Raises for a strategy under which a Distiller cannot train."""
    one = strategy.num_replicas_in_sync == 1
    unsupported = (
        tf.distribute.TPUStrategy,
        tf.distribute.ParameterServerStrategy,
        tf.distribute.experimental.CentralStorageStrategy,
    )
    if isinstance(strategy, unsupported) or not (
        one or isinstance(strategy, MIRRORED)
    ):
        raise ValueError(
            f"A Distiller does not train under {type(strategy).__name__}: the "
            "number of samples of a replica may change and be 0, while XLA "
            "for TPUs takes fixed shapes only; and Keras 3 has no parameter "
            "servers. Use tf.distribute.MirroredStrategy, or "
            "MultiWorkerMirroredStrategy for several machines."
        )


def first_of_replica(strategy, epoch_iterator):
    """Returns the first batch of the first replica of this process."""
    for _, _, iterator in epoch_iterator:
        return tf.nest.map_structure(
            lambda x: strategy.experimental_local_results(x)[0], next(iterator)
        )


def check_scope(network, role, strategy):
    """Raises unless a network was made in the strategy's scope.

    Args:
        network: A `keras.Model` or `None`. A model that is not built passes.
        role: `"student"` or `"teacher"`.
        strategy: The Distiller's.
    """
    for variable in network.weights if network is not None else ():
        if strategy.extended.variable_created_in_scope(variable.value):
            continue
        made = getattr(variable.value, "distribute_strategy", None)
        if made is None:
            where = "without a strategy"
        else:
            where = f"in the scope of another {type(made).__name__}"
        expected = f"in that of {type(strategy).__name__}"
        if strategy is tf.distribute.get_strategy():
            expected = "outside of any scope"
        raise ValueError(
            f"The {role} '{network.name}' was made {where}, the Distiller "
            f"{expected}: its weights would be copied "
            "to every replica in every step, if at all. Make or load both "
            "networks and the Distiller in one scope:\n"
            "    with strategy.scope():\n"
            "        teacher = keras.models.load_model(...)\n"
            "        student = ...\n"
            "        distiller = kd.Distiller(...)\n"
            "        distiller.compile(...)"
        )


def warn_of_local_statistics(student, strategy):
    """Warns of batch normalization that sees one replica's samples only."""
    if strategy.num_replicas_in_sync == 1:
        return
    names = [
        layer.name
        for layer in batch_normalizations(student)
        if not layer.synchronized
    ]
    if names:
        warnings.warn(
            f"{len(names)} batch normalizations of the student "
            f"('{student.name}'), such as '{names[0]}', see the samples of "
            "their own replica only, so training depends on the number of "
            "replicas. keras.layers.BatchNormalization(synchronized=True) "
            "sees the global batch.",
            stacklevel=2,
        )


def check_batch_size(samples, strategy):
    """Raises if there are fewer samples than replicas.

    Args:
        samples: The number of samples of the first global batch.
        strategy: The Distiller's.
    """
    replicas = strategy.num_replicas_in_sync
    if samples < replicas:
        raise ValueError(
            f"The global batch has {samples} samples for {replicas} replicas: "
            "some would never see a sample. Make batches of at least as many "
            "samples as there are replicas; each gets its share of a batch."
        )


# Several machines.


def is_chief(strategy):
    """Whether this process writes the files. On one machine it does."""
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or resolver.task_type is None:
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and not resolver.task_id


def callbacks_here(callbacks, strategy):
    """Returns the callbacks of `fit` that run in this process.

    The chief runs all. The others write no files: with a `BackupAndRestore`
    they only read what the chief wrote.

    Args:
        callbacks: A list of callbacks.
        strategy: The Distiller's.
    """
    if is_chief(strategy):
        return callbacks
    here = []
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            callback = RestoreOnly(callback)
        if not isinstance(callback, WRITERS):
            here.append(callback)
    return here


class RestoreOnly(keras.callbacks.Callback):
    """The reading half of a `BackupAndRestore`."""

    def __init__(self, backup):
        super().__init__()
        self._backup = backup

    def on_train_begin(self, logs=None):
        self._backup.set_model(self.model)
        self._backup.on_train_begin(logs)
