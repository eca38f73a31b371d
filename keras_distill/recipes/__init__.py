"""Training recipes: what to give to Distiller, compile and fit."""

from keras_distill.recipes.on_policy import on_policy
from keras_distill.recipes.published import Recipe
from keras_distill.recipes.published import function_matching
from keras_distill.recipes.rule import Settings
from keras_distill.recipes.rule import settings

__all__ = [
    "Recipe",
    "Settings",
    "function_matching",
    "on_policy",
    "settings",
]
