"""What every loss must hold: one row per loss and way to use it.

A new loss needs a row in `CASES`; `test_every_public_loss_has_a_row` says so.
"""

import functools
import inspect
import pathlib
import re

import feature_cases
import keras
import numpy as np
import pytest
import relation_cases
import reuse_cases
import tensorflow as tf
import transformer_cases
from keras import ops
from loss_checks import LossCase
from loss_checks import check_loss
from loss_checks import checks
from loss_checks import run_check

from keras_distill import losses
from keras_distill.losses.ops.elementwise import same_precision

SOURCES = pathlib.Path(losses.__file__).parent


def softmax(generator, shape):
    p = np.exp(generator.standard_normal(shape))
    return p / p.sum(axis=-1, keepdims=True)


def sigmoid(generator, shape):
    return 1.0 / (1.0 + np.exp(-generator.standard_normal(shape)))


def response(loss, teacher=(3, 7), student=None, values=None, **kwargs):
    """A row for a loss of logits; `values` is the teacher's activation."""
    return LossCase(
        functools.partial(loss, **kwargs),
        teacher,
        student or teacher,
        teacher_values=values,
        teacher_activation=values and values.__name__,
        response=True,
    )


def features(loss, teacher, student=None, coupled=None, **kwargs):
    """A row for a loss of feature maps, of one tap or a dict of taps."""
    return LossCase(
        functools.partial(loss, **kwargs),
        teacher,
        student or teacher,
        coupled=coupled,
    )


SOFT = functools.partial(response, losses.SoftTargets)
JSD = functools.partial(response, losses.JensenShannon)
SKEW = functools.partial(response, losses.SkewKL)
MSE = functools.partial(response, losses.LogitsMSE)
HARD = functools.partial(response, losses.HardLabels)
HINT = functools.partial(features, losses.Hint)
ATTENTION = functools.partial(features, losses.AttentionTransfer)

MAP = (3, 4, 4, 5)
# Not in alphabetical order: the order of the taps is that of the arguments.
TEACHER_TAPS = {"late": (3, 4, 4, 5), "early": (3, 8, 8, 4)}
STUDENT_TAPS = {"deep": (3, 4, 4, 3), "above": (3, 8, 8, 2)}

CASES = {
    "soft_targets": SOFT(),
    "soft_targets_reverse": SOFT(direction="reverse", temperature=2.0),
    "soft_targets_cross_entropy": SOFT(form="cross_entropy", temperature=2.0),
    "soft_targets_unscaled": SOFT(scale_by_temperature_squared=False),
    "soft_targets_cold": SOFT(temperature=0.5),
    "soft_targets_standardize": SOFT(standardize=True, temperature=2.0),
    "soft_targets_probabilities": SOFT(
        values=softmax, teacher_probabilities=True
    ),
    "soft_targets_probabilities_reverse": SOFT(
        values=softmax, teacher_probabilities=True, direction="reverse"
    ),
    "soft_targets_as_given": SOFT(
        values=softmax, teacher_probabilities="as_given"
    ),
    "soft_targets_as_given_cross_entropy": SOFT(
        values=softmax,
        form="cross_entropy",
        teacher_probabilities="as_given",
        scale_by_temperature_squared=False,
    ),
    "soft_targets_sigmoid": SOFT(activation="sigmoid"),
    "soft_targets_sigmoid_reverse": SOFT(
        activation="sigmoid", direction="reverse"
    ),
    "soft_targets_sigmoid_cross_entropy": SOFT(
        activation="sigmoid", form="cross_entropy"
    ),
    "soft_targets_sigmoid_probabilities": SOFT(
        values=sigmoid, activation="sigmoid", teacher_probabilities=True
    ),
    "soft_targets_sigmoid_as_given": SOFT(
        values=sigmoid, activation="sigmoid", teacher_probabilities="as_given"
    ),
    "soft_targets_binary": SOFT((3, 1), activation="sigmoid"),
    "soft_targets_class_map": SOFT((3, 7), (3, 4), class_map=[6, 0, 3, 2]),
    "soft_targets_class_map_as_given": SOFT(
        (3, 7),
        (3, 4),
        values=softmax,
        class_map=[6, 0, 3, 2],
        teacher_probabilities="as_given",
    ),
    "soft_targets_sequence": SOFT((3, 4, 5)),
    "soft_targets_map": SOFT((3, 2, 3, 4), form="cross_entropy"),
    "jensen_shannon": JSD(),
    "jensen_shannon_beta": JSD((3, 4, 5), beta=0.1, temperature=2.0),
    "jensen_shannon_0": JSD(beta=0),
    "jensen_shannon_1": JSD(beta=1),
    "jensen_shannon_as_given": JSD(
        values=softmax, teacher_probabilities="as_given"
    ),
    "jensen_shannon_sigmoid": JSD(activation="sigmoid"),
    "skew_kl": SKEW(),
    "skew_kl_reverse": SKEW((3, 4, 5), direction="reverse", temperature=2.0),
    "skew_kl_0": SKEW(skew=0),
    "skew_kl_class_map": SKEW((3, 7), (3, 4), class_map=[6, 0, 3, 2]),
    "logits_mse": MSE(),
    "logits_mse_mean": MSE(class_reduction="mean"),
    "logits_mse_regression": MSE((3, 1), regression=True),
    "logits_mse_class_map": MSE((3, 7), (3, 2), class_map=[6, 1]),
    "logits_mse_sequence": MSE((3, 4, 5)),
    "hard_labels": HARD(),
    "hard_labels_sigmoid": HARD(activation="sigmoid"),
    "hard_labels_class_map": HARD((3, 7), (3, 4), class_map=[6, 0, 3, 2]),
    "hard_labels_map": HARD((3, 2, 3, 4)),
    "hint": HINT(MAP),
    "hint_auto_conv1x1": HINT(MAP, (3, 4, 4, 3)),
    "hint_auto_dense": HINT((3, 7), (3, 4)),
    "hint_auto_dense_sequence": HINT((3, 4, 7), (3, 4, 5)),
    "hint_auto_vector": HINT((3, 6), (3, 4, 4, 5)),
    "hint_none": HINT(MAP, regressor=None),
    "hint_conv1x1": HINT(MAP, regressor="conv1x1"),
    "hint_dense": HINT(MAP, (3, 4, 4, 3), regressor="dense"),
    "hint_conv_bn_relu": HINT(
        MAP, (3, 4, 4, 3), regressor="conv_bn_relu", coupled=True
    ),
    "hint_paper": HINT(MAP, (3, 4, 4, 3), form="paper"),
    "hint_larger_student": HINT((3, 3, 4, 5), (3, 5, 8, 3)),
    "hint_larger_teacher": HINT((3, 7, 5, 3), (3, 3, 4, 3)),
    "hint_layers": HINT(TEACHER_TAPS, STUDENT_TAPS, layer_weights=[1.0, 0.3]),
    "hint_layers_bn": HINT(
        TEACHER_TAPS, STUDENT_TAPS, regressor="conv_bn_relu", coupled=True
    ),
    "attention_transfer": ATTENTION(MAP, (3, 4, 4, 2)),
    "attention_transfer_code": ATTENTION(MAP, (3, 4, 4, 2), form="code"),
    "attention_transfer_signed": ATTENTION(MAP, power=1),
    "attention_transfer_power_4": ATTENTION(MAP, form="code", power=4),
    "attention_transfer_larger_student": ATTENTION((3, 3, 4, 5), (3, 5, 8, 3)),
    "attention_transfer_layers": ATTENTION(
        TEACHER_TAPS, STUDENT_TAPS, layer_weights=[0.3, 1.0]
    ),
    "attention_transfer_layers_code": ATTENTION(
        TEACHER_TAPS, STUDENT_TAPS, form="code"
    ),
    **relation_cases.CASES,
    **feature_cases.CASES,
    **reuse_cases.CASES,
    **transformer_cases.CASES,
}


# What compiles or fits runs in CI for one row of each class, for all weekly.
WEEKLY_BUT_ONE = ("jit", "drop_in")
# What arguments change, CI asks of every row, and the rest nightly. Logits
# have extremes of their own, and weights per position.
OF_EVERY_ROW = ("gradient", "serialization", "tap_order")
OF_LOGITS = ("extreme_values", "sample_weight")
# XLA compiles one loss of each kind; minutes for all.
XLA_IN_CI = (
    "soft_targets",
    "hint",
    "relational_distance",
    "contrastive_representation",
    "knowledge_review",
)


def rows():
    """Every variant with every check. The first row of a class is fast."""
    seen = set()
    for name, case in CASES.items():
        first = case.make_loss.func not in seen
        seen.add(case.make_loss.func)
        for check in checks(case):
            marks = []
            if check == "jit" and first and name not in XLA_IN_CI:
                marks = [pytest.mark.nightly]
            elif first:
                marks = [pytest.mark.slow] * (check in WEEKLY_BUT_ONE)
            elif check in WEEKLY_BUT_ONE:
                marks = [pytest.mark.weekly]
            elif check in OF_EVERY_ROW + OF_LOGITS * case.response:
                marks = [pytest.mark.slow]
            else:
                marks = [pytest.mark.nightly]
            yield pytest.param(case, check, marks=marks, id=f"{name}-{check}")


@pytest.mark.parametrize("case, check", list(rows()))
def test_loss(case, check):
    if check in case.skip:
        pytest.skip(case.skip[check])
    run_check(check, case)


def test_every_public_loss_has_a_row():
    public = {getattr(losses, name) for name in losses.__all__}
    bases = {losses.DistillationLoss, losses.LayerPairLoss}
    wanted = {
        x
        for x in public - bases
        if inspect.isclass(x) and issubclass(x, losses.DistillationLoss)
    }
    assert wanted
    missing = wanted - {case.make_loss.func for case in CASES.values()}
    assert not missing, f"add a row to CASES for {missing}"


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=str)
def test_losses_use_public_keras_only(path):
    assert not backend_bound(path.read_text())


def backend_bound(source):
    """Lines that tie a file to TensorFlow or to Keras's private modules."""
    pattern = (
        r"\b(import|from)\s+(tensorflow|tf)\b|keras\.src|['\"]tensorflow\."
    )
    return [line for line in source.splitlines() if re.search(pattern, line)]


# The checks: each one must see the mistake that it is there for.


registered = keras.saving.register_keras_serializable(package="keras_distill")


@registered
class Correct(losses.DistillationLoss):
    """Mean of the squares, and a connector: one factor per channel."""

    def __init__(self, *, factor=0.5, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, teacher_shape, student_shape):
        self.scale = self.add_weight(
            name="scale",
            shape=(1, student_shape[-1]),
            initializer=keras.initializers.Constant(self.factor),
        )

    def values(self, teacher, student):
        teacher, student = same_precision(teacher, student)
        scale = ops.cast(self.scale, student.dtype)
        return ops.mean(ops.square(teacher - scale * student), axis=-1)

    def compute_loss(
        self,
        teacher_outputs,
        student_outputs,
        y=None,
        sample_weight=None,
        sample_index=None,
    ):
        values = self.values(teacher_outputs, student_outputs)
        return self.factor * losses.weighted_mean(values, sample_weight)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class WrongGradient(Correct):
    def values(self, teacher, student):
        return super().values(teacher, student + ops.stop_gradient(student))


class NoGradient(Correct):
    def values(self, teacher, student):
        return super().values(teacher, ops.stop_gradient(student))


class ZeroGradient(Correct):
    def values(self, teacher, student):
        return super().values(teacher, 0.0 * student)


class WrongConnectorGradient(Correct):
    def values(self, teacher, student):
        frozen = ops.stop_gradient(ops.convert_to_tensor(self.scale))
        return super().values(teacher, student * frozen)


class ComputedInHalf(Correct):
    def values(self, teacher, student):
        difference = ops.cast(teacher, student.dtype) - student
        scale = ops.cast(self.scale, student.dtype)
        return ops.mean(ops.square(difference * scale), axis=-1)


class RoundedToHalf(Correct):
    def values(self, teacher, student):
        values = super().values(teacher, student)
        if "16" in student.dtype.name:
            values = ops.cast(ops.cast(values, student.dtype), "float32")
        return values


class HalfConnector(Correct):
    def build(self, teacher_shape, student_shape):
        self.scale = self.add_weight(
            name="scale",
            shape=(1, student_shape[-1]),
            dtype=keras.config.dtype_policy().compute_dtype,
        )


class Overflows(Correct):
    def values(self, teacher, student):
        return ops.log(ops.exp(super().values(teacher, student)))


class InfiniteSlope(Correct):
    def values(self, teacher, student):
        return ops.sqrt(super().values(teacher, student))


class NotCompiled(Correct):
    def values(self, teacher, student):
        values = super().values(teacher, student)
        tf.debugging.assert_all_finite(
            tf.numpy_function(np.copy, [values], values.dtype), "not finite"
        )
        return values


class WrongInGraph(Correct):
    def values(self, teacher, student):
        factor = 1.0 if tf.executing_eagerly() else 1.001
        return factor * super().values(teacher, student)


class NeedsStaticBatch(Correct):
    def values(self, teacher, student):
        return super().values(teacher, student) * student.shape[0] / 3


@registered
class ForgetsArgument(Correct):
    def get_config(self):
        return losses.DistillationLoss.get_config(self)


@registered
class ForgetsValue(Correct):
    def get_config(self):
        return {**super().get_config(), "factor": 1.0}


@registered
class NotJSON(Correct):
    def get_config(self):
        return {**super().get_config(), "factor": np.float32(self.factor)}


@registered
class NotRebuilt(Correct):
    def build_from_config(self, config):
        pass


class NotRegistered(Correct):
    pass


class IgnoresWeights(Correct):
    def compute_loss(self, *args, sample_weight=None, **kwargs):
        return super().compute_loss(*args, **kwargs)


class DividesByWeights(Correct):
    def compute_loss(self, *args, sample_weight=None, **kwargs):
        loss = super().compute_loss(
            *args, sample_weight=sample_weight, **kwargs
        )
        return loss if sample_weight is None else loss / sample_weight.mean()


class Coupled(Correct):
    def values(self, teacher, student):
        values = super().values(teacher, student)
        return values * ops.mean(values)


class WeightsPerSampleOnly(Correct):
    def compute_loss(self, *args, sample_weight=None, **kwargs):
        if sample_weight is not None and sample_weight.ndim > 1:
            sample_weight = sample_weight.mean(axis=1)
        return super().compute_loss(
            *args, sample_weight=sample_weight, **kwargs
        )


class FrozenInStock(Correct):
    def validate_model_compatibility(self, teacher, student):
        super().validate_model_compatibility(teacher, student)
        self.trainable = False


class NaNInStock(Correct):
    def validate_model_compatibility(self, teacher, student):
        super().validate_model_compatibility(teacher, student)
        self.scale.assign(self.scale * np.nan)


class NotBuiltInStock(Correct):
    def validate_model_compatibility(self, teacher, student):
        pass


class OrderOfTheDict(losses.Hint):
    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        teacher, student = teacher_outputs.values(), student_outputs.values()
        return super().compute_loss(list(teacher), list(student), **kwargs)


# A broken loss, the check that must see it, and what that must say.
BROKEN = [
    (WrongGradient, "gradient", "slope"),
    (NoGradient, "gradient", "no gradient for"),
    (ZeroGradient, "gradient", "no gradient reaches"),
    (WrongConnectorGradient, "gradient", "slope"),
    (ComputedInHalf, "half_precision", "computed in float16"),
    (RoundedToHalf, "half_precision", "Not equal to tolerance rtol=1e-05"),
    (HalfConnector, "half_precision", "scale is float16"),
    (Overflows, "extreme_values", "signs .* the loss is inf"),
    (InfiniteSlope, "extreme_values", "zeros .* gradient not finite"),
    (NotCompiled, "jit", "PyFunc"),
    (WrongInGraph, "jit", "XLA"),
    (NeedsStaticBatch, "jit", "None"),
    (ForgetsArgument, "serialization", "get_config lacks .'factor'"),
    (ForgetsValue, "serialization", "Not equal to tolerance"),
    (NotJSON, "serialization", "not JSON serializable"),
    (NotRebuilt, "serialization", "connectors were not rebuilt"),
    (NotRegistered, "serialization", "is not registered"),
    (IgnoresWeights, "sample_weight", "Not equal to tolerance"),
    (DividesByWeights, "sample_weight", "Not equal to tolerance"),
    (Coupled, "sample_weight", "Not equal to tolerance"),
    (WeightsPerSampleOnly, "sample_weight", "Arrays are not equal"),
    (FrozenInStock, "drop_in", "0 connectors were given to the optimizer"),
    (NaNInStock, "drop_in", "nan"),
    (NotBuiltInStock, "drop_in", "0 connectors were given to the optimizer"),
]


@pytest.mark.slow
def test_a_correct_loss_passes():
    check_loss(Correct, (3, 4), (3, 4), response=True)
    check_loss(Correct, (3, 2, 4), (3, 2, 4), response=True)
    check_loss(Correct, (3, 2, 4), (3, 2, 4))


@pytest.mark.parametrize("loss, check, message", BROKEN)
def test_a_broken_loss_is_caught(loss, check, message):
    case = LossCase(loss, (3, 2, 4), (3, 2, 4), response=True)
    with pytest.raises(Exception, match=message):
        run_check(check, case)


@pytest.mark.slow
def test_a_mixed_up_tap_is_caught():
    same = {"a": (3, 4, 4, 5), "b": (3, 4, 4, 5)}
    check_loss(losses.Hint, same, same)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        run_check("tap_order", LossCase(OrderOfTheDict, same, same))


def test_backend_bound_lines_are_seen():
    assert backend_bound("    import tensorflow as tf")
    assert backend_bound("from keras.src import backend")
    assert not backend_bound("from keras import ops  # not tensorflow")
