"""What each network sees of a batch."""

from keras_distill.samples import indexed
from keras_distill.views.base import Preprocessing
from keras_distill.views.base import View
from keras_distill.views.base import Views
from keras_distill.views.base import for_network
from keras_distill.views.groups import grouped_batches
from keras_distill.views.preview import preview
from keras_distill.views.teachings import Consistent
from keras_distill.views.teachings import FixedTeacher
from keras_distill.views.teachings import FunctionMatching
from keras_distill.views.teachings import IndependentNoise

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
