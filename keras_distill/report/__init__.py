"""The page that goes with an exported student."""

from keras_distill.report.writing import write_report

__all__ = ["write_report"]
