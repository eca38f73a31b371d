"""Checks of a cohort and its data, before the first step."""

import keras

from keras_distill._data.batch_fields import unpacked
from keras_distill._data.for_network import for_network
from keras_distill._data.sparse import as_tensor
from keras_distill._keras.symbolic_pass import with_free_batch
from keras_distill._training.building import build_student
from keras_distill._training.first_batch import FirstBatch
from keras_distill._training.outputs import ForwardOutputs
from keras_distill.distillers import checks


class CohortBatch(FirstBatch):
    """Checks the data of a `MutualDistiller`, for each of its students."""

    def check(self, x, y=None, sample_weight=None):
        cohort = self.distiller
        sample = unpacked(x)
        self._check_labels_are_there(y)
        self._check_sample_index(sample)
        if sample.teacher_outputs is not None:
            raise ValueError(
                "The data carries a teacher's outputs, but the students of a "
                "MutualDistiller have no teacher other than each other. Pass "
                "the data itself; for a cached teacher see kd.Distiller."
            )
        for member in cohort._members.values():
            member._view_schedule().check(sample)
        # The cohort's own schedule is told the number of steps.
        cohort._view_schedule().check_index(sample)
        self._build_students(sample)
        if y is not None:
            first = next(iter(cohort._members.values()))
            FirstBatch(first)._check_sparse_labels(y)
            first._view_schedule().check_labels(y)

    def _networks(self):
        students = self.distiller.students.values()
        return [(student, "student") for student in students]

    def _build_students(self, sample):
        """Builds students, and losses whose shapes only the data shows."""
        cohort = self.distiller
        inputs = keras.tree.map_structure(as_tensor, sample.inputs)
        with cohort.distribute_strategy.scope():
            inputs = cohort.views.evaluation(inputs)
            shapes = {}
            for name, member in cohort._members.items():
                student = member.student
                x = for_network(student, inputs, "student")
                build_student(student, x)
                member.built = True
                if not cohort._networks().bound:
                    taps = member._networks().student_taps
                    shapes[name] = ForwardOutputs(
                        *taps.shapes_on(with_free_batch(x))
                    )
            cohort.built = True
            if shapes:
                cohort._bind(shapes)


def named_students(students):
    """Returns a list or dict of networks as a dict name -> `keras.Model`."""
    if isinstance(students, dict):
        students = dict(students)
    elif isinstance(students, (list, tuple)):
        names = [getattr(student, "name", None) for student in students]
        twice = sorted({n for n in names if n and names.count(n) > 1})
        if twice and len({id(s) for s in students}) == len(students):
            raise ValueError(
                f"Several students are called {twice}, so their logs would "
                "be mixed up. Name them with a dict: "
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
                "The name of a student must be a string without '/' and ':'. "
                f"Received: {name!r}"
            )
    if len(students) < 2:
        raise ValueError(
            "Mutual learning needs at least two students. Received: "
            f"{len(students)}. For one student that is its own teacher see "
            "kd.losses.SelfAttention; for a trained teacher see kd.Distiller."
        )
    _check_different(list(students.items()))
    check_own_weights(students)
    return students


def _check_different(named):
    names = {}
    for name, student in named:
        if id(student) in names:
            raise ValueError(
                f"The same object is given as the students "
                f"'{names[id(student)]}' and '{name}'. Build the network "
                "twice: keras.models.clone_model(student) starts from new "
                "weights."
            )
        names[id(student)] = name


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
                "The name of a cohort's distillation loss must not contain "
                f"':'. Received: {name!r}"
            )


def check_losses(losses):
    """Raises for losses that need a trained teacher."""
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


def check_callbacks(callbacks):
    if any(isinstance(c, keras.callbacks.SwapEMAWeights) for c in callbacks):
        raise ValueError(
            "keras.callbacks.SwapEMAWeights swaps the weights of one optimizer "
            "only, and each student of a cohort has its own. Leave it out: "
            "with use_ema=True every student has its averages at the end of "
            "fit. Evaluate them then."
        )


def check_metrics(metrics):
    compares, _ = checks.split_metrics(metrics)
    if compares:
        raise ValueError(
            f"The metric '{compares[0].name}' compares with a teacher, but "
            "there is none here. Drop it. You can compute "
            "kd.metrics.Agreement from predict(), which returns the outputs "
            "of all networks."
        )
