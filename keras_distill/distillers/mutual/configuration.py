"""A `MutualDistiller` as configuration: what its file holds beside weights."""

import keras


def of(cohort):
    """-> a JSON-serializable dict."""
    serialize = keras.saving.serialize_keras_object
    alpha = cohort.alpha
    return {
        "students": {n: serialize(s) for n, s in cohort.students.items()},
        "distillation_losses": {
            name: serialize(loss)
            for name, loss in cohort.distillation_losses.items()
        },
        "distillation_loss_weights": dict(cohort.distillation_loss_weights),
        "alpha": serialize(alpha) if callable(alpha) else alpha,
        "update": cohort.update,
        "views": serialize(cohort.views),
        "name": cohort.name,
        "loss_shapes": {n: m.loss_shapes() for n, m in cohort.members.items()},
    }


def taken_apart(config):
    """-> arguments of the constructor, and the shapes of the losses."""
    deserialize = keras.saving.deserialize_keras_object
    config = dict(config)
    for key in ("students", "distillation_losses"):
        config[key] = {n: deserialize(c) for n, c in config[key].items()}
    config["views"] = deserialize(config["views"])
    if isinstance(config["alpha"], dict):
        config["alpha"] = deserialize(config["alpha"])
    return config, config.pop("loss_shapes", {})
