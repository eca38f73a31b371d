"""The largest student of `mobile` that fits a budget.

All costs of a student grow with its width and with its depth. The search takes
the widest student that seems to fit, measures it, corrects the estimates by
what it measured, and goes on until the widest one is measured and fits: after
two or three students, as a rule.
"""

import bisect
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import keras

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_mapping
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_seed
from keras_distill._arguments import one_of
from keras_distill._progress import ProgressBar
from keras_distill.models.mobile import ACTIVATIONS
from keras_distill.models.mobile import filters_of
from keras_distill.models.mobile import sized_image
from keras_distill.models.mobile import stages_of
from keras_distill.models.mobile_costs import Costs

# Depth -> the narrowest width at which it is tried, in the order of trial:
# below a width of 0.5, depth pays less (examples/studies/mobile.py).
_NARROWEST = {3: 0.5, 2: 0.5, 1: 0.125}
_WIDEST_LAST_STAGE = 832
_STEPS_PER_DOUBLING = 8
_KEYS = ("kib", "ms", "macs")


class Fitted(NamedTuple):
    """A student that fits its budget, and what it was measured to cost.

    Attributes:
        model: The `keras.Model`, not trained.
        measured: A dict. `"kib"`: size of the TFLite file. `"ms"`: median time
            of one image. `"macs"`: multiply-accumulates.
        options: A dict of the `width`, `depth` and `activation` that
            `kd.models.mobile` makes this model of.
    """

    model: keras.Model
    measured: dict[str, float]
    options: dict[str, Any]


def mobile_within(
    budget: Mapping[str, float],
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    activation: str = "relu6",
    quantization: str | None = "int8",
    seed: int = 0,
    verbose: bool = True,
) -> Fitted:
    """Finds the largest `kd.models.mobile` that fits a budget.

    It is the widest student of depth 3 that fits; or of depth 2, if not even
    a width of 0.5 fits; or of depth 1. Each student that is tried becomes a
    TFLite file, which is measured; a budget of `"macs"` alone needs no file
    but the winner's. Students differ by about a fifth of their parameters
    from one to the next.

    Sizes are those of files as `kd.export.tflite` writes them, without
    `metadata` and `preprocessing`: leave room in the budget for these. Half a
    KiB holds the names of 40 classes. A new network's file is smaller than
    its file after training, because TFLite stores equal tensors once; what is
    measured here has other random numbers in every weight, as after training.

    Times are those of the LiteRT interpreter on this machine with one thread,
    not of a phone. They vary with what else the machine does. So a student is
    taken only if the slowest of 5 rounds of 20 runs, by its median, stays 10 %
    below the budget, and does so again at the end.

    Args:
        budget: A dict with any of `"kib"` (size of the file in KiB), `"ms"`
            (milliseconds for one image) and `"macs"` (multiply-accumulates,
            as `kd.cost.multiply_accumulates` counts them).
        input_shape: (height, width, channels) of images in [0, 1].
        classes: Number of logits.
        activation: As in `kd.models.mobile`. Defaults to `"relu6"`.
        quantization: As in `kd.export.tflite`. Defaults to `"int8"`.
        seed: Seed of the model's first weights. Defaults to 0.
        verbose: Whether to show progress and print what was found.

    Returns:
        A `kd.models.Fitted`: `model`, `measured`, `options`.

    Raises:
        TypeError: If `budget` is not a dict.
        ValueError: If an argument is not of its kind, or no student fits. The
            message names the smallest student and what it costs.

    Example:

    ```python
    student, measured, options = kd.models.mobile_within(
        {"kib": 30, "macs": 1e6}, (28, 28, 1), 10
    )
    print(measured["kib"], options)
    ```
    """
    from keras_distill.export.request import QUANTIZATIONS

    budget = checked_budget(budget)
    sized_image(input_shape, classes)
    one_of("activation", activation, ACTIVATIONS)
    one_of("quantization", quantization, QUANTIZATIONS)
    checked_seed(seed)
    checked_boolean("verbose", verbose)
    costs = Costs(budget, input_shape, classes, quantization)
    progress = ProgressBar(None, "student", verbose)
    try:
        ladders = _ladders(input_shape, activation)
        options, measured = _search(costs, ladders, progress)
    finally:
        progress.finish()
    model = costs.model(options)
    _initialize(model, seed)
    if verbose:
        print(
            f"mobile: width {options['width']}, depth {options['depth']}, "
            f"{model.count_params():,} parameters. {costs.text(measured)}."
        )
    return Fitted(model, measured, options)


def checked_budget(budget: Any) -> dict[str, float]:
    """Checks the argument `budget` of `mobile_within`, and returns a dict."""
    hint = 'any of "kib", "ms" and "macs"'
    checked_mapping("budget", budget, hint=hint)
    unknown = [key for key in budget if key not in _KEYS]
    if unknown or not budget:
        raise ValueError(
            f"budget must be a dict with {hint}. Received: {dict(budget)!r}"
        )
    return {
        key: checked_number(f'budget["{key}"]', value)
        for key, value in budget.items()
    }


def _ladders(input_shape, activation):
    """Returns lists of options, narrow to wide, one for each depth.

    Widths that give the same filters are left out.
    """
    stages = range(1, stages_of((None, *input_shape)) + 1)
    ladders = []
    for depth, narrowest in _NARROWEST.items():
        by_filters = {}
        for step in range(100):
            width = round(narrowest * 2 ** (step / _STEPS_PER_DOUBLING), 3)
            filters = tuple(filters_of(width, stage) for stage in stages)
            if filters[-1] > _WIDEST_LAST_STAGE:
                break
            options = {"width": width, "depth": depth, "activation": activation}
            by_filters.setdefault(filters, options)
        ladders.append(list(by_filters.values()))
    return ladders


def _search(costs, ladders, progress):
    """Returns the options of the largest student that fits, and its costs.

    Args:
        costs: The `Costs`.
        ladders: From `_ladders`.
        progress: A `ProgressBar` that counts the measured students.
    """
    fitting = [{} for _ in ladders]  # place -> measured
    too_large = [len(ladder) for ladder in ladders]

    def fits(number, place):
        if place >= too_large[number]:
            return False
        is_known = place <= max(fitting[number], default=-1)
        return is_known or costs.seem_within(ladders[number][place])

    while True:
        number, place = _largest(ladders, fits)
        options, before = ladders[number][place], fitting[number].get(place)
        if before and "ms" not in costs.budget:
            return options, before
        measured, within = costs.measure(options)
        progress.update(progress.current + 1)
        if within and before:
            return options, measured
        if within:
            fitting[number][place] = measured
        elif (number, place) == (len(ladders) - 1, 0):
            raise ValueError(_refusal(costs, options, measured))
        else:
            # So are all wider ones. It may have been within before: the
            # machine was faster then.
            too_large[number] = place
            fitting[number].pop(place, None)


def _largest(ladders, fits):
    """Returns the number of a ladder and the place of its widest that fits.

    It is the first ladder whose narrowest student fits. The last student of
    all is returned if none fits.
    """
    for number, ladder in enumerate(ladders):
        places = range(len(ladder))
        first_unfit = bisect.bisect_left(
            places, True, key=lambda place: not fits(number, place)
        )
        if first_unfit:
            return number, first_unfit - 1
    return len(ladders) - 1, 0


def _refusal(costs, options, measured):
    model = costs.model(options)
    return (
        f"No student is within budget={costs.budget}. The nearest is the "
        f"smallest, mobile(width={options['width']}, depth={options['depth']})"
        f" of {model.count_params():,} parameters: {costs.text(measured)}. "
        "Raise the budget, or take smaller images or fewer classes."
    )


def _initialize(model, seed):
    """Draws the kernels from a seed, as their layers do."""
    initializer = keras.initializers.HeNormal(keras.random.SeedGenerator(seed))
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(initializer(layer.kernel.shape))
