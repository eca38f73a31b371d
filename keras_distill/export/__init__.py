"""From a Keras model to a file that ships, and proof of what the file does."""

from keras_distill.export.conversion.explanation import ExportError
from keras_distill.export.file.flatbuffer import metadata
from keras_distill.export.file.lite_model import LiteModel
from keras_distill.export.file.lite_model import load
from keras_distill.export.formats import export_model
from keras_distill.export.request import Interface
from keras_distill.export.request import RepresentativeDataset
from keras_distill.export.verification.gate import VerificationError
from keras_distill.export.verification.result import Verification
from keras_distill.export.verification.verification import verify
from keras_distill.export.writing import tflite

__all__ = [
    "ExportError",
    "Interface",
    "LiteModel",
    "RepresentativeDataset",
    "Verification",
    "VerificationError",
    "export_model",
    "load",
    "metadata",
    "tflite",
    "verify",
]
