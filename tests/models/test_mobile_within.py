"""The largest student within a budget: the search, and real files."""

import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from exporting import exported

import keras_distill as kd
from keras_distill._progress import ProgressBar
from keras_distill.models.mobile_within import _initialize
from keras_distill.models.mobile_within import _ladders
from keras_distill.models.mobile_within import _search
from keras_distill.models.mobile_within import checked_budget

SHAPE = (8, 8, 1)
ROOT = pathlib.Path(__file__).parents[2]


class Costs:
    """Costs that are known: width times depth, in each unit.

    Args:
        limit: The budget.
        factor: What the estimates are wrong by, until something is measured.
        noise: What measured costs are multiplied by, one after the other.
    """

    def __init__(self, limit, factor=1.0, noise=()):
        self.limit, self.factor, self.noise = limit, factor, list(noise)
        self.budget = {"ms": limit} if noise else {"kib": limit}
        self.measured = []

    def seem_within(self, options):
        cost = options["width"] * options["depth"]
        return cost * self.factor <= self.limit

    def measure(self, options):
        cost = options["width"] * options["depth"]
        cost *= self.noise.pop(0) if self.noise else 1.0
        self.measured.append(cost)
        self.factor = 1.0
        return {"kib": cost}, cost <= self.limit

    def model(self, options):
        return kd.models.mobile(SHAPE, 10, **options)

    def text(self, measured):
        return f"{measured['kib']} KiB"


def search(costs):
    ladders = _ladders(SHAPE, "relu6")
    progress = ProgressBar(None, verbose=False)
    options, measured = _search(costs, ladders, progress)
    return options, measured


@pytest.mark.parametrize("factor", [0.05, 0.5, 1.0, 2.0, 20.0])
@pytest.mark.parametrize("limit, depth", [(9.0, 3), (1.4, 2), (0.9, 1)])
def test_finds_the_widest_whatever_the_estimate(limit, depth, factor):
    costs = Costs(limit, factor)
    options, measured = search(costs)
    assert options["depth"] == depth
    assert 0.8 * limit < measured["kib"] <= limit
    assert len(costs.measured) <= 3


def test_a_time_is_confirmed():
    costs = Costs(9.0, noise=[1.0, 1.0])
    options, _ = search(costs)
    assert costs.measured == [3 * options["width"]] * 2


def test_a_time_that_does_not_come_again_is_not_believed():
    quiet = search(Costs(9.0, noise=[1.0] * 9))[0]
    busy = search(Costs(9.0, noise=[1.0, 1.3, *[1.0] * 9]))[0]
    assert busy["width"] < quiet["width"]


def test_the_nearest_is_named():
    message = r"budget=.*0\.1.*width=0\.125, depth=1\) of \d+ .*0\.125 KiB"
    with pytest.raises(ValueError, match=message):
        search(Costs(0.1))


@pytest.mark.parametrize(
    "budget, message",
    [
        ({}, 'any of "kib", "ms" and "macs"'),
        ({"size": 3}, 'any of "kib", "ms" and "macs"'),
        ({"kib": -1}, r'budget\["kib"\] must be a positive'),
        ({"ms": "1"}, r'budget\["ms"\] must be a positive'),
    ],
)
def test_budgets_that_are_none(budget, message):
    with pytest.raises(ValueError, match=message):
        kd.models.mobile_within(budget, SHAPE, 10)
    given = types.MappingProxyType({"kib": np.int64(3)})
    assert repr(checked_budget(given)) == "{'kib': 3.0}"


@pytest.mark.slow
def test_real_files_are_within(tmp_path, capsys):
    budget = {"kib": 20, "macs": 1e6}
    found = kd.models.mobile_within(budget, SHAPE, 10, seed=3)
    printed = capsys.readouterr().out
    assert "KiB (int8) of 20" in printed
    assert all(found.measured[key] <= budget[key] for key in budget)
    assert 0.7 * 20 < found.measured["kib"]
    model = found.model
    assert found.measured["macs"] == kd.cost.multiply_accumulates(model)
    twin = kd.models.mobile(SHAPE, 10, **found.options)
    assert [w.shape for w in twin.weights] == [w.shape for w in model.weights]

    rng = np.random.default_rng(0)
    images = rng.uniform(size=(40, *SHAPE)).astype("float32")

    def size(name):
        return (
            exported(
                model,
                tmp_path / name,
                quantization="int8",
                representative_dataset=images,
            )
            .stat()
            .st_size
            / 1024
        )

    # Equal weights are stored once, so that a new network looks smaller.
    assert size("new.tflite") < 0.95 * found.measured["kib"]
    for weight in model.weights:
        weight.assign(np.abs(weight + rng.normal(0, 0.05, weight.shape)))
    assert abs(size("trained.tflite") - found.measured["kib"]) < 0.25


def test_the_seed_decides_the_weights():
    models = [kd.models.mobile(SHAPE, 10, depth=1) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1)):
        _initialize(model, seed)
    first, again, other = (model.get_weights() for model in models)
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.nightly
def test_no_random_budget_is_violated():
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "benchmarks" / "budgets.py"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "20 budgets, 0 violated" in done.stdout
