"""A teacher's outputs, written once and read at training time."""

from keras_distill.teacher_cache.cache import TeacherCache

__all__ = ["TeacherCache"]
