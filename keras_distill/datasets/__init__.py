"""Data for distillation: small real data sets and reproducible pipelines."""

from keras_distill.datasets.glyph_images import glyphs
from keras_distill.datasets.images import Images
from keras_distill.datasets.images import drawings
from keras_distill.datasets.images import read_images
from keras_distill.datasets.loaders import Split
from keras_distill.datasets.loaders import digits
from keras_distill.datasets.loaders import fashion_mnist
from keras_distill.datasets.loaders import load
from keras_distill.datasets.pipelines import batches
from keras_distill.datasets.pipelines import steps_per_epoch
from keras_distill.datasets.pipelines import subset
from keras_distill.datasets.pipelines import with_fast_epoch_end
from keras_distill.datasets.texts import Text
from keras_distill.datasets.texts import read_text
from keras_distill.datasets.word_streams import LanguageModelData
from keras_distill.datasets.word_streams import language_model

__all__ = [
    "Images",
    "LanguageModelData",
    "Split",
    "Text",
    "batches",
    "digits",
    "drawings",
    "fashion_mnist",
    "glyphs",
    "language_model",
    "load",
    "read_images",
    "read_text",
    "steps_per_epoch",
    "subset",
    "with_fast_epoch_end",
]
