"""Callbacks for `fit`."""

from keras_distill.callbacks.backup_and_resume import BackupAndResume
from keras_distill.callbacks.proximal_steps import ProximalSteps

__all__ = ["BackupAndResume", "ProximalSteps"]
