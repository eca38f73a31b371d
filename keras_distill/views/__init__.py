"""What each network sees of a batch."""

from keras_distill._data.for_network import for_network
from keras_distill._data.indexing import indexed
from keras_distill.views.base import Preprocessing
from keras_distill.views.base import View
from keras_distill.views.base import Views
from keras_distill.views.function_matching import Consistent
from keras_distill.views.function_matching import FixedTeacher
from keras_distill.views.function_matching import FunctionMatching
from keras_distill.views.function_matching import IndependentNoise
from keras_distill.views.groups import grouped_batches
from keras_distill.views.preview import preview

__all__ = [
    "Consistent",
    "FixedTeacher",
    "FunctionMatching",
    "IndependentNoise",
    "Preprocessing",
    "View",
    "Views",
    "for_network",
    "grouped_batches",
    "indexed",
    "preview",
]
