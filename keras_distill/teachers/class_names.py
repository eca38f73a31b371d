"""Which of a teacher's classes are those of the data."""

import difflib
import warnings
from collections.abc import Sequence

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_strings


class LackedClasses(ValueError):
    """Classes of the data that the teacher does not surely have.

    Attributes:
        differences: What is missing and what is nearest, without advice.
    """

    def __init__(self, differences, advice):
        super().__init__(f"{differences}\n{advice}")
        self.differences = differences


def class_map(
    teacher_class_names: Sequence[str],
    class_names: Sequence[str],
    *,
    partial: bool = False,
) -> list[int | None] | None:
    """Finds the data's classes among the teacher's, by name.

    Upper case, underscores and hyphens do not count where that leaves no
    doubt: "Golden_Retriever" is "golden retriever".

    Args:
        teacher_class_names: The teacher's classes, in the order of its output.
        class_names: The classes of the data, in the order of the labels.
        partial: Whether the teacher may lack classes of the data: `None`
            stands for those. If it has a name like a missing one, a warning
            says so. Defaults to `False`.

    Returns:
        The `class_map=` of losses on outputs (`kd.losses.SoftTargets`): for
        each class of the data the teacher's number. `None` if both have the
        same classes in the same order, and nothing is to be mapped.

    Raises:
        ValueError: If the teacher lacks a class. The message proposes the
            nearest names, and a `class_map` if each class has one. With
            `partial`, if it has less than two of the classes, or a name twice.

    Example:

    ```python
    kd.teachers.class_map(["bird", "cat", "dog"], ["dog", "cat"])  # [2, 1]
    kd.teachers.class_map(
        ["cat", "dog"], ["bird", "cat", "dog"], partial=True
    )  # [None, 0, 1]
    ```
    """
    checked_boolean("partial", partial)
    theirs = checked_strings("teacher_class_names", teacher_class_names)
    ours = checked_strings("class_names", class_names)
    twice = sorted({name for name in ours if ours.count(name) > 1})
    if twice:
        raise ValueError(f"class_names must differ. More than once: {twice}")
    if theirs == ours:
        return None
    numbers = [_numbers(name, theirs) for name in ours]
    if partial:
        _check_partial(theirs, ours, numbers)
        mapped = [found[0] if found else None for found in numbers]
        return None if mapped == list(range(len(theirs))) else mapped
    if any(len(found) != 1 for found in numbers):
        raise _unknown(theirs, ours, numbers)
    mapped = [found[0] for found in numbers]
    return None if mapped == list(range(len(theirs))) else mapped


def _numbers(name, theirs):
    """Returns the numbers of the teacher's classes that have a name."""
    exact = [i for i, other in enumerate(theirs) if other == name]
    if exact:
        return exact
    plain = _plain(name)
    return [i for i, other in enumerate(theirs) if _plain(other) == plain]


def _plain(name):
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _check_partial(theirs, ours, numbers):
    """Raises or warns if what the teacher lacks may be a mistake."""
    twice = [name for name, found in zip(ours, numbers) if len(found) > 1]
    if twice or sum(map(bool, numbers)) < min(2, len(ours)):
        raise _unknown(theirs, ours, numbers)
    near = {
        name: [theirs[i] for i in _near(name, theirs)]
        for name, found in zip(ours, numbers)
        if not found and _near(name, theirs)
    }
    if near:
        warnings.warn(
            f"class_map: the teacher lacks {list(near)}, but has names like "
            f"them: {near}. If these are meant, rename the classes.",
            stacklevel=3,
        )


def _near(name, theirs):
    """Returns the numbers of the teacher's classes with a name like this."""
    plain = [_plain(other) for other in theirs]
    near = difflib.get_close_matches(_plain(name), plain, n=3)
    return list(dict.fromkeys(map(plain.index, near)))


def _unknown(theirs, ours, numbers):
    """Returns the error for classes that the teacher does not surely have."""
    lines, proposed = [], []
    for name, found in zip(ours, numbers):
        if len(found) == 1:
            proposed += found
            continue
        near = found or _near(name, theirs)
        proposed += near[:1]
        nearest = ", ".join(f"{theirs[i]!r} (number {i})" for i in near)
        lines.append(f"  {name!r}: nearest is {nearest or 'nothing'}")
    message = [
        f"class_names: {len(lines)} of the {len(ours)} classes of the data are "
        f"not surely among the teacher's {len(theirs)}:",
        *lines[:20],
        *(["  ..."] if len(lines) > 20 else []),
    ]
    if len(proposed) == len(ours):
        advice = (
            f"If these are meant, pass class_map={proposed} to the losses on "
            "outputs, or rename the classes."
        )
    else:
        message.append(
            f"The teacher's classes are {theirs[:20]}"
            f"{' ...' if len(theirs) > 20 else ''}."
        )
        advice = (
            "Rename the classes, take a teacher that knows them, or let it "
            "teach the classes that it has: partial=True."
        )
    return LackedClasses("\n".join(message), advice)
