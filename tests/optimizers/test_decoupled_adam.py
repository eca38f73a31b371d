"""Adam with a weight decay of its own, in a file."""

import subprocess
import sys

import keras
import pytest

import keras_distill as kd


@pytest.mark.slow
def test_a_model_compiled_with_it_loads_where_the_package_alone_is(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(kd.optimizers.DecoupledAdam(0.1, 0.2, 0.01), "mse")
    model.save(tmp_path / "model.keras")
    code = (
        "import keras, keras_distill; "
        f"model = keras.models.load_model(r'{tmp_path / 'model.keras'}'); "
        "config = model.optimizer.get_config(); "
        "print(config['peak_learning_rate'], config['weight_decay'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0.2", "0.01"]
