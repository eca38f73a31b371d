"""A student and its teacher, as the losses see them."""

import contextlib
import warnings
import weakref

import keras
from keras import ops

from keras_distill._shapes import sizes_agree
from keras_distill._training.deployment import find_deployment
from keras_distill._training.outputs import ForwardOutputs
from keras_distill._training.teacher_pass import TeacherPass
from keras_distill.metrics.agreement import decision_threshold
from keras_distill.metrics.agreement import same_decision
from keras_distill.taps.taps import Taps
from keras_distill.teachers.roles import moving_teacher
from keras_distill.views import for_network

# Loss -> the `TeacherStudent` that uses it.
_owners = weakref.WeakKeyDictionary()


class TeacherStudent:
    """Two networks with the taps that a set of losses needs.

    No Keras object, so that Keras does not follow it to the teacher: the
    teacher is in no checkpoint and none of its weights is trained.

    Args:
        student: A `keras.Model`.
        losses: A dict name -> `DistillationLoss`.
        teacher_dtype: As in `kd.Distiller`.
        teacher_batch_size: As in `kd.Distiller`.
    """

    def __init__(
        self, student, losses, teacher_dtype=None, teacher_batch_size=None
    ):
        self.student = student
        self.losses = losses
        self.teacher_dtype = teacher_dtype
        self.teacher_batch_size = teacher_batch_size
        self.teacher = None
        self.moving_teacher = None
        self.run_teacher = None
        self.deployment = find_deployment(losses)
        self.student_taps = Taps(student, self._taps_of("student"), "student")
        self.bound = False
        # Whether the outputs are scores over the same classes.
        self.comparable = False
        self.student_output_shape = None

    @property
    def needs_teacher(self):
        """Names of the losses that need one."""
        return [n for n, loss in self.losses.items() if loss.needs_teacher]

    def set_teacher(self, teacher):
        moving = moving_teacher(teacher, self.student)
        teacher = teacher if moving is None else moving.network
        self.run_teacher = TeacherPass(
            teacher,
            self.student,
            self._taps_of("teacher"),
            self.teacher_dtype,
            self.teacher_batch_size,
        )
        self.teacher, self.moving_teacher = teacher, moving
        self.bound = False

    @property
    def teacher_taps(self):
        return self.run_teacher and self.run_teacher.taps

    def teacher_device(self):
        """The teacher's, where it is not the student's; else `None`."""
        return self.run_teacher and self.run_teacher.device()

    @contextlib.contextmanager
    def followed(self, optimizer):
        """Around an update: a moving teacher then follows the student."""
        if self.moving_teacher is None:
            yield
            return
        before = optimizer.iterations + 0  # A value, not the variable.
        yield
        # It does not count steps that accumulate a gradient or skip one.
        moved = ops.greater(optimizer.iterations, before)
        self.moving_teacher.follow(self.student, moved)

    def student_pass(self, x, training):
        """Runs the student once.

        Returns:
            `ForwardOutputs`, or `Deployed` if a loss deploys more.
        """
        x = for_network(self.student, x, "student")
        seen = ForwardOutputs(*self.student_taps(x, training=training))
        if self.deployment is None:
            return seen
        return self.deployment.of(seen, training)

    def deployed_output(self, x, training=None):
        """What ships, on the student's input."""
        if self.deployment is not None:
            self.deployment.check_built()
            return self.student_pass(x, training).output
        x = for_network(self.student, x, "student")
        if self.student._call_has_training_arg:
            return self.student(x, training=training)
        return self.student(x)

    def deployable_student(self):
        """What ships, as one plain `keras.Model`."""
        if self.deployment is None:
            return self.student
        return self.deployment.model(self.student, self.student_taps.layers)

    def teacher_pass(self, x, outputs=None, own_precision=False):
        """Runs the teacher in inference mode.

        Args:
            x: The teacher's view.
            outputs: What it said of it, if the data carries that: then it does
                not run (`samples.Sample.teacher_outputs`).
            own_precision: Whether it runs in its own, and not in
                `teacher_dtype`.
        """
        if outputs is not None:
            return ForwardOutputs(outputs.get("output"), outputs["taps"])
        if self.teacher is None:
            return None
        x = for_network(self.teacher, x, "teacher")
        seen = self.run_teacher(x, own_precision)
        if self.moving_teacher is not None:
            # It belongs to the Distiller; its regularizers do not.
            self.teacher._clear_losses()
        return ForwardOutputs(
            *keras.tree.map_structure(ops.stop_gradient, seen)
        )

    def bind_if_shapes_are_known(self):
        """Binds networks with symbolic inputs; others wait for data."""
        teacher = self.teacher_taps and self.teacher_taps.shapes()
        if teacher is None and (self.teacher_taps or self.needs_teacher):
            return
        student = self.student_taps.shapes()
        if student is not None:
            self.bind(
                teacher and ForwardOutputs(*teacher), ForwardOutputs(*student)
            )

    def bind(self, teacher, student, thresholds=(None, None)):
        """Lets every loss see the models once, and builds its connectors.

        Args:
            teacher: `ForwardOutputs` of shapes, or `None` without a teacher.
            student: `ForwardOutputs` of shapes.
            thresholds: Of teacher and student, see `decision_threshold`;
                `None`: what the network shows.
        """
        for name, loss in self.losses.items():
            loss.bind(self.teacher, self.student)
            shapes = (
                teacher and teacher.of(loss.teacher_layer_name),
                student.of(loss.student_layer_name),
            )
            shapes = keras.tree.map_structure(
                lambda shape: shape and tuple(shape), shapes
            )
            if loss.built and loss.variables:
                _check_still_fits(name, loss, *shapes)
                self._warn_of_another_owner(name, loss)
            else:
                loss.build(*shapes)
            _owners[loss] = weakref.ref(self)
        output, threshold = student.output, decision_threshold(self.student)
        if self.deployment is not None:
            output, threshold = self.deployment.shape(student), 0.0
        self.student_output_shape = output
        self.comparable = _same_scores(teacher and teacher.output, output)
        if self.comparable:
            of_teacher, of_student = thresholds
            if of_teacher is None:
                of_teacher = decision_threshold(self.teacher)
            if of_student is None:
                of_student = threshold
            self._thresholds = of_teacher, of_student
        self.bound = True

    def check_bound(self):
        """Raises if the losses have not met the networks yet."""
        if not self.bound:
            raise ValueError(
                "The losses are not built: these networks show their shapes "
                "only on data, and this kind of data could not be looked at "
                "before the first step. Call both networks on a batch of "
                "arrays with `distiller.train_on_batch(x, y)` first, or give "
                "a tf.data.Dataset, arrays, a PyDataset or a generator."
            )

    def agreement(self, teacher_output, student_output):
        """Where both networks decide alike: booleans, one per decision."""
        return same_decision(teacher_output, student_output, *self._thresholds)

    def compare(self, metric, teacher_output, student_output):
        """Updates a metric that compares the networks."""
        if self.bound and hasattr(metric, "thresholds"):
            if not self.comparable:
                shapes = keras.tree.map_structure(
                    lambda x: tuple(x.shape), [teacher_output, student_output]
                )
                raise ValueError(
                    f"The metric '{metric.name}' compares decisions between "
                    "the same classes. Received outputs of teacher and student "
                    f"of shapes {shapes}."
                )
            metric.thresholds = self._thresholds
        metric.update_state(teacher_output, student_output)

    def _warn_of_another_owner(self, name, loss):
        owner = _owners.get(loss, weakref.ref(self))()
        if owner is not None and owner is not self:
            warnings.warn(
                f"The loss '{name}' comes from another Distiller, with the "
                "weights that it has there; both change them. Make a new loss "
                "for each Distiller, unless this one goes on where the other "
                "ended.",
                stacklevel=4,
            )

    def _taps_of(self, role):
        names = []
        for loss in self.losses.values():
            wanted = getattr(loss, f"{role}_layer_name")
            names += [wanted] if isinstance(wanted, str) else wanted or []
        return list(dict.fromkeys(names))


def _same_scores(teacher_shape, student_shape):
    """Whether two output shapes are scores over the same classes."""
    nested = keras.tree.is_nested
    if not teacher_shape or nested(teacher_shape) or nested(student_shape):
        return False
    return (
        len(teacher_shape) == len(student_shape) >= 2
        and teacher_shape[-1] == student_shape[-1]
        and student_shape[-1] is not None
    )


def _check_still_fits(name, loss, *shapes):
    """Raises if a loss has weights of other shapes than these networks need."""
    before = (loss.get_build_config() or {}).get("shapes_dict")
    if before is None:
        return
    roles = "teacher", "student"
    for role, given in zip(roles, shapes, strict=True):
        old = before[f"{role}_shape"]
        if not _fit(old, given):
            raise ValueError(
                f"The weights of the loss '{name}' were made for a {role} that "
                f"gives {old}; this one gives {given}. Make a new loss and a "
                "new kd.Distiller for it."
            )


def _fit(old, new):
    """Whether shapes agree but for the batch, and where a size is known."""
    if old is None or new is None:
        return True
    if isinstance(new, dict):
        return all(_fit(old[key], new[key]) for key in new)
    return sizes_agree((None, *old[1:]), (None, *new[1:]))
