"""What Keras's optimizers keep private: their steps, and what an update does.

Relies on, in Keras 3.12.4 and 3.15.1: `Optimizer._iterations`,
`Optimizer._trainable_variables`, `Optimizer._get_variable_index`,
`Optimizer._accumulated_gradients`, `Optimizer._clip_gradients`,
`Optimizer._apply_weight_decay`, `Optimizer._use_weight_decay`,
`Optimizer._backend_apply_gradients`,
`Optimizer._backend_update_step`, `Optimizer._all_reduce_sum_gradients`,
`Optimizer._update_model_variables_moving_average`,
`Optimizer._overwrite_model_variables_with_average_value`.
"""

import contextlib

from keras_distill._keras.method_patching import intercepted


def steps_taken(optimizer):
    """The number of steps, as Keras's learning-rate schedules count them.

    Steps that only accumulate a gradient count too.
    """
    return optimizers_in(optimizer)[0]._iterations


def optimizers_in(optimizer):
    """The optimizer without loss scaling, and the parts of a
    `MultiOptimizer`."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return [inner, *getattr(inner, "optimizers", [])]


def optimizer_of(optimizer, variable):
    """The optimizer that moves a variable: its rate, and its steps.

    Args:
        optimizer: A built Keras optimizer, with loss scaling or without. Of a
            `MultiOptimizer` it is a part.
        variable: A variable that it trains.
    """
    optimizer = optimizers_in(optimizer)[0]
    if not hasattr(optimizer, "optimizers"):
        return optimizer
    return next(
        part
        for part in optimizer.optimizers
        if any(v is variable for v in part._trainable_variables)
    )


@contextlib.contextmanager
def updates_intercepted(optimizers, handler):
    """A context in which gradients are not summed over replicas, and `handler`
    updates the weights.

    Args:
        optimizers: Keras optimizers.
        handler: A function `(optimizer, method, gradients, variables)`, see
            `intercepted`.
    """

    def not_summed(optimizer, method, gradients_and_variables):
        return list(gradients_and_variables)

    # An optimizer with loss scaling updates in other threads.
    with (
        intercepted(
            optimizers,
            "_all_reduce_sum_gradients",
            not_summed,
            all_threads=True,
        ),
        intercepted(
            optimizers, "_backend_apply_gradients", handler, all_threads=True
        ),
    ):
        yield


def update(optimizer, gradients, variables):
    """Updates variables without accumulation and moving average."""
    gradients = optimizer._clip_gradients(gradients)
    optimizer._apply_weight_decay(variables)
    optimizer._backend_update_step(
        gradients, variables, optimizer.learning_rate
    )


def place_of(optimizer, variable):
    """The position of a variable among those that the optimizer trains."""
    return optimizer._get_variable_index(variable)


def decays(optimizer, variable):
    """Whether `exclude_from_weight_decay` leaves a variable its decay."""
    return optimizer._use_weight_decay(variable)


def accumulators(optimizer, variables):
    """The `tf.Variable` for each variable that accumulates its gradient."""
    places = [place_of(optimizer, variable) for variable in variables]
    return [optimizer._accumulated_gradients[place].value for place in places]


def update_average(optimizer):
    """Updates the moving average of the weights."""
    optimizer._update_model_variables_moving_average(
        optimizer._trainable_variables
    )


def overwrite_with_average(optimizer):
    """Replaces the weights by their moving average."""
    optimizer._overwrite_model_variables_with_average_value(
        optimizer._trainable_variables
    )
