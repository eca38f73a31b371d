"""What to expect of two networks and a data set, before you train."""

from keras_distill.diagnosis.examination import diagnose
from keras_distill.diagnosis.result import Diagnosis

__all__ = [
    "Diagnosis",
    "diagnose",
]
