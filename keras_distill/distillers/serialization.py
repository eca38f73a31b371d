"""A `Distiller` as configuration: what its file holds beside weights."""

import keras

from keras_distill.teachers.teacher_fingerprint import teacher_fingerprint


def to_config(distiller):
    """-> a JSON-serializable dict, with the teacher's fingerprint in it."""
    serialize = keras.saving.serialize_keras_object
    alpha = distiller.alpha
    moving = distiller._networks().moving_teacher
    return {
        "student": serialize(distiller.student),
        "distillation_losses": {
            name: serialize(loss)
            for name, loss in distiller.distillation_losses.items()
        },
        "distillation_loss_weights": dict(distiller.distillation_loss_weights),
        "alpha": serialize(alpha) if callable(alpha) else alpha,
        "views": serialize(distiller.views),
        "teacher_dtype": distiller._networks().teacher_dtype,
        "teacher_batch_size": distiller._networks().teacher_batch_size,
        "name": distiller.name,
        "teacher_fingerprint": teacher_fingerprint(distiller),
        **({} if moving is None else {"teacher": serialize(moving)}),
    }


def taken_apart(config):
    """-> arguments of the constructor, and the teacher's fingerprint."""
    deserialize = keras.saving.deserialize_keras_object
    config = dict(config)
    teacher_fingerprint = config.pop("teacher_fingerprint", None)
    config["student"] = deserialize(config["student"])
    config["views"] = deserialize(config["views"])
    if "teacher" in config:
        config["teacher"] = deserialize(config["teacher"])
    config["distillation_losses"] = {
        name: deserialize(loss)
        for name, loss in config["distillation_losses"].items()
    }
    if isinstance(config["alpha"], dict):
        config["alpha"] = deserialize(config["alpha"])
    return config, teacher_fingerprint
