"""What the student sees of random views in its short training."""

import contextlib

from keras_distill.diagnosis.variables import assign
from keras_distill.diagnosis.variables import values_of
from keras_distill.views import Views

# From this part of the area on, crops cost little.
MILD_AREA = 0.8


def are_random(views):
    """Whether training shows something else than evaluation."""
    return type(views).training is not Views.training


def named(views):
    """Returns the name of random views, with how much they crop and mix.

    Of others it returns `None`.
    """
    if not are_random(views):
        return None
    words = []
    area = getattr(views, "crop_area", None)
    if area is not None:
        low, high = (100 * bound for bound in area)
        words.append(f"crops of {low:g} to {high:g} %")
    if getattr(views, "mixup", None) is not None:
        words.append("mixup")
    name = type(views).__name__
    return f"{name} ({', '.join(words)})" if words else name


def milder(views):
    """Returns the arguments that would make views milder, in words."""
    area, words = getattr(views, "crop_area", None), []
    if area is not None and area[0] < MILD_AREA:
        words.append(f"crop_area=({MILD_AREA}, 1.0)")
    if getattr(views, "mixup", None) is not None:
        words.append("mixup=False")
    return ", ".join(words)


def seen_in_training(views, batches):
    """Yields batches as the student sees them in training.

    Args:
        views: A `Views`.
        batches: An iterator of `(Sample, y, sample_weight)`.

    Yields:
        `(x, y, sample_weight)`.
    """
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def see(x, y, sample_weight, epoch, index):
        view = views.training(
            x, y, sample_weight, epoch=epoch, sample_index=index
        )
        return view.student, view.y, view.sample_weight

    for step, (sample, y, sample_weight) in enumerate(batches):
        index = sample.sample_index
        # As in a Distiller: without an index each step draws anew.
        epoch = step if index is None else sample.epoch
        epoch = tf.convert_to_tensor(epoch, tf.int32)
        yield see(sample.inputs, y, sample_weight, epoch, index)


@contextlib.contextmanager
def left_as_they_were(views):
    """Restores the states of the views' random generators."""
    values = values_of(views.variables)
    try:
        yield
    finally:
        assign(views.variables, values)


def better_training(facts):
    """Returns the facts about the training in which the student learned more.

    That is the one without random views if they surely cost accuracy.
    """
    plain = facts.get("without_views")
    if plain and plain["gain"]["low"] > 0:
        return plain
    keys = ("short_training", "headroom")
    return facts["student"] | {key: facts.get(key) for key in keys}


def finding(facts):
    """Warns of views that cost more than they bring in so few steps."""
    better = better_training(facts)
    if better is not facts.get("without_views"):
        return None
    steps = facts["short_training"]["steps"]
    views, arguments = facts["views"]["name"], facts["views"]["milder"]
    others = f"take milder ones ({arguments})" if arguments else "take none"
    accuracies = [
        f"{100 * row['validation']['accuracy']:.1f} %"
        for row in (facts["student"], better)
    ]
    return "strong_views", (
        f"After {steps:,} steps the student is right on {accuracies[0]} of the "
        f"validation data with {views}, and on {accuracies[1]} without "
        "their randomness. Strong views need long training, with a teacher "
        f"too. Train much longer, or {others}, and compare the distilled "
        "student with one that was trained alone without them."
    )
