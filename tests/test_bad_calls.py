"""Every public call refuses what is no value of its arguments.

The table of calls is generated: for each parameter of each public callable, the
values of `WRONG` that its annotation does not allow. Each must raise a
`TypeError` or `ValueError` of this package that names the argument.
"""

import collections.abc
import functools
import inspect
import math
import tempfile
import traceback
import types
import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet

import keras_distill as kd

WRONG = {
    "a text": "no such choice",
    "an empty text": "",
    "None": None,
    "True": True,
    "2.5": 2.5,
    "NaN": math.nan,
    "infinity": math.inf,
    "1e300": 1e300,
    "-1": -1,
    "0": 0,
    "an object": object(),
    "no values": [],
    "texts": ["no such choice", "another"],
    "a list with NaN": [math.nan, 1.0],
    "a list with infinity": [1.0, math.inf],
    "a list with -1": [-1, 3],
    "a list with None": [None, None],
    "a dict": {"no such key": 1},
}

# Numbers of this name may be 0, and texts of this name are free.
MAY_BE_0 = (
    "alpha beta brightness clip_norm epoch feature_weight first_epoch fold "
    "gamma highways "
    "cross_entropy_weight dropout latency_runs logit_weight max_accuracy_drop "
    "momentum paraphraser_epochs seed warm_up warmup_steps weight_decay "
    "distillation_loss_weight distillation_loss_weights indent reserved "
    "per_class_drop share unlabelled start_step initial_epsilon "
    "decay sparsity strength layer_weights weights mask_ratio skew fraction"
).split()
FREE_TEXT = (
    "batch_norm_layer_name branch_from command exits feature_layer_name "
    "filepath files layer_names monitor name output output_layer_name path "
    "role student_layer_name teacher_classifier_layer_name teacher_layer_name "
    "title data_dir class_names directory shared_layers font_directory "
    "teacher_class_names version cache_directory projections training "
    "validation test"
).split()
# Of these annotations, or parameters, only the data can judge.
JUDGED_BY_DATA = "confidence correct custom_objects".split()


def images():
    return np.zeros((8, 8, 8, 3), "float32"), np.zeros(8, "int32")


@functools.cache
def network(name="network"):
    return convnet(name=name)


def mean_colours(images):
    return images.mean(axis=(1, 2))


@functools.cache
def samples():
    return tf.data.Dataset.from_tensor_slices(images())


def verification():
    row = {"file": "student", "accuracy": 1.0, "accuracy_drop_points": 0.0}
    return kd.export.Verification([row, row], 8, "output", 1, 50)


FOLDER = tempfile.TemporaryDirectory()

# The arguments that a call needs, of the kind that it takes.
NEEDED = {
    "teacher": lambda: network("teacher"),
    "student": lambda: network("student"),
    "model": network,
    "models": lambda: [network(), network("teacher")],
    "students": lambda: [network(), network("student")],
    "distillation_losses": kd.losses.SoftTargets,
    "teacher_layer_name": lambda: "conv1",
    "student_layer_name": lambda: "conv1",
    "exits": lambda: ["act1"],
    "branch_from": lambda: "act1",
    "dataset": samples,
    "x": lambda: images()[0],
    "images": lambda: images()[0],
    "y": lambda: images()[1],
    "data": samples,
    "batch": images,
    "validation_data": images,
    "image_size": lambda: 8,
    "source": lambda: FOLDER.name,
    "batch_size": lambda: 8,
    "samples": lambda: 8,
    "sample_count": lambda: 8,
    "n": lambda: 8,
    "generations": lambda: 1,
    "build_student": lambda: network,
    "learning_rate": lambda: 0.1,
    "peak_learning_rate": lambda: 0.1,
    "layers": lambda: keras.layers.RandomFlip(),
    "views": lambda: kd.views.Consistent(8),
    "confidence": lambda: [0.5, 0.6],
    "correct": lambda: [True, False],
    "kernel": lambda: np.zeros((2, 2)),
    "tasks": lambda: {"one": 1, "another": 2},
    "groups": lambda: 2,
    "sparsity": lambda: 0.1,
    "decay": lambda: 0.1,
    "strength": lambda: 0.1,
    "names": lambda: ["conv1"],
    "name": lambda: "name",
    "alpha": lambda: 1.0,
    "steps": lambda: 10,
    "warmup_steps": lambda: 2,
    "weight_decay": lambda: 0.1,
    "clip_norm": lambda: 1.0,
    "path": lambda: f"{FOLDER.name}/folder",
    "directory": lambda: f"{FOLDER.name}/backup",
    "filepath": lambda: f"{FOLDER.name}/student.tflite",
    "files": lambda: f"{FOLDER.name}/student.tflite",
    "networks": network,
    "function": lambda: mean_colours,
    "class_names": lambda: ["one", "another"],
    "teacher_class_names": lambda: ["one", "another"],
    "temperature": lambda: 1.0,
    "budget": lambda: {"macs": 1e5},
    "input_shape": lambda: (8, 8, 1),
    "classes": lambda: 10,
    "sequences": lambda: np.zeros((32, 4), "int32"),
    "vocabulary": lambda: 10,
    "training": lambda: "a text\n" * 600,
}
OF_ONE_CALL = {
    "kd.losses.EarlyExits.student_layer_name": ["act1", "conv2", "head"],
    "kd.losses.SelfAttention.student_layer_name": ["conv1", "conv2"],
    "kd.losses.FlowOfSolutionProcedure.student_layer_name": ["conv1", "act1"],
    "kd.losses.FlowOfSolutionProcedure.teacher_layer_name": ["conv1", "act1"],
    "kd.views.grouped_batches.batch_size": 16,
    "kd.report.write_report.path": f"{FOLDER.name}/report.html",
    "kd.datasets.load.split": "train",
    "kd.datasets.published.name": "pets",
    "kd.recipes.function_matching.samples": 8,
    "kd.recipes.Recipe.distillation_losses": {},
    "kd.Distiller.compile.loss": "mse",
    "kd.BlackBox.input_shape": (8, 8, 3),
    "kd.models.with_distillation_token.model": kd.models.vision_transformer(
        (8, 8, 1), 10, patch_size=4, width=4, depth=1, heads=2
    ),
    "kd.Teachers.teachers": {"a": network("teacher"), "b": network()},
    "kd.teachers.Combination.teachers": ["a", "b"],
}

# The kinds of arguments that are annotated with `Any`.
ANY = {
    "alpha": float,
    "distillation_loss_weight": float,
    "distillation_loss_weights": float | list[float] | None,
    "distillation_losses": dict,
    "input_signature": list | None,
    "interface": None,
    "views": None,
}

# Which calls are not made, and why.
NOT_CALLED = {
    "kd.datasets.Images": "a result",
    "kd.datasets.Published": "a result",
    "kd.datasets.LanguageModelData": "a result",
    "kd.datasets.Split": "a result",
    "kd.datasets.Text": "a result",
    "kd.calibration.Reliability": "a result",
    "kd.export.Verification": "a result",
    "kd.multitask.Inspection": "a result",
    "kd.export.ExportError": "an error",
    "kd.export.VerificationError": "an error",
    "kd.views.View": "a result",
    "kd.taps.Suggestion": "a result",
    "kd.models.Fitted": "a result",
    "kd.recipes.Settings": "a result",
    "kd.quantization.Recipe": "a result",
    "kd.quantization.Sensitivity": "a result",
    "kd.models.StandardizedConv2D": "Keras checks the arguments of Conv2D",
    "kd.losses.weighted_mean": "a function of tensors",
}
# Which values are not tried, and why.
KERAS = "Keras checks it"
NOT_TRIED = {
    "name": KERAS,
    "trainable": KERAS,
    "kd.losses.OverhauledFeature.margin": "a number up to 0",
    "kd.optimizers.DecoupledAdam.learning_rate": "0 at the start of a schedule",
    "kd.optimizers.Shampoo.learning_rate": "0 at the end of a schedule",
    "confidence": "data",
    "correct": "data",
    "custom_objects": KERAS,
}
# Values that are right beyond what the annotation says.
ALSO_RIGHT = {
    "layer_weights": {"2.5", "0"},  # One number for one pair of layers.
    "kd.MutualDistiller.distillation_losses": {"None"},
    "kd.pretrain.distillation_losses": {"None"},
    "kd.quantization.fine_tune.distillation_losses": {"None"},
    "kd.born_again.shared_layers": {"a text"},  # One layer.
    "mixup": {"None"},  # As `False`.
    "kd.recipes.on_policy.temperature": {"0"},  # The most probable token.
    "kd.recipes.on_policy.end_token": {"0"},  # A token like others.
    "kd.multitask.FeatureTransformation.epsilon": {"0"},
    "ignore_class": {"-1", "0"},  # Any class number.
    "kd.datasets.batches.seed": {"-1"},  # tf.data takes it.
    "kd.views.grouped_batches.seed": {"-1"},
    "teacher_layer_name": {"None"},  # The output of the network.
    "student_layer_name": {"None"},
    "kd.distill.skip": {"no values"},  # Nothing is left out.
    "kd.teachers.Combination.teachers": {"texts"},  # Looked up in Teachers.
    "kd.teachers.Combination.probabilities": {"no values"},  # All give logits.
    "kd.taps.Taps.names": {"no values", "texts"},  # Looked up in the model.
}


def public():
    """Yields the name and the object of every public callable."""
    seen = set()

    def walk(module, prefix):
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.ismodule(member):
                if hasattr(member, "__all__"):
                    yield from walk(member, f"{prefix}.{name}")
            elif callable(member) and id(member) not in seen:
                seen.add(id(member))
                yield f"{prefix}.{name}", member

    yield from walk(kd, "kd")
    for name, module in (("teachers", kd.teachers), ("recipes", kd.recipes)):
        for member_name, member in vars(module).items():
            ours = getattr(member, "__module__", "").startswith("keras_distill")
            if callable(member) and ours and member_name[0] != "_":
                if id(member) not in seen and inspect.getmodule(member) is (
                    module if name == "recipes" else inspect.getmodule(member)
                ):
                    seen.add(id(member))
                    yield f"kd.{name}.{member_name}", member


def distiller():
    return kd.Distiller(
        student=convnet(),
        teacher=network("teacher"),
        distillation_losses=kd.losses.SoftTargets(),
    )


# Methods: a function that gives the object, and their names.
METHODS = {
    "kd.Distiller": (distiller, ("compile", "set_teacher")),
    "kd.BeYourOwnTeacher": (
        lambda: kd.BeYourOwnTeacher(student=convnet(), exits="act1"),
        ("deployable_exits", "evaluate_exits"),
    ),
    "kd.NativeEnsembleDistiller": (
        lambda: kd.NativeEnsembleDistiller(
            student=convnet(), branch_from="act1"
        ),
        ("deployable_student",),
    ),
    "kd.MutualDistiller": (
        lambda: kd.MutualDistiller(students=[convnet(), convnet()]),
        ("deployable_student", "best_student", "best_student_name"),
    ),
    "kd.TeacherCache": (lambda: kd.TeacherCache, ("build",)),
    "kd.export.Verification": (verification, ("check",)),
    "kd.views.Mixup": (kd.views.Mixup, ()),
}


def methods():
    for name, (make, names) in METHODS.items():
        for method in names:
            yield f"{name}.{method}", getattr(make(), method)


def parameters_of(call):
    """The parameters, with those of base classes that `**kwargs` reach."""
    found = {}
    if not inspect.isclass(call):
        functions = [call]
    else:
        functions = [c.__init__ for c in call.__mro__ if "__init__" in vars(c)]
    for function in functions:
        goes_on = False
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind == parameter.VAR_KEYWORD:
                goes_on = True
            elif parameter.kind != parameter.VAR_POSITIONAL and name != "self":
                found.setdefault(name, parameter)
        if not goes_on:
            break
    return found


def members_of(annotation):
    if isinstance(annotation, types.UnionType) or (
        typing.get_origin(annotation) is typing.Union
    ):
        return [m for a in typing.get_args(annotation) for m in members_of(a)]
    return [annotation]


def allowed(value, member, name):
    """Whether a value is one of a member of the annotation's union."""
    origin = typing.get_origin(member) or member
    if member is None or member is type(None):
        return value is None
    if member is bool:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if member in (int, float):
        whole = isinstance(value, int)
        number = whole or (isinstance(value, float) and member is float)
        if not number or not abs(value) < 1e38:
            return False
        return value > 0 or (value == 0 and name in MAY_BE_0)
    if member is str:
        return isinstance(value, str) and bool(value) and name in FREE_TEXT
    if isinstance(value, str):
        return False
    if origin in (collections.abc.Sequence, list, tuple):
        inner = members_of((typing.get_args(member) or (typing.Any,))[0])
        return (
            isinstance(value, list)
            and bool(value)
            and all(any(allowed(v, m, name) for m in inner) for v in value)
        )
    if origin in (collections.abc.Mapping, dict):
        return isinstance(value, dict)
    return False


def table():
    for name, call in [*public(), *methods()]:
        if name in NOT_CALLED:
            continue
        for argument, parameter in parameters_of(call).items():
            keys = (argument, f"{name}.{argument}")
            members = members_of(ANY.get(argument, parameter.annotation))
            unknown = {inspect.Parameter.empty, typing.Any} & set(members)
            if unknown or set(keys) & set(NOT_TRIED):
                continue
            right = set().union(*(ALSO_RIGHT.get(key, ()) for key in keys))
            values = {
                label: value
                for label, value in WRONG.items()
                if label not in right
                and not any(allowed(value, m, argument) for m in members)
            }
            yield name, call, argument, values


ROWS = list(table())


def needed(name, call, argument):
    """The other arguments that the call cannot do without."""
    arguments = {}
    for other, parameter in parameters_of(call).items():
        key = f"{name}.{other}"
        optional = parameter.default is not parameter.empty
        if other == argument or (optional and key not in OF_ONE_CALL):
            continue
        if key in OF_ONE_CALL:
            arguments[other] = OF_ONE_CALL[key]
        else:
            arguments[other] = NEEDED[other]()
    return arguments


def problem_with(call, arguments, argument):
    """What is wrong with the answer to a bad call, or `None`."""
    try:
        call(**arguments)
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            return f"{type(error).__name__}: {error}"
        last = traceback.extract_tb(error.__traceback__)[-1]
        if "keras_distill" not in last.filename:
            return f"from {last.filename}:{last.lineno}: {error}"
        if argument not in str(error):
            return f"the argument is not named: {error}"
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


@pytest.mark.parametrize(
    "name, call, argument, values",
    [pytest.param(*row, id=f"{row[0]}-{row[2]}") for row in ROWS],
)
def test_what_is_no_value_of_an_argument(name, call, argument, values):
    others = needed(name, call, argument)
    problems = []
    for label, value in values.items():
        problem = problem_with(call, {**others, argument: value}, argument)
        if problem:
            problems.append(f"{argument}={label}: {problem[:300]}")
    assert not problems, "\n".join([name, *problems])
