"""What Keras keeps private is read in _keras/ and nowhere else."""

import ast
import functools
import importlib
import inspect
import pathlib
import re

import keras
import pytest

import keras_distill

ROOT = pathlib.Path(keras_distill.__file__).parent
FILES = [
    path
    for path in sorted(ROOT.rglob("*.py"))
    if "_keras" not in path.relative_to(ROOT).parts
]
PRIVATE = re.compile(r"_[a-z]\w*")
# Functions that take the name of an attribute as a string.
BY_NAME = {"getattr", "setattr", "hasattr", "delattr", "intercepted"}
PRIVATE_MODULES = ("keras.src", "tensorflow.python")
# Where TensorFlow keeps what headers list beside Keras's names.
PRIVATE_OF_TENSORFLOW = (
    "tensorflow.python.data.ops.dataset_ops",
    "tensorflow.python.data.ops.shuffle_op",
)
# Not Keras's: a method that `collections.namedtuple` documents.
DOCUMENTED = {"_asdict", "_replace", "_fields"}


def tree_of(path):
    return ast.parse(path.read_text(), str(path))


def is_own(node):
    """Whether an expression is `self`, `cls` or `super()`."""
    return ast.unparse(node) in ("self", "cls", "super()")


def names_by_string(call):
    """Private names among the string arguments of `getattr` and the like."""
    if isinstance(call.func, ast.Attribute):
        name = call.func.attr
    else:
        name = getattr(call.func, "id", None)
    if name not in BY_NAME | {"__setattr__", "__delattr__"}:
        return
    for argument in call.args:
        if isinstance(argument, ast.Constant):
            if PRIVATE.fullmatch(str(argument.value)):
                yield argument.value


def names_read(tree):
    """Private names that are read of another object than `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            if not is_own(node.value):
                yield node.attr
        elif isinstance(node, ast.Call):
            yield from names_by_string(node)


def names_defined(tree):
    """Private names of functions, modules and attributes that are ours."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute):
            if isinstance(node.ctx, ast.Store) and is_own(node.value):
                yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@pytest.fixture(scope="module")
def trees():
    return {path.relative_to(ROOT): tree_of(path) for path in FILES}


@pytest.fixture(scope="module")
def ours(trees):
    own_trees = [*trees.values(), *map(tree_of, (ROOT / "_keras").glob("*.py"))]
    return {name for tree in own_trees for name in names_defined(tree)}


@functools.cache
def private_names_in(base):
    """Private names that one class of Keras defines or sets."""
    source = inspect.getsource(base)
    return set(re.findall(r"(?:self\.|def )(_[a-z]\w*)", source))


def private_names_of(cls):
    """The same of all classes of Keras that a class inherits from."""
    bases = [b for b in cls.__mro__ if b.__module__.startswith("keras.")]
    return set().union(*map(private_names_in, bases))


@pytest.fixture(scope="module")
def keras_names():
    """Private names of the objects that Keras hands to its users."""
    classes = [
        keras.Sequential,
        keras.Variable,
        keras.KerasTensor,
        keras.Loss,
        keras.Metric,
        keras.callbacks.Callback,
        keras.layers.BatchNormalization,
        keras.optimizers.SGD,
        keras.mixed_precision.LossScaleOptimizer,
    ]
    return set.union(*map(private_names_of, classes))


def test_nobody_else_reads_a_private_name_of_keras(trees, ours, keras_names):
    foreign = {
        f"{path}: {name}"
        for path, tree in trees.items()
        for name in names_read(tree)
        if name not in DOCUMENTED and (name in keras_names or name not in ours)
    }
    assert not foreign, "Move these to keras_distill/_keras/."


def test_no_class_of_ours_touches_what_its_keras_bases_keep_private(trees):
    touched = set()
    for path, tree in trees.items():
        name = ".".join(("keras_distill", *path.with_suffix("").parts))
        for node in tree.body:
            if not isinstance(node, ast.ClassDef) or not node.bases:
                continue
            cls = getattr(importlib.import_module(name), node.name)
            private = private_names_of(cls)
            for part in ast.walk(node):
                own = None
                if isinstance(part, ast.FunctionDef):
                    own = part.name
                elif isinstance(part, ast.Attribute) and is_own(part.value):
                    own = part.attr
                if own in private:
                    touched.add(f"{path}: {node.name}.{own}")
    assert not touched, "See keras_distill/_keras/trainer.py."


def test_nobody_else_imports_a_private_module(trees):
    imported = set()
    for path, tree in trees.items():
        for node in ast.walk(tree):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            elif isinstance(node, ast.Attribute):
                modules = [ast.unparse(node)]
            imported.update(
                f"{path}: {module}"
                for module in modules
                if module.startswith((*PRIVATE_MODULES, "sys.modules"))
            )
    assert not imported


@pytest.mark.parametrize(
    "path", sorted((ROOT / "_keras").glob("*.py")), ids=lambda path: path.name
)
def test_a_header_lists_all_that_its_file_relies_on(path, ours):
    tree = tree_of(path)
    header = ast.get_docstring(tree)
    listed = set(re.findall(r"`[\w.]+\.(_[a-z]\w*)`", header))
    read = set(names_read(tree)) - DOCUMENTED
    own = set(names_defined(tree)) - listed
    assert read - own <= listed
    if listed:
        assert "3.12.4 and 3.15.1" in header


def test_this_keras_has_all_names_in_the_headers():
    root = pathlib.Path(keras.__file__).parent / "src"
    source = "".join(path.read_text() for path in root.rglob("*.py"))
    for module in PRIVATE_OF_TENSORFLOW:
        source += inspect.getsource(importlib.import_module(module))
    words = set(re.findall(r"\b_[a-z]\w*", source))
    listed = {
        name
        for path in (ROOT / "_keras").glob("*.py")
        for name in re.findall(
            r"`\w+\.(_[a-z]\w*)`", ast.get_docstring(tree_of(path))
        )
    }
    assert listed and listed <= words
