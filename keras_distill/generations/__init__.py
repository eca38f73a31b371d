"""Born-again generations: how networks are built, trained, kept and shown."""

from keras_distill.generations.result import Generations

__all__ = ["Generations"]
