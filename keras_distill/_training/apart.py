"""A teacher must not change while its student learns."""

from keras_distill._keras.layers import batch_normalizations
from keras_distill._keras.layers import flatten_layers
from keras_distill.taps.paths import layer_paths


def check_apart(teacher, student):
    """Raises if training the student would change the teacher.

    Layers that are frozen may belong to both.

    Args:
        teacher: A `keras.Model`, or `None`.
        student: A `keras.Model`.
    """
    if teacher is None:
        return
    variables = {id(variable) for variable in teacher.variables}
    layers = {id(layer) for layer in flatten_layers(teacher)}
    moving = {
        id(layer) for layer in batch_normalizations(student) if layer.trainable
    }
    # The innermost layers come last.
    shared = [
        path
        for path, layer in layer_paths(student).items()
        if any(id(v) in variables for v in layer.trainable_variables)
        or id(layer) in moving & layers
    ]
    if not shared:
        return
    inner = [
        p for p in shared if not any(q.startswith(f"{p}/") for q in shared)
    ]
    raise ValueError(
        f"The teacher '{teacher.name}' and the student '{student.name}' share "
        f"the layers {inner[:5]}, so training the student would change the "
        "teacher. Give the teacher layers of its own, such as teacher = "
        "keras.models.clone_model(teacher) with set_weights; or freeze what "
        "both share: layer.trainable = False."
    )
