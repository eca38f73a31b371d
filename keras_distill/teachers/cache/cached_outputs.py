"""A teacher's outputs that travel with the data: do they fit a Distiller?"""

from keras_distill.losses.structures import as_list


def check_cached(outputs, distiller):
    """Raises if a Distiller cannot train with these.

    Args:
        outputs: `samples.Sample.teacher_outputs` of a batch.
        distiller: The `Distiller`.

    Raises:
        ValueError: for outputs of another teacher or of other views, and for
            losses whose layers are not among them.
    """
    if "origin" in outputs:
        from keras_distill.teachers.cache.origin import check_origin

        check_origin(outputs["origin"], distiller)
    pair = distiller._networks()
    for name in pair.needs_teacher:
        loss = pair.losses[name]
        _check_stored(name, loss, outputs)


def teacher_threshold(outputs):
    """Where a head of one unit says yes, see `metrics.decision_threshold`;
    `None` where the outputs do not say."""
    if outputs is None or "origin" not in outputs:
        return None
    from keras_distill.teachers.cache.origin import Origin

    return 0.5 if Origin(*outputs["origin"][0]).sigmoid else 0.0


def _check_stored(name, loss, outputs):
    wanted = loss.teacher_layer_name
    if wanted is None:
        missing = [] if "output" in outputs else ["the output"]
    else:
        missing = [tap for tap in as_list(wanted) if tap not in outputs["taps"]]
    if missing:
        raise ValueError(
            f"Distillation loss '{name}' reads {missing} of the teacher, but "
            f"the data carries {_stored(outputs)} only. Build the cache with "
            f"kd.TeacherCache.build(..., teacher_layer_names="
            f"{as_list(wanted) if wanted else [...]})."
        )


def _stored(outputs):
    output = ["the output"] if "output" in outputs else []
    return [*output, *outputs["taps"]]
