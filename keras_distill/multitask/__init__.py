"""Heads of several tasks whose kernels share structure."""

from keras_distill.multitask.clustering import TaskClustering
from keras_distill.multitask.decomposition import ParameterDecomposition
from keras_distill.multitask.features import FeatureTransformation
from keras_distill.multitask.heads import Heads
from keras_distill.multitask.inspection import Inspection
from keras_distill.multitask.inspection import inspect
from keras_distill.multitask.merging import merged
from keras_distill.multitask.structure import Structure

__all__ = [
    "FeatureTransformation",
    "Heads",
    "Inspection",
    "ParameterDecomposition",
    "Structure",
    "TaskClustering",
    "inspect",
    "merged",
]
