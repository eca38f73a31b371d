"""What every distillation loss must hold, as one function per question.

`check_loss(make_loss, teacher_shape, student_shape)` asks them all. A loss that
cannot hold one of them by its definition says so in `skip=`, with the reason.

`make_loss(**kwargs)` returns a new loss; `dtype=`, `teacher_layer_name=` and
`student_layer_name=` are added here. A shape has the batch axis first; a dict
name -> shape stands for several taps.
"""

import contextlib
import dataclasses
import inspect
import json
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

HALF_PRECISION = ("float16", "bfloat16")


@dataclasses.dataclass
class LossCase:
    """A loss, and what it is shown.

    Args:
        make_loss: `functools.partial(SomeLoss, some_argument=...)`.
        teacher_shape: Shape of the teacher's tap, or dict name -> shape; `{}`
            for a loss that needs no teacher.
        student_shape: The same for the student.
        teacher_values: `function(generator, shape) -> array`, where normal
            numbers are not what the teacher gives (probabilities, say).
        student_values: The same for the student.
        teacher_activation: The activation of a teacher that gives these, in
            the small networks of `check_drop_in`.
        labels: `function(generator, batch) -> array` of what is passed as `y`.
            Given to losses that need labels; integers in [0, classes) if
            `None`, where the classes are the student's last axis.
        response: Whether it compares logits: then +-1e4 must stay finite, and
            weights per position are tried where there are positions.
        coupled: Whether samples see each other although the class is not
            marked so for all its arguments (batch normalization). `None`: as
            the loss says (`batch_coupled`).
        skip: Name of a check -> the reason why it cannot hold.
    """

    make_loss: Callable
    teacher_shape: tuple | dict
    student_shape: tuple | dict
    teacher_values: Callable | None = None
    student_values: Callable | None = None
    teacher_activation: str | None = None
    labels: Callable | None = None
    response: bool = False
    coupled: bool | None = None
    skip: dict = dataclasses.field(default_factory=dict)

    @property
    def several_taps(self):
        return isinstance(self.teacher_shape, dict)

    @property
    def batch(self):
        return _leaves(self.student_shape)[0][0]

    def taps(self):
        """Layer names as keyword arguments; none to compare the outputs."""
        if self.several_taps:
            names = {"student_layer_name": list(self.student_shape)}
            if self.teacher_shape:
                names["teacher_layer_name"] = list(self.teacher_shape)
            return names
        if self.response and self.teacher_shape == self.student_shape:
            return {}
        return {"teacher_layer_name": "tap", "student_layer_name": "tap"}

    def build(self, dtype="float32"):
        """A new loss with its connectors, the same ones at every call."""
        keras.utils.set_random_seed(0)
        loss = self.make_loss(dtype=dtype, **self.taps())
        loss.build(self.teacher_shape, self.student_shape)
        return loss

    def inputs(self, dtype="float32", seed=0):
        """Random taps: `(teacher, student)` tensors or dicts of tensors."""
        generator = np.random.default_rng(seed)

        def draw(shapes, values):
            values = values or _normal
            return _map(
                lambda shape: tf.constant(values(generator, shape), dtype),
                shapes,
            )

        return (
            draw(self.teacher_shape, self.teacher_values),
            draw(self.student_shape, self.student_values),
        )

    def extras(self, loss, seed=0):
        """`y=` and `sample_index=` for losses that need them."""
        generator = np.random.default_rng(seed)
        extras = {}
        if loss.needs_labels:
            labels = self.labels or self._integer_labels
            extras["y"] = tf.constant(labels(generator, self.batch))
        if loss.needs_sample_index:
            extras["sample_index"] = tf.range(self.batch)
        return extras

    def is_coupled(self, loss):
        return loss.batch_coupled if self.coupled is None else self.coupled

    def _integer_labels(self, generator, batch):
        shape = _leaves(self.student_shape)[-1]
        return generator.integers(0, shape[-1], (batch, *shape[1:-1]))


def check_loss(make_loss, teacher_shape, student_shape, **kwargs):
    """All checks of one loss. `**kwargs` are those of `LossCase`."""
    case = LossCase(make_loss, teacher_shape, student_shape, **kwargs)
    for name in checks(case):
        run_check(name, case)


def checks(case):
    """The names of the checks that ask something of this case."""
    return [n for n in CHECKS if n != "tap_order" or case.several_taps]


def run_check(name, case):
    """One check, unless the case says why it cannot hold."""
    if name not in case.skip:
        CHECKS[name](case)


# The checks.


def check_gradient(case):
    """The float64 gradient is the slope that finite differences see."""
    loss = case.build("float64")
    teacher, student = case.inputs("float64")
    extras = case.extras(loss)
    weights = np.linspace(0.5, 1.5, case.batch)
    variables = loss.trainable_variables
    start = [v.numpy() for v in variables]

    def value(taps):
        with _unchanged_state(loss):
            return float(
                loss.compute_loss(
                    teacher, taps, sample_weight=weights, **extras
                )
            )

    with _unchanged_state(loss):
        _, gradients = value_and_gradients(
            loss, teacher, student, sample_weight=weights, **extras
        )
    taps = [np.asarray(x) for x in _leaves(student)]
    sizes = [float(np.linalg.norm(gradient)) for gradient in gradients]
    reached = min(sizes[: len(taps)])
    assert reached > 1e-8, "no gradient reaches the student"
    # All taps and connectors move at once, those with small gradients further:
    # what is wrong in one must not hide behind the others.
    scales = [min(1 / (size + 1e-9), 10.0) for size in sizes]
    change = sum(scale * size for scale, size in zip(scales, sizes))
    generator = np.random.default_rng(1)
    step = 1e-6
    for _ in range(3):
        direction = [
            scale * generator.standard_normal(gradient.shape)
            for scale, gradient in zip(scales, gradients)
        ]
        slopes = []
        for sign in (1, -1):
            moved = [
                x + sign * step * d for x, d in zip([*taps, *start], direction)
            ]
            for variable, array in zip(variables, moved[len(taps) :]):
                variable.assign(array)
            slopes.append(
                value(_like(student, map(tf.constant, moved[: len(taps)])))
            )
        np.testing.assert_allclose(
            sum(np.sum(g * d) for g, d in zip(gradients, direction)),
            (slopes[0] - slopes[1]) / (2 * step),
            rtol=1e-6,
            atol=1e-6 * change + 1e-9,
            err_msg="slope",
        )
    for variable, array in zip(variables, start):
        variable.assign(array)


def check_half_precision(case):
    """Half-precision taps, and a half-precision policy, cost no accuracy.

    The value is that of the same numbers in float32; the gradient is that one
    rounded to half precision.
    """
    for half in HALF_PRECISION:
        with _policy(f"mixed_{half}"):
            loss = case.build()
        _assert_wide(loss)
        teacher, student = case.inputs(half)
        wide = [
            _map(lambda x: tf.cast(x, "float32"), t) for t in (teacher, student)
        ]
        extras = case.extras(loss)
        with _unchanged_state(loss):
            expected, expected_gradients = value_and_gradients(
                loss, *wide, **extras
            )
        with _unchanged_state(loss):
            value, gradients = value_and_gradients(
                loss, teacher, student, **extras
            )
        assert value.dtype == "float32", f"computed in {value.dtype}"
        assert np.isfinite(value)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7)
        _assert_close(gradients, expected_gradients, relative=2e-2, name=half)
        # Half the network in half precision: one tap in float32.
        with _unchanged_state(loss):
            mixed, _ = value_and_gradients(loss, wide[0], student, **extras)
        np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-7)


def check_extreme_values(case):
    """Zeros, equal taps and logits of +-1e4: finite value and gradient.

    Zeros and equal taps (a dead layer, a copied student) in float32 only: the
    slope there may rightly be more than float16 holds.
    """
    loss = case.build()
    teacher, student = case.inputs()
    tried = [("equal taps", student, student)]
    if case.teacher_shape != case.student_shape:
        tried.clear()
    for name, values, dtypes in (
        ("zeros", _zeros, ("float32",)),
        ("signs * 1e4", _signs, ("float32", *HALF_PRECISION)),
        ("one of 1e4", _one_hot, ("float32", *HALF_PRECISION)),
    ):
        if values is not _zeros and not case.response:
            continue
        extreme_case = dataclasses.replace(
            case,
            student_values=values,
            teacher_values=case.teacher_values or values,
        )
        for dtype in dtypes:
            ordinary, extreme = case.inputs(dtype), extreme_case.inputs(dtype)
            tried += [
                (f"{name} in both, {dtype}", extreme[0], extreme[1]),
                (f"{name} in the student, {dtype}", ordinary[0], extreme[1]),
                (f"{name} in the teacher, {dtype}", extreme[0], ordinary[1]),
            ]
    for name, teacher, student in tried:
        with _unchanged_state(loss):
            value, gradients = value_and_gradients(
                loss, teacher, student, **case.extras(loss)
            )
        assert np.isfinite(value), f"{name}: the loss is {value}"
        for gradient in gradients:
            gradient = gradient.astype("float32")
            assert np.isfinite(gradient).all(), f"{name}: gradient not finite"


def check_jit(case):
    """XLA, and a graph with unknown batch size, give what eager gives."""
    loss = case.build()
    teacher, student = case.inputs()
    extras = case.extras(loss)

    def compute(teacher, student, extras):
        return _value_and_gradients(loss, teacher, student, **extras)

    unknown_batch = _map(
        lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype),
        (teacher, student, extras),
    )
    results = {}
    for name, function in {
        "eager": compute,
        "XLA": tf.function(compute, jit_compile=True, autograph=False),
        "unknown batch": tf.function(compute, input_signature=unknown_batch),
    }.items():
        with _unchanged_state(loss):
            value, gradients = function(teacher, student, extras)
            state = [v.numpy() for v in loss.variables]
        results[name] = value, gradients, state
    expected, expected_gradients, expected_state = results.pop("eager")
    for name, (value, gradients, state) in results.items():
        np.testing.assert_allclose(
            value, expected, rtol=1e-4, atol=1e-7, err_msg=name
        )
        _assert_close(gradients, expected_gradients, relative=1e-4, name=name)
        for variable, wanted in zip(state, expected_state):
            np.testing.assert_allclose(
                variable, wanted, rtol=1e-5, atol=1e-6, err_msg=name
            )


def check_serialization(case):
    """The configuration, as JSON, gives back the same loss and connectors."""
    loss = case.build()
    config = loss.get_config()
    parameters = _constructor_arguments(type(loss))
    assert parameters <= set(config), (
        f"get_config lacks {parameters - set(config)}"
    )
    restored = json.loads(json.dumps(config))
    assert restored == _plain(config), "the configuration is not plain JSON"
    name = f"keras_distill>{type(loss).__name__}"
    assert keras.saving.get_registered_name(type(loss)) == name, (
        f"{name} is not registered"
    )

    from_config = type(loss).from_config(restored)
    from_config.build(case.teacher_shape, case.student_shape)
    serialized = json.dumps(keras.saving.serialize_keras_object(loss))
    deserialized = keras.saving.deserialize_keras_object(json.loads(serialized))
    if loss.weights:
        assert deserialized.weights, "connectors were not rebuilt"
    taps, extras = case.inputs(), case.extras(loss)
    with _unchanged_state(loss):
        expected = loss.compute_loss(*taps, **extras)
    for clone in (from_config, deserialized):
        assert type(clone) is type(loss)
        assert clone.get_config() == config
        assert clone.name == loss.name
        described = [(w.name, w.shape, w.dtype) for w in clone.weights]
        assert described == [(w.name, w.shape, w.dtype) for w in loss.weights]
        clone.set_weights(loss.get_weights())
        with _unchanged_state(clone):
            value = clone.compute_loss(*taps, **extras)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-9)


def check_sample_weight(case):
    """`sum(w * l) / batch`: Keras's reduction."""
    loss = case.build()
    teacher, student = case.inputs()
    extras = case.extras(loss)
    batch = case.batch

    def value(weight, keep=slice(None)):
        with _unchanged_state(loss):
            return float(
                loss.compute_loss(
                    _map(lambda x: x[keep], teacher),
                    _map(lambda x: x[keep], student),
                    sample_weight=weight,
                    **_map(lambda x: x[keep], extras),
                )
            )

    close = {"rtol": 1e-5, "atol": 1e-7}
    unweighted = value(None)
    np.testing.assert_allclose(value(np.ones(batch)), unweighted, **close)
    coupled = case.is_coupled(loss)
    if loss.batch_coupled:
        described = inspect.getdoc(type(loss))
        assert "cross_replica" in described
        there = "cross_replica" in loss.get_config()
        assert there or "no `cross_replica`" in described
    weights = np.linspace(0.0, 2.0, batch)  # the first sample is left out
    parts = np.array([value(row) for row in np.eye(batch)])
    np.testing.assert_allclose(value(weights), weights @ parts, **close)
    assert np.ptp(parts) > 1e-6, "weights make no difference"
    if not coupled:
        alone = [value(None, slice(i, i + 1)) for i in range(batch)]
        np.testing.assert_allclose(parts * batch, alone, **close)
    if case.response and not case.several_taps:
        _check_position_weights(case, loss, unweighted)


def _check_position_weights(case, loss, unweighted):
    """Weights per position of logits `(batch, ..., classes)`."""
    teacher, student = case.inputs()
    extras = case.extras(loss)
    positions = case.student_shape[:-1]
    weights = np.ones(positions)
    value = loss.compute_loss(teacher, student, sample_weight=weights, **extras)
    np.testing.assert_allclose(value, unweighted, rtol=1e-5, atol=1e-7)
    weights[(-1,) * len(positions)] = 0.0
    _, gradients = value_and_gradients(
        loss, teacher, student, sample_weight=weights, **extras
    )
    reached = np.any(gradients[0] != 0, axis=-1)
    np.testing.assert_array_equal(reached, weights > 0)


def check_drop_in(case):
    """It works unchanged in `keras.distillation.Distiller`.

    That one takes one tap per network and passes neither labels nor indices: a
    loss that needs more is refused by its own error, or is not tried here.
    """
    example = case.build()
    if example.needs_labels or example.needs_sample_index:
        return
    keras.utils.set_random_seed(0)
    names = case.taps()
    teacher = _network(
        case.teacher_shape,
        activation=case.teacher_activation,
        head=bool(names),
    )
    student = _network(case.student_shape, head=bool(names))
    loss = case.make_loss(**names)
    if case.several_taps:
        with pytest.raises(ValueError, match="kd.Distiller"):
            _stock_distiller(teacher, student, loss)
        return
    distiller = _stock_distiller(teacher, student, loss)
    distiller.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    ids = {id(v) for v in loss.trainable_variables}
    trained = [v for v in distiller.trainable_variables if id(v) in ids]
    assert len(trained) == len(example.trainable_variables), (
        f"{len(trained)} connectors were given to the optimizer"
    )
    before = [v.numpy() for v in trained]
    generator = np.random.default_rng(0)
    # Not batches of 2: relations between two samples alone can all be equal.
    x = generator.standard_normal((8, 5)).astype("float32")
    y = np.zeros((8, *student.output_shape[1:]), "float32")
    history = distiller.fit(x, y, batch_size=4, epochs=1, verbose=0).history
    assert np.isfinite(history["distillation_loss"]).all(), history
    assert history["distillation_loss"][0] != 0.0
    for variable, old in zip(trained, before):
        if len(variable.shape) > 1:
            change = np.abs(variable.numpy() - old).max()
            assert change > 0, f"{variable.path} was not trained"


def check_tap_order(case):
    """Several taps are told apart by name: a dict may be in any order."""
    loss = case.build()
    taps, extras = case.inputs(), case.extras(loss)
    reverse = [dict(reversed(x.items())) for x in taps]
    with _unchanged_state(loss):
        expected = loss.compute_loss(*taps, **extras)
    for teacher, student in ((reverse[0], taps[1]), (taps[0], reverse[1])):
        with _unchanged_state(loss):
            value = loss.compute_loss(teacher, student, **extras)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


CHECKS = {
    "gradient": check_gradient,
    "half_precision": check_half_precision,
    "extreme_values": check_extreme_values,
    "jit": check_jit,
    "serialization": check_serialization,
    "sample_weight": check_sample_weight,
    "drop_in": check_drop_in,
    "tap_order": check_tap_order,
}


# Helpers.


def value_and_gradients(loss, teacher, student, **kwargs):
    """NumPy value, and gradients by the student's taps, then connectors."""
    value, gradients = _value_and_gradients(loss, teacher, student, **kwargs)
    return value.numpy(), [g.numpy() for g in gradients]


def _value_and_gradients(loss, teacher, student, **kwargs):
    sources = [*_leaves(student), *(v.value for v in loss.trainable_variables)]
    with tf.GradientTape() as tape:
        tape.watch(_leaves(student))
        value = loss.compute_loss(teacher, student, **kwargs)
    assert value.shape == (), f"the loss has shape {value.shape}"
    # Without a teacher, layers may imitate one that gets no gradient itself.
    unconnected = "none" if loss.needs_teacher else "zero"
    gradients = tape.gradient(value, sources, unconnected_gradients=unconnected)
    missing = [i for i, g in enumerate(gradients) if g is None]
    assert not missing, f"no gradient for {missing} of {len(gradients)}"
    return value, gradients


def _stock_distiller(teacher, student, loss):
    return keras.distillation.Distiller(
        teacher=teacher,
        student=student,
        distillation_losses=loss,
        student_loss_weight=0.5,
    )


def _network(shapes, activation=None, head=True):
    """A Functional model with one layer of each name and shape.

    Its output is a small head on the last one, or this layer itself.
    """
    shapes = shapes if isinstance(shapes, dict) else {"tap": shapes}
    x = inputs = keras.Input((5,))
    for name, shape in shapes.items():
        x = keras.layers.Dense(int(np.prod(shape[1:])))(inputs)
        x = keras.layers.Reshape(shape[1:])(x)
        x = keras.layers.Activation(activation, name=name)(x)
    if head:
        x = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    return keras.Model(inputs, x)


@contextlib.contextmanager
def _policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def _unchanged_state(loss):
    """Puts moving statistics, memories and seeds back afterwards."""
    before = [v.numpy() for v in loss.variables]
    yield
    for variable, value in zip(loss.variables, before):
        variable.assign(value)


def _assert_wide(loss):
    for variable in loss.weights:
        assert variable.dtype not in HALF_PRECISION, (
            f"{variable.path} is {variable.dtype}"
        )


def _assert_close(gradients, expected, relative, name):
    """Each close relative to its largest entry (or to rounding of all)."""
    expected = [np.asarray(g).astype("float64") for g in expected]
    largest = [np.abs(g).max(initial=0.0) for g in expected]
    for index, (gradient, wanted) in enumerate(zip(gradients, expected)):
        np.testing.assert_allclose(
            np.asarray(gradient).astype("float64"),
            wanted,
            rtol=0,
            atol=relative * largest[index] + 1e-6 * max(largest) + 1e-9,
            err_msg=f"{name}: gradient {index}",
        )


def _constructor_arguments(cls):
    """Names of all arguments of the constructors of a loss."""
    names = set()
    for base in cls.__mro__:
        if base is keras.layers.Layer:
            break
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    return names


def _plain(structure):
    """Tuples as lists, as JSON gives them back."""
    if isinstance(structure, dict):
        return {key: _plain(value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_plain(value) for value in structure]
    return structure


def _normal(generator, shape):
    return generator.standard_normal(shape)


def _zeros(generator, shape):
    return np.zeros(shape)


def _signs(generator, shape):
    return 1e4 * generator.choice([-1.0, 1.0], shape)


def _one_hot(generator, shape):
    chosen = generator.integers(0, shape[-1], (*shape[:-1], 1))
    return 1e4 * (np.arange(shape[-1]) == chosen)


def _leaves(taps):
    return list(taps.values()) if isinstance(taps, dict) else [taps]


def _like(taps, leaves):
    leaves = list(leaves)
    return dict(zip(taps, leaves)) if isinstance(taps, dict) else leaves[0]


def _map(function, structure):
    """Maps over a shape or tensor, a dict of them, or a tuple of these."""
    if isinstance(structure, dict):
        return {name: _map(function, x) for name, x in structure.items()}
    if isinstance(structure, tuple) and not all(
        isinstance(n, int) for n in structure
    ):
        return tuple(_map(function, x) for x in structure)
    return function(structure)
