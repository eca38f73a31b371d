"""Short trainings, and results that several tests look at."""

import keras
import pytest
from diagnosis_cases import data
from diagnosis_cases import look

from keras_distill.diagnosis import short_training


@pytest.fixture(autouse=True, scope="package")
def _short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(short_training, "LEARNING_RATES", (3e-2,))
        patch.setattr(short_training, "TRIAL_STEPS", 3)
        yield


@pytest.fixture(scope="package")
def ordinary():
    """A result with which nothing is wrong."""
    keras.utils.set_random_seed(0)
    return look()


@pytest.fixture(scope="package")
def limited():
    """The result of few samples and a flexible student."""
    keras.utils.set_random_seed(0)
    return look(dataset=data(60), steps=100)
