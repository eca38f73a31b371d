"""Data for networks whose states go on: streams in order, batches all full."""

import keras

from keras_distill._data.batch_fields import sample_spec
from keras_distill._data.batch_fields import unpacked
from keras_distill._data.sources import are_arrays
from keras_distill._data.sources import batch_size_of_arrays
from keras_distill._data.sources import leaves
from keras_distill._data.sparse import first_rows
from keras_distill._data.sparse import number_of_rows
from keras_distill._keras.dataset_order import shuffling
from keras_distill._keras.recurrent_states import is_stateful
from keras_distill._keras.recurrent_states import number_of_streams

_WAY_OUT = (
    " Row b of each batch must go on where row b of the batch before ended, as "
    "in kd.datasets.language_model. If the samples do not belong together, "
    "make the layers with stateful=False."
)


def check_streams(
    networks,
    data,
    replicas=1,
    batch_size=None,
    shuffle=False,
    validation_split=0,
    steps_per_epoch=None,
):
    """Raises for data that stateful networks cannot go through in order.

    Args:
        networks: A dict role -> network.
        data: The x of `fit` or `evaluate`.
        replicas: Among how many a batch is shared.
        batch_size: The argument of `fit` or `evaluate`.
        shuffle: The argument of `fit`.
        validation_split: The argument of `fit`.
        steps_per_epoch: The argument of `fit`.
    """
    import tensorflow as tf

    stateful = {k: net for k, net in networks.items() if is_stateful(net)}
    if not stateful or data is None:
        return
    check_same_number(stateful)
    role, network = next(iter(stateful.items()))
    who = f"The {role} '{network.name}' has stateful=True layers"
    if isinstance(data, tf.data.Dataset):
        check_order(data, who)
        rows = leaves(sample_spec(data).inputs)[0].shape[0]
        if rows is None:
            raise ValueError(
                f"{who}, so every batch must be full, and this dataset does "
                "not promise that: its batch size is not known. Use "
                ".batch(batch_size, drop_remainder=True); if all batches are "
                "full, say so with tf.ensure_shape in .map(...)."
            )
    elif isinstance(data, keras.utils.PyDataset):
        _check_not_shuffled(shuffle, who)
        x, *_ = keras.utils.unpack_x_y_sample_weight(data[0])
        rows = number_of_rows(leaves(unpacked(x).inputs)[0])
    elif are_arrays(unpacked(data).inputs):
        _check_not_shuffled(shuffle, who)
        rows = batch_size_of_arrays(
            unpacked(data).inputs, batch_size, steps_per_epoch
        )
        samples = number_of_rows(leaves(unpacked(data).inputs)[0])
        if validation_split:
            raise ValueError(
                f"{who}, and validation_split={validation_split} cuts the "
                "streams. Give validation_data=, streams of their own."
            )
        if samples % rows:
            raise ValueError(
                f"{who}, so every batch must be full. Received: arrays of "
                f"{samples} samples, in batches of {rows}. Leave the last "
                f"{samples % rows} out."
            )
    else:
        return
    check_rows(stateful, rows, replicas)


def check_same_number(networks):
    """Raises if networks are made for different numbers of streams."""
    numbers = {role: number_of_streams(net) for role, net in networks.items()}
    known = {role: n for role, n in numbers.items() if n is not None}
    if len(set(known.values())) > 1:
        raise ValueError(
            "Networks with stateful=True layers must be made for the same "
            f"batch size. Received: {known}. Make them again with one size, "
            "and set_weights."
        )


def check_order(dataset, who):
    """Raises if a `tf.data.Dataset` shuffles."""
    name = shuffling(dataset)
    if name is not None:
        raise ValueError(
            f"{who}, whose state goes on from batch to batch, and the dataset "
            f"is shuffled ({name}).{_WAY_OUT}"
        )


def check_rows(networks, rows, replicas=1):
    """Raises if a batch has other rows than the states have.

    Args:
        networks: A dict role -> stateful network.
        rows: Those of a global batch.
        replicas: Among how many it is shared.
    """
    for role, network in networks.items():
        streams = number_of_streams(network)
        if streams is None or rows == streams * replicas:
            continue
        shared = f" on each of {replicas} replicas" * (replicas > 1)
        raise ValueError(
            f"The states of the {role} '{network.name}' (stateful=True) are "
            f"made for {streams} streams{shared}, so batches must have "
            f"{streams * replicas} samples. Received: batches of {rows}. Make "
            f"the data with batch_size={streams * replicas}, or the network "
            "with another batch size."
        )


def of_one_replica(networks, structure, rows, replicas):
    """Cuts a batch of streams to those of one replica.

    Args:
        networks: A dict role -> network.
        structure: Arrays, and `None`s.
        rows: Those of the batch.
        replicas: Among how many it is shared.
    """
    if replicas == 1 or not any(map(is_stateful, networks.values())):
        return structure
    return keras.tree.map_structure(
        lambda a: None if a is None else first_rows(a, rows // replicas),
        structure,
    )


def _check_not_shuffled(shuffle, who):
    if shuffle:
        raise ValueError(
            f"{who}, whose state goes on from batch to batch, and fit shuffles "
            f"these data. Pass shuffle=False.{_WAY_OUT}"
        )
