"""Callbacks for `fit`."""

from keras_distill.callbacks.backup_and_resume import BackupAndResume

__all__ = ["BackupAndResume"]
