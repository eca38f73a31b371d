"""What Keras's optimizers keep private."""


def steps_taken(optimizer):
    """By the optimizer, those that only accumulated a gradient included: what
    Keras's learning-rate schedules go by."""
    return optimizers_in(optimizer)[0]._iterations


def optimizers_in(optimizer):
    """Without loss scaling, and a `MultiOptimizer` with its parts."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return [inner, *getattr(inner, "optimizers", [])]
