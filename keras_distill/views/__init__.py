"""What each network sees of a batch."""

from keras_distill._data.indexing import indexed
from keras_distill.views.augmented import Augmented
from keras_distill.views.base import Preprocessing
from keras_distill.views.base import View
from keras_distill.views.base import Views
from keras_distill.views.function_matching import MILD_CROP
from keras_distill.views.function_matching import Consistent
from keras_distill.views.function_matching import FixedTeacher
from keras_distill.views.function_matching import FunctionMatching
from keras_distill.views.function_matching import IndependentNoise
from keras_distill.views.mixup import Mixup
from keras_distill.views.mixup import grouped_batches
from keras_distill.views.preview import preview

__all__ = [
    "MILD_CROP",
    "Augmented",
    "Consistent",
    "FixedTeacher",
    "FunctionMatching",
    "IndependentNoise",
    "Mixup",
    "Preprocessing",
    "View",
    "Views",
    "grouped_batches",
    "indexed",
    "preview",
]
