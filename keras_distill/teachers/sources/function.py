"""A Python function as the source of a black box."""

import hashlib

from keras_distill.views.looks import source_hash


class PythonFunction:
    """A function with a fingerprint.

    Args:
        function: A function of a batch.
        version: What tells it from others. Defaults to a hash of its source.

    Raises:
        ValueError: If there is neither a version nor a source to read.
    """

    activation = None
    class_names = None

    def __init__(self, function, version=None):
        self._function = function
        # An object that is called has state, which no source shows.
        source = version or source_hash(function)
        if source is None:
            raise ValueError(
                f"version: the source of the function {function!r} cannot be "
                'read. Pass version="...", a text that you change when it '
                "computes something else: caches and saved Distillers know the "
                f"teacher by it. Received: version={version!r}"
            )
        self.source_sha256 = hashlib.sha256(source.encode()).hexdigest()

    def __call__(self, inputs):
        return self._function(inputs)
