"""Settings chosen by short races on held-out training data."""

from keras_distill.diagnosis.choosing.choice import Choice
from keras_distill.diagnosis.choosing.choose import choose

__all__ = [
    "Choice",
    "choose",
]
