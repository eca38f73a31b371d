from keras_distill.losses.attention import AttentionTransfer
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.base import LayerPairLoss
from keras_distill.losses.base import weighted_mean
from keras_distill.losses.hint import Hint
from keras_distill.losses.response import HardLabels
from keras_distill.losses.response import LogitsMSE
from keras_distill.losses.response import SoftTargets

__all__ = [
    "AttentionTransfer",
    "DistillationLoss",
    "HardLabels",
    "Hint",
    "LayerPairLoss",
    "LogitsMSE",
    "SoftTargets",
    "weighted_mean",
]
