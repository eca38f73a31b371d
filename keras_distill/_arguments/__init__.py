"""Checks of what a user passes: one function per kind of argument.

Each returns the checked value or raises an error that names the argument, what
it must be, and what was received. `hint` adds what the argument means.
"""

from keras_distill._arguments.choices import checked_boolean
from keras_distill._arguments.choices import checked_booleans
from keras_distill._arguments.choices import one_of
from keras_distill._arguments.numeric import checked_alpha
from keras_distill._arguments.numeric import checked_dataset_seed
from keras_distill._arguments.numeric import checked_ignore_class
from keras_distill._arguments.numeric import checked_integer
from keras_distill._arguments.numeric import checked_integers
from keras_distill._arguments.numeric import checked_number
from keras_distill._arguments.numeric import checked_numbers
from keras_distill._arguments.numeric import checked_range
from keras_distill._arguments.numeric import checked_seed
from keras_distill._arguments.numeric import checked_size
from keras_distill._arguments.numeric import checked_teacher_dtype
from keras_distill._arguments.numeric import checked_temperature
from keras_distill._arguments.numeric import is_number
from keras_distill._arguments.objects import as_path
from keras_distill._arguments.objects import checked_instance
from keras_distill._arguments.objects import checked_layer
from keras_distill._arguments.objects import checked_loss
from keras_distill._arguments.objects import checked_mapping
from keras_distill._arguments.objects import checked_model
from keras_distill._arguments.objects import checked_models
from keras_distill._arguments.objects import checked_string
from keras_distill._arguments.objects import checked_strings

__all__ = [
    "as_path",
    "checked_alpha",
    "checked_boolean",
    "checked_booleans",
    "checked_dataset_seed",
    "checked_instance",
    "checked_ignore_class",
    "checked_integer",
    "checked_integers",
    "checked_layer",
    "checked_loss",
    "checked_mapping",
    "checked_model",
    "checked_models",
    "checked_number",
    "checked_numbers",
    "checked_range",
    "checked_seed",
    "checked_size",
    "checked_string",
    "checked_strings",
    "checked_teacher_dtype",
    "checked_temperature",
    "is_number",
    "one_of",
]
