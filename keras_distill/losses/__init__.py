"""Distillation losses: `L_D` of the objective, by family."""

# ruff: noqa: F403

from keras_distill.losses import classifier
from keras_distill.losses import feature
from keras_distill.losses import information
from keras_distill.losses import own_layers
from keras_distill.losses import relation
from keras_distill.losses import response
from keras_distill.losses import transformer
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.classifier import *
from keras_distill.losses.feature import *
from keras_distill.losses.information import *
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.own_layers import *
from keras_distill.losses.relation import *
from keras_distill.losses.response import *
from keras_distill.losses.transformer import *

# A new loss has its line in the `__init__` of its family.
__all__ = ["DistillationLoss", "LayerPairLoss", "weighted_mean"]
__all__ += response.__all__
__all__ += feature.__all__
__all__ += information.__all__
__all__ += relation.__all__
__all__ += classifier.__all__
__all__ += own_layers.__all__
__all__ += transformer.__all__
