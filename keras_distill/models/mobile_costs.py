"""What students of `mobile` cost: first an estimate, then measured."""

import numpy as np

from keras_distill.cost import multiply_accumulates
from keras_distill.models.mobile import kernels_of
from keras_distill.models.mobile import mobile

_BYTES_PER_WEIGHT = {None: 4, "float16": 2}
# A bias, and a scale and a zero point of the bias and of the kernel.
_BYTES_PER_FILTER = {"int8": 28, "int16x8": 32}
# Operators, tensors, names, and what `kd.export.tflite` notes.
_BYTES_PER_LAYER = 1000
_FIRST_MS_PER_MAC = 1e-7
# Notes hold the ranges and scales of the data, in more or fewer digits.
_SPARE_KIB = 0.25
_SPARE_MS = 0.1
_ROUNDS, _RUNS = 5, 20


class Costs:
    """Estimates and measures what students of one kind cost.

    Each measured student improves the estimates of the others.

    Args:
        budget, input_shape, classes, quantization: As in `mobile_within`.
    """

    def __init__(self, budget, input_shape, classes, quantization):
        self.budget = dict(budget)
        self.input_shape = tuple(input_shape)
        self._classes = classes
        self._quantization = quantization
        self._random = np.random.default_rng(0)
        self._kib_factor = 1.0
        self._ms_per_mac = _FIRST_MS_PER_MAC

    def model(self, options):
        return mobile(self.input_shape, self._classes, **options)

    def seem_within(self, options):
        """Whether a student is within the budget, by the estimate."""
        macs, kib = self._estimate(options)
        return self._are_within(
            macs, kib * self._kib_factor, macs * self._ms_per_mac
        )

    def measure(self, options):
        """Measures a student of which only the weights are made up.

        Returns:
            `(measured, within)`: a dict of all costs, and whether they are
            within the budget with something to spare.
        """
        model = self.model(options)
        _randomize(model, self._random)
        images = self._random.uniform(size=(8, *self.input_shape))
        times, size = _file_costs(
            model, self._quantization, images.astype("float32")
        )
        measured = {
            "kib": size / 1024,
            "ms": float(np.median(times)),
            "macs": multiply_accumulates(model),
        }
        macs, kib = self._estimate(options)
        slowest = float(np.median(times, axis=1).max())
        self._kib_factor = measured["kib"] / kib
        self._ms_per_mac = slowest / macs
        within = self._are_within(measured["macs"], measured["kib"], slowest)
        return measured, within

    def _estimate(self, options):
        """Returns multiply-accumulates and KiB."""
        kernels = list(
            kernels_of(
                (None, *self.input_shape),
                self._classes,
                options["width"],
                options["depth"],
            )
        )
        macs = sum(weights * positions for weights, _, positions in kernels)
        size = _BYTES_PER_LAYER + sum(
            weights * _BYTES_PER_WEIGHT.get(self._quantization, 1)
            + filters * _BYTES_PER_FILTER.get(self._quantization, 4)
            + _BYTES_PER_LAYER
            for weights, filters, _ in kernels
        )
        return macs, size / 1024

    def _are_within(self, macs, kib, slowest):
        costs = {
            "macs": macs,
            "kib": kib + _SPARE_KIB,
            "ms": slowest / (1 - _SPARE_MS),
        }
        return all(costs[key] <= limit for key, limit in self.budget.items())

    def text(self, measured):
        """Says what a student costs, and what the budget is."""
        kind = self._quantization or "float32"
        values = {
            "kib": f"{measured['kib']:.1f} KiB ({kind})",
            "ms": f"{measured['ms']:.3g} ms with LiteRT on one thread of this "
            "machine",
            "macs": f"{measured['macs']:,} multiply-accumulates",
        }
        limits = {k: f" of {limit:,.10g}" for k, limit in self.budget.items()}
        return ", ".join(
            value + limits.get(key, "") for key, value in values.items()
        )


def _randomize(model, random):
    """Gives all weights random values, as after training.

    Weights that are equal, such as the zeros of a new network, are stored once
    in a file.
    """
    for weight in model.weights:
        values = random.normal(0.0, 0.1, weight.shape)
        if weight.name in ("gamma", "moving_variance"):
            values = np.exp(values)
        weight.assign(values)


def _file_costs(model, quantization, images):
    """Returns milliseconds `(rounds, runs)` and bytes of a model's file."""
    from keras_distill.export import load
    from keras_distill.export import quiet
    from keras_distill.export.request import ExportRequest
    from keras_distill.export.temporary import temporary_folder
    from keras_distill.export.writing import write

    with temporary_folder("keras_distill-") as folder:
        request = ExportRequest(
            model,
            folder / "student.tflite",
            quantization=quantization,
            representative_dataset=images,
        )
        with quiet.without_native_log(), quiet.without_python_log():
            # A child process would import TensorFlow for every student.
            write(request, verbose=False, in_child=False)
        file = load(request.filepath, num_threads=1)
        rounds = [
            file.measure_latency(images, runs=_RUNS) for _ in range(_ROUNDS)
        ]
        return np.array(rounds), file.size_in_bytes
