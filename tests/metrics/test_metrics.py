"""Numbers that are logged."""

import keras
import numpy as np
import pytest

from keras_distill._training.fused_means import FusedMeans


@pytest.mark.parametrize("floatx", ("float32", "float64"))
def test_fused_means_are_means_over_samples(floatx):
    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        means = FusedMeans(["first", "never", "second"], name="log")
        for first, second, count in ((1.0, 5.0, 8), (4.0, -1.0, 2)):
            values = {"second": second, "first": np.float32(first)}
            means.update_state(values, np.int32(count))
        found = means.result()
    finally:
        keras.config.set_floatx(before)
    assert list(found) == ["first", "second"]
    np.testing.assert_allclose(float(found["first"]), 1.6, rtol=1e-6)
    np.testing.assert_allclose(float(found["second"]), 3.8, rtol=1e-6)
    means.reset_state()
    assert float(means.result()["first"]) == 0.0
    # All of them are one variable.
    assert len(means.variables) == 1
