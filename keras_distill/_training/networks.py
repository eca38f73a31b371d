"""A student and its teacher as the losses see them."""

import contextlib
import warnings
import weakref

import keras
from keras import ops

from keras_distill._data.batch_fields import OF_TEACHERS
from keras_distill._data.for_network import for_network
from keras_distill._keras.layers import call_model
from keras_distill._keras.layers import clear_losses
from keras_distill._keras.masks import without_gradient
from keras_distill._shapes import sizes_agree
from keras_distill._training.comparing import check_channels_last
from keras_distill._training.comparing import check_task
from keras_distill._training.comparing import comparable_tasks
from keras_distill._training.comparing import maps_classes
from keras_distill._training.comparing import same_scores
from keras_distill._training.deployment import find_deployment
from keras_distill._training.outputs import ForwardOutputs
from keras_distill._training.teacher_pass import TeacherPass
from keras_distill._training.teachers_pass import TeachersPass
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import shape_list
from keras_distill.metrics.agreement import decision_threshold
from keras_distill.metrics.agreement import same_decision
from keras_distill.multitask.merging import merged
from keras_distill.taps.taps import Shape
from keras_distill.taps.taps import Taps
from keras_distill.teachers.roles import moving_teacher
from keras_distill.teachers.teachers import Teachers

# The `TeacherStudent` that uses a loss.
_owners: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class TeacherStudent:
    """Two networks with the taps that a set of losses needs.

    It is not a Keras object, so Keras does not follow it to the teacher: no
    checkpoint holds the teacher, and none of its weights is trained.

    Args:
        student: A `keras.Model`.
        losses: A dict name -> `DistillationLoss`.
        teacher_dtype: As in `kd.Distiller`.
        teacher_batch_size: As in `kd.Distiller`.

    Attributes:
        teacher: The teacher that runs, `None` without one.
        moving_teacher: The `kd.MovingAverageTeacher`, if it is one.
        deployment: The `Deployment` of the loss that decides what ships, or
            `None`: the student ships.
        bound: Whether the losses have met the networks and are built.
        comparable: Whether both outputs have the same classes and positions.
        thresholds: Where a head of one unit says yes, of teacher and student.
        comparable_tasks: A dict task -> `ComparableTask`, if the student's
            output is a dict.
        student_output_shape: The shape of what ships, once `bound`.
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
        for loss in losses.values():
            loss._remember_places("student", student)
        self.bound = False
        self.comparable = False
        self.thresholds = (0.0, 0.0)
        self.comparable_tasks = {}
        self.student_output_shape = None

    @property
    def needs_teacher(self):
        """Names of the losses that need a teacher."""
        return [n for n, loss in self.losses.items() if loss.needs_teacher]

    def set_teacher(self, teacher):
        moving = moving_teacher(teacher, self.student)
        teacher = teacher if moving is None else moving.network
        options = {
            "dtype": self.teacher_dtype,
            "batch_size": self.teacher_batch_size,
        }
        if isinstance(teacher, Teachers):
            losses = list(self.losses.values())
            self.run_teacher = TeachersPass(
                teacher, self.student, losses, **options
            )
        else:
            self.run_teacher = TeacherPass(
                teacher, self.student, self._taps_of("teacher"), **options
            )
        for loss in self.losses.values():
            loss._remember_places("teacher", teacher)
        self.teacher, self.moving_teacher = teacher, moving
        self.bound = False

    @property
    def teacher_taps(self):
        return self.run_teacher and self.run_teacher.taps

    def teacher_device(self):
        """The teacher's device if it is not the student's, else `None`."""
        return self.run_teacher and self.run_teacher.device()

    @contextlib.contextmanager
    def followed(self, optimizer):
        """A context for an update: a moving teacher follows the student."""
        if self.moving_teacher is None:
            yield
            return
        before = optimizer.iterations + 0  # A value, not the variable.
        yield
        # `iterations` counts no steps that accumulate or skip a gradient.
        moved = ops.greater(optimizer.iterations, before)
        self.moving_teacher.follow(self.student, moved)

    def student_pass(self, x, training):
        """Runs the student once.

        Returns:
            `ForwardOutputs`, or `Deployed` if a loss deploys more.
        """
        x = for_network(self.student, x, "student")
        outputs = ForwardOutputs(*self.student_taps(x, training=training))
        if self.deployment is None:
            return outputs
        return self.deployment.deployed(outputs, training)

    def deployed_output(self, x, training=None):
        """Runs what ships on the student's input."""
        if self.deployment is not None:
            self.deployment.check_built()
            return self.student_pass(x, training).output
        x = for_network(self.student, x, "student")
        return call_model(self.student, x, training)

    def deployable_student(self):
        """Returns what ships as one plain `keras.Model`."""
        if self.deployment is None:
            return merged(self.student)
        return merged(
            self.deployment.model(self.student, self.student_taps.layers)
        )

    def teacher_pass(
        self, x, outputs=None, own_precision=False, y=None, step=None
    ):
        """Runs the teacher in inference mode.

        Args:
            x: The teacher's view.
            outputs: The teacher's outputs if the data carries them
                (`batch_fields.Sample.teacher_outputs`): it does not run then.
            own_precision: Whether to ignore `teacher_dtype`.
            y: The labels, for combinations of several teachers.
            step: A function that returns the number of the step, in training.

        Returns:
            `ForwardOutputs`, `None` without a teacher.
        """
        context = {}
        if isinstance(self.run_teacher, TeachersPass):
            stored = outputs and outputs.get(OF_TEACHERS)
            context = {"stored": stored, "y": y, "step": step}
        if outputs is not None and OF_TEACHERS not in outputs:
            return ForwardOutputs(outputs.get("output"), outputs["taps"])
        if self.teacher is None:
            return None
        x = for_network(self.run_teacher.teacher, x, "teacher")
        outputs = self.run_teacher(x, own_precision, **context)
        if self.moving_teacher is not None:
            # The Distiller tracks it, but must not add its regularizers.
            clear_losses(self.teacher)
        return ForwardOutputs(*without_gradient(outputs))

    def bind_if_shapes_are_known(self):
        """Binds networks that have symbolic inputs; others wait for data."""
        teacher = self.run_teacher and self.run_teacher.shapes()
        if teacher is None and (self.run_teacher or self.needs_teacher):
            return
        student = self.student_taps.shapes()
        if student is not None:
            self.bind(
                teacher and ForwardOutputs(*teacher), ForwardOutputs(*student)
            )

    def bind(self, teacher, student, thresholds=(None, None)):
        """Shows each loss the models, and builds its connectors.

        Args:
            teacher: `ForwardOutputs` of shapes, or `None` without a teacher.
            student: `ForwardOutputs` of shapes.
            thresholds: Those of teacher and student, see `decision_threshold`;
                `None` stands for what the network shows.
        """
        networks = self.teacher, self.student
        for name, loss in self.losses.items():
            check_task(name, loss, teacher, student)
            loss.bind(self.teacher, self.student)
            shapes = (
                teacher and teacher.taps_for(loss),
                student.select(loss.student_layer_name, loss.task),
            )
            shapes = keras.tree.map_structure(
                lambda shape: shape and tuple(shape), shapes
            )
            check_channels_last(name, loss, shapes, networks)
            self._check_attention(name, loss, *shapes)
            if loss.built and loss.variables:
                _check_still_fits(name, loss, *shapes)
                self._warn_of_another_owner(name, loss)
            else:
                _build(name, loss, *shapes)
            loss._freeze_if_untrainable()
            _owners[loss] = weakref.ref(self)
        output, threshold = student.output, decision_threshold(self.student)
        if self.deployment is not None:
            output, threshold = self.deployment.shape(student), 0.0
        self.student_output_shape = output
        self.comparable_tasks = comparable_tasks(self, teacher, output)
        self.comparable = same_scores(
            teacher and teacher.output, output
        ) and not maps_classes(self.losses)
        if self.comparable:
            teacher_threshold, student_threshold = thresholds
            if teacher_threshold is None:
                teacher_threshold = decision_threshold(self.teacher)
            if student_threshold is None:
                student_threshold = threshold
            self.thresholds = teacher_threshold, student_threshold
        self.bound = True

    def _check_attention(self, name, loss, *shapes):
        """Raises if a loss would pool heads of attention like rows of a map."""
        taps = self.teacher_taps, self.student_taps
        names = loss.teacher_layer_name, loss.student_layer_name
        if None in names or not all(taps) or not all(shapes):
            return
        shapes = zip(*map(shape_list, shapes, names, ("teacher", "student")))
        for tapped, pair in zip(zip(*map(as_list, names)), shapes):
            scores = [t.gives_attention(n) for t, n in zip(taps, tapped)]
            if any(scores) and not sizes_agree(*pair):
                raise ValueError(
                    f"The loss '{name}' compares '{tapped[0]}' of the teacher, "
                    f"{pair[0]}, with '{tapped[1]}' of the student, {pair[1]}. "
                    "Attention scores are (batch, heads, queries, keys), and "
                    "heads cannot be averaged like the rows of a map. Give "
                    "both attention layers as many heads and positions, tap "
                    "the outputs of the attention layers, or, for other heads, "
                    "compare queries, keys and values: "
                    "kd.losses.AttentionRelation."
                )

    def compare_positions(self, teacher_shape, student_shape):
        """Compares the outputs' sizes on a batch; see `comparable`."""
        self.comparable = same_scores(teacher_shape, student_shape)

    def check_bound(self):
        """Raises if the losses have not met the networks yet."""
        if not self.bound:
            raise ValueError(
                "The losses are not built: these networks show their shapes "
                "only on data, and data of this kind cannot be looked at "
                "before the first step. Call `distiller.train_on_batch(x, y)` "
                "on a batch of arrays first, or pass a tf.data.Dataset, "
                "arrays, a PyDataset or a generator."
            )

    def agreement(self, teacher_output, student_output, task=None):
        """Returns booleans, one per decision: whether both decide alike."""
        thresholds = self.thresholds_of(task)
        return same_decision(teacher_output, student_output, *thresholds)

    def thresholds_of(self, task):
        """The `thresholds` of a task; `None` if there is one output."""
        if task is None:
            return self.thresholds
        return self.comparable_tasks[task].thresholds

    def check_comparable(self, metric, teacher_output, student_output):
        """Raises if a metric cannot compare these outputs, or their shapes."""
        shapes = keras.tree.map_structure(
            lambda x: Shape(getattr(x, "shape", x)),
            [teacher_output, student_output],
        )
        if not same_scores(*shapes) or maps_classes(self.losses):
            raise ValueError(
                f"The metric '{metric.name}' compares decisions between the "
                "same classes at the same positions. Received outputs of "
                f"teacher and student of shapes {shapes}"
                f"{', and a class_map' if maps_classes(self.losses) else ''}. "
                "Drop the metric, or, of a student with several outputs, give "
                "it for one of them: metrics={'<output>': [...]}."
            )

    def _warn_of_another_owner(self, name, loss):
        owner = _owners.get(loss, weakref.ref(self))()
        if owner is not None and owner is not self:
            warnings.warn(
                f"The loss '{name}' comes from another Distiller and brings "
                "its weights along: both Distillers train them. Make a new "
                "loss for each Distiller, unless this one continues where the "
                "other ended.",
                stacklevel=4,
            )

    def _taps_of(self, role):
        names = []
        for loss in self.losses.values():
            wanted = getattr(loss, f"{role}_layer_name")
            names += [wanted] if isinstance(wanted, str) else wanted or []
        return list(dict.fromkeys(names))


def _built_for(loss):
    """The shapes that a loss was built for, or `None`."""
    return (loss.get_build_config() or {}).get("shapes_dict")


def _build(name, loss, *shapes):
    """Builds a loss, unless it is built for these shapes already."""
    before = _built_for(loss)
    shapes = dict(zip(("teacher_shape", "student_shape"), shapes, strict=True))
    if before is not None and keras.tree.flatten(before) == keras.tree.flatten(
        shapes
    ):
        return
    try:
        loss.build(*shapes.values())
    except ValueError as error:
        # What Keras says of a layer that was built without weights.
        if "new elements of state" not in str(error):
            raise
        raise ValueError(
            f"The loss '{name}' needed no weights for {before}, and needs some "
            f"for {shapes}. Make a new loss and a new kd.Distiller for it."
        ) from error


def _check_still_fits(name, loss, *shapes):
    """Raises if the weights of a loss do not fit the shapes of the taps."""
    before = _built_for(loss)
    if before is None:
        return
    roles = "teacher", "student"
    for role, shape in zip(roles, shapes, strict=True):
        old = before[f"{role}_shape"]
        if not _fit(old, shape):
            raise ValueError(
                f"The weights of the loss '{name}' were made for a {role} that "
                f"gives {old}; this one gives {shape}. Make a new loss and a "
                "new kd.Distiller for it."
            )


def _fit(old, new):
    """Whether shapes agree, apart from the batch and unknown sizes."""
    if old is None or new is None:
        return True
    if isinstance(new, dict):
        return all(_fit(old[key], new[key]) for key in new)
    return sizes_agree((None, *old[1:]), (None, *new[1:]))
