"""The step that chooses how to teach."""

from keras_distill import recipes


def choose(run, bar):
    """Settles temperature, alpha and rate, by races or by the rule."""
    settings, data = run.settings, run.data
    labels = data.train[1] is not None
    unlabelled = 0 if data.unlabelled is None else len(data.unlabelled)
    rule = recipes.settings(
        samples=len(data.train[0]),
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        unlabelled=unlabelled,
        labels=labels,
    )
    why = "kd.recipes.settings, the rule for this number of images and steps"
    for name in ("temperature", "alpha", "learning_rate"):
        settings.settle(name, getattr(rule, name), why)
    bar.note(
        ", ".join(
            f"{name.replace('_', ' ')} {settings[name]:g}"
            for name in ("temperature", "alpha", "learning_rate")
        )
    )
    return {}
