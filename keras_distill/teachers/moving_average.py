"""A teacher made of the student's own past weights."""

import keras
from keras import ops

from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill._keras.layers import flatten_layers


@keras.saving.register_keras_serializable(package="keras_distill")
class MovingAverageTeacher(keras.Model):
    """The moving average of a student's weights, as its teacher.

        own_t = m_t * own_(t-1) + (1 - m_t) * student_t     after every update
        warm_up="average":     m_t = min(momentum, 1 - 1 / (t + 1))
        warm_up="tensorflow":  m_t = min(momentum, (1 + t) / (10 + t))
        warm_up=None:          m_t = momentum                    t = 1, 2, ...

    Pass it as `teacher=` of a `kd.Distiller`. It starts as a copy of the
    student. `t` counts the updates of the student's weights: a step in which
    the optimizer only accumulates gradients, or skips a gradient that
    overflowed (`LossScaleOptimizer`), leaves the average alone. Taps have the
    names of the student's layers.

    Trainable weights are averaged, as in the paper's code; all others are
    copied after every update. The moving statistics of batch normalization are
    averages already. Averaged again, they would lag twice, and the teacher,
    which runs in inference mode, would be far off in its first hundreds of
    steps. (The paper's teacher runs in training mode, on statistics of the
    batch.)

    Unlike other teachers it changes in training, so it is part of the
    Distiller: `save`, checkpoints and `kd.load_distiller(path)` include it, as
    `distiller.moving_teacher`. Under a `tf.distribute` strategy, make it inside
    the scope, like the student.

    Args:
        student: The built `keras.Model` whose weights are averaged. It is
            copied, and not changed.
        momentum: In [0, 1); 0 is the student after each update. Defaults to
            0.999 (the paper's, and its code's after the ramp-up).
        warm_up: `"average"` is the mean of all weights so far, until that
            weighs the past as `momentum` does; `"tensorflow"` is the rule of
            `tf.train.ExponentialMovingAverage`; or `None`. Defaults to
            `"average"`, as in the authors' PyTorch code.
        name: The name of the model.

    Attributes:
        network: The averaged network, an ordinary `keras.Model` to evaluate,
            save and export: `kd.export.export_model(teacher.network,
            "teacher.tflite")`.

    Input shapes:
        The inputs of the student.

    Raises:
        TypeError: If the student is not a `keras.Model`.
        ValueError: If `momentum` or `warm_up` is out of range, or the student
            is not built, cannot be copied, or has weights of half precision:
            steps of 1 - momentum vanish in it.

    Example:

    ```python
    distiller = kd.Distiller(
        student=student,
        teacher=kd.MovingAverageTeacher(student, momentum=0.99),
        distillation_losses=kd.losses.SoftTargets(),
    )
    distiller.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    distiller.fit(dataset, verbose=0)
    averaged = distiller.moving_teacher.network
    ```

    Reference:
        Tarvainen and Valpola, "Mean teachers are better role models", 2017,
        eq. 1.
    """

    def __init__(
        self,
        student: keras.Model,
        momentum: float = 0.999,
        *,
        warm_up: str | None = "average",
        name: str = "moving_average_teacher",
    ):
        super().__init__(name=name)
        self.momentum = checked_number(
            "momentum", momentum, "[0, 1)", hint="usually 0.99 to 0.9999"
        )
        self.warm_up = one_of(
            "warm_up", warm_up, ("average", "tensorflow", None)
        )
        self.network = copy_of(student)
        self.steps = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", name="steps"
        )
        self.trainable = False
        self.built = True

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)

    def follow(self, student, moved):
        """Updates the average; the training step calls it.

        Args:
            student: The student, after the optimizer.
            moved: Scalar boolean: whether the optimizer moved its weights.
        """
        check_replicated(self.steps)
        self.steps.assign_add(ops.cast(moved, "int32"))
        share = ops.where(moved, 1.0 - self.current_momentum(), 0.0)
        for own, new in zip(self.network.weights, student.weights, strict=True):
            if new.trainable:
                part = ops.cast(share, own.dtype)
                own.assign((1.0 - part) * own + part * new)
            else:
                own.assign(ops.where(moved, new, own))

    def current_momentum(self):
        """Returns `m_t` of the latest update."""
        t = ops.cast(self.steps, "float32")
        if self.warm_up == "average":
            return ops.minimum(self.momentum, 1.0 - 1.0 / (t + 1.0))
        if self.warm_up == "tensorflow":
            return ops.minimum(self.momentum, (1.0 + t) / (10.0 + t))
        return ops.cast(self.momentum, "float32")

    def get_config(self):
        return {
            "student": configuration_of(self.network),
            "momentum": self.momentum,
            "warm_up": self.warm_up,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        student = config.pop("student")
        student = keras.saving.deserialize_keras_object(student)
        return cls(student, **config)


def configuration_of(model):
    """Returns a model's configuration without what it was compiled with."""
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    return config


def copy_of(model):
    """Returns a second model with the same layers, names and weights."""
    checked_model("student", model)
    # Classes that were never registered are found all the same.
    known = {type(x).__name__: type(x) for x in flatten_layers(model)}
    copy, problem = None, None
    try:
        copy = keras.saving.deserialize_keras_object(
            configuration_of(model), custom_objects=known, safe_mode=False
        )
    except Exception as error:
        problem = error
    shapes = [tuple(v.shape) for v in model.weights]
    if copy is None or [tuple(v.shape) for v in copy.weights] != shapes:
        reason = str(problem or "the copy has other weights").strip()
        reason = " ".join(reason.split("\n\n")[0].split())
        raise ValueError(
            f"The student '{model.name}' could not be copied by its "
            f"configuration: {reason} A "
            "subclassed model needs `get_config` with its arguments, and "
            "`build(input_shape)` if the layers inside of it make their "
            "weights when called."
        ) from problem
    half = [v.path for v in model.weights if v.dtype in ("float16", "bfloat16")]
    if half:
        raise ValueError(
            f"The weights of '{model.name}' have half precision, in which a "
            f"moving average stands still: {half[:3]}. Use a mixed policy "
            '(keras.DTypePolicy("mixed_float16")), which keeps them in float32.'
        )
    copy.set_weights(model.get_weights())
    return copy


def check_replicated(variable):
    """Raises for a variable that several replicas would all write to."""
    import tensorflow as tf

    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    own = isinstance(variable.value, tf.distribute.DistributedValues)
    if replicas > 1 and not own:
        raise ValueError(
            f"The moving-average teacher was made outside of the strategy, so "
            f"its weights would be updated {replicas} times a step. Make it "
            "inside `with strategy.scope():`, after the student."
        )
