"""The page that goes with an exported student."""

from keras_distill.report.inputs import About
from keras_distill.report.inputs import Evidence
from keras_distill.report.inputs import Networks
from keras_distill.report.writing import write_report

__all__ = ["About", "Evidence", "Networks", "write_report"]
