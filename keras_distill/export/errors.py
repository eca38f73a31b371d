"""What an export raises when it is TFLite that says no."""


class ExportError(RuntimeError):
    """A model could not be converted, or what came out does not run."""
