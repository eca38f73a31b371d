"""Networks as they are in the world: all convert, or the error says why not."""

import importlib.util
import pathlib

import pytest

SCRIPT = (
    pathlib.Path(__file__).parents[2] / "examples/benchmarks/conversions.py"
)
specification = importlib.util.spec_from_file_location("conversions", SCRIPT)
conversions = importlib.util.module_from_spec(specification)
specification.loader.exec_module(conversions)

# Largest difference of the logits, relative to the largest logit. The weights
# are random: integer files are bounded where networks are trained.
BOUNDS = {None: 1e-4, "float16": 2e-2, "dynamic": 0.5}


# Up to minutes each: test_export.py takes the same paths through the converter.
@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*lies in")
@pytest.mark.parametrize("name", conversions.NETWORKS)
def test_all_quantizations_of(name, tmp_path):
    model, x = conversions.network(name)
    for quantization in conversions.QUANTIZATIONS:
        row = conversions.convert(model, x, quantization, tmp_path)
        if isinstance(row, str):
            # Float always converts, and int8; where int16x8 does not, the
            # error names operator and layer.
            assert quantization == "int16x8", row
            assert " in layer '" in row, row
            continue
        assert row["builtin_operators_only"]
        difference = row["max_relative_difference"]
        assert difference <= BOUNDS.get(quantization, 2.0), quantization
    assert not list(tmp_path.glob(".export-*"))
