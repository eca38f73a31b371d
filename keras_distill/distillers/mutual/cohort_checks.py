"""Checks of what the user gives a cohort: early, and with the fix."""

import keras

from keras_distill.distillers import checks


def named_students(students):
    """A list or dict of networks -> a dict name -> `keras.Model`."""
    if isinstance(students, dict):
        students = dict(students)
    elif isinstance(students, (list, tuple)):
        names = [getattr(student, "name", None) for student in students]
        twice = sorted({n for n in names if n and names.count(n) > 1})
        if twice and len({id(s) for s in students}) == len(students):
            raise ValueError(
                f"Several students are called {twice}: their logs could not "
                "be told apart. Give them names of their own with a dict, "
                "students={'first': ..., 'second': ...}."
            )
        _check_different(list(zip(names, students)))
        students = dict(zip(names, students))
    else:
        raise TypeError(
            "students must be a list of keras.Models or a dict name -> "
            f"keras.Model. Received: {students!r}"
        )
    for name, student in students.items():
        if not isinstance(student, keras.Model):
            raise TypeError(
                "students must be keras.Models. Received: "
                f"{student!r} of type {type(student).__name__}"
            )
        if not isinstance(name, str) or not name or set(name) & set("/:"):
            raise ValueError(
                "The name of a student is a string without '/' and ':'. "
                f"Received: {name!r}"
            )
    if len(students) < 2:
        raise ValueError(
            "Mutual learning needs at least two students. Received: "
            f"{len(students)}. For one student that is its own teacher see "
            "kd.losses.SelfAttention; for a trained teacher, kd.Distiller."
        )
    _check_different(list(students.items()))
    check_own_weights(students)
    return students


def _check_different(named):
    seen = {}
    for name, student in named:
        if id(student) in seen:
            raise ValueError(
                f"The same object is given as the students '{seen[id(student)]}"
                f"' and '{name}'. Build the network twice: "
                "keras.models.clone_model(student) starts from new weights."
            )
        seen[id(student)] = name


def check_own_weights(students):
    """Raises if two students share a weight."""
    owner = {}
    for name, student in students.items():
        for variable in student.variables:
            other = owner.setdefault(id(variable), name)
            if other != name:
                raise ValueError(
                    f"The students '{other}' and '{name}' share the weight "
                    f"'{variable.path}', which both would update. Give each "
                    "its own layers; for branches over a shared trunk see "
                    "kd.NativeEnsembleDistiller."
                )


def check_loss_names(losses):
    for name in losses:
        if ":" in name:
            raise ValueError(
                "The name of a distillation loss of a cohort has no ':'. "
                f"Received: {name!r}"
            )


def check_losses(losses):
    """Raises for losses that ask more of a teacher than a peer can give."""
    for name, loss in losses.items():
        if loss.needs_teacher == "trained" or hasattr(loss, "deployed_logits"):
            raise ValueError(
                f"Distillation loss '{name}' ({type(loss).__name__}) needs a "
                "trained teacher, but the peers of a cohort start untrained. "
                "Use a loss on outputs or features, such as "
                "kd.losses.SoftTargets or kd.losses.Hint."
            )


def check_same_classes(shapes):
    """Raises unless all outputs are scores over the same classes.

    Args:
        shapes: Name of a student -> shape of its output.
    """
    if any(keras.tree.is_nested(shape) for shape in shapes.values()):
        raise ValueError(
            f"Each student of a cohort must have one output. Received: {shapes}"
        )
    if len({tuple(shape)[1:] for shape in shapes.values()}) > 1:
        raise ValueError(
            "The students of a cohort must have the same classes. Output "
            f"shapes: { {n: tuple(s) for n, s in shapes.items()} }"
        )


def check_log_names(names):
    """Raises if two numbers would have one name in the logs."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Two numbers would be logged as {twice}. Give the students other "
            "names, with a dict name -> keras.Model."
        )


def check_metrics(metrics):
    compares, _ = checks.split_metrics(metrics)
    if compares:
        raise ValueError(
            f"The metric '{compares[0].name}' compares with a teacher, and "
            "here is none. Drop it; kd.metrics.Agreement can be computed from "
            "predict(), which gives every student's outputs."
        )
