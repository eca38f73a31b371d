"""Where the training data of Keras's `fit` is, and how to move on in it.

Relies on, in Keras 3.12.4 and 3.15.1: `EpochIterator._enumerate_iterator` (a
generator of `(first_step, last_step, iterator)`, called once per epoch),
`EpochIterator.catch_stop_iteration`, `EpochIterator.steps_per_execution`.
"""

import collections
import itertools
import warnings


def pass_over(data, epochs):
    """Reads whole epochs as training does, and drops them.

    Orders that differ from epoch to epoch are then what they would be.

    Args:
        data: The `EpochIterator` of `fit`.
        epochs: How many.
    """
    with warnings.catch_warnings():
        # Keras said it when these epochs were trained.
        warnings.simplefilter("ignore")
        for _ in range(epochs):
            with data.catch_stop_iteration():
                for _, _, iterator in data:
                    # As in training, a step of fewer batches ends nothing.
                    if not _read(iterator, data.steps_per_execution):
                        raise StopIteration


def begin_within(data, batches):
    """Lets the next epoch begin after some of its batches.

    Args:
        data: The `EpochIterator` of `fit`.
        batches: How many batches to drop.
    """
    enumerate_epoch = data._enumerate_iterator

    def rest_of_epoch():
        del data._enumerate_iterator  # the next epoch is whole
        for first, last, iterator in enumerate_epoch():
            if first < batches:
                _read(iterator, last + 1 - first)
            else:
                yield first, last, iterator

    data._enumerate_iterator = rest_of_epoch


def _read(iterator, batches):
    """Reads up to so many batches, and returns whether there was one."""
    return bool(collections.deque(itertools.islice(iterator, batches), 1))
