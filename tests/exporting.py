"""Exports for tests: silent, and without a child process."""

from keras_distill.export.request import ExportRequest
from keras_distill.export.writing import write


def exported(model, filepath, **options):
    """`kd.export.tflite` in this process.

    The child process of an integer conversion costs seconds. The tests of
    `conversion` are about it.
    """
    request = ExportRequest(model, filepath, **options)
    return write(request, verbose=False, in_child=False)
