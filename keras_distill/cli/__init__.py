"""The command `keras-distill`: every subcommand is one public call."""

from keras_distill.cli.commands import main

__all__ = ["main"]
