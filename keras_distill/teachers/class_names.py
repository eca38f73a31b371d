"""Which of a teacher's classes are those of the data."""

import difflib
from collections.abc import Sequence

from keras_distill._arguments import checked_strings


def class_map(
    teacher_class_names: Sequence[str], class_names: Sequence[str]
) -> list[int] | None:
    """Finds the data's classes among the teacher's, by name.

    Upper case, underscores and hyphens do not count where that leaves no
    doubt: "Golden_Retriever" is "golden retriever".

    Args:
        teacher_class_names: The teacher's classes, in the order of its output.
        class_names: The classes of the data, in the order of the labels.

    Returns:
        The `class_map=` of losses on outputs (`kd.losses.SoftTargets`): for
        each class of the data the teacher's number. `None` if both have the
        same classes in the same order, and nothing is to be mapped.

    Raises:
        ValueError: If the teacher lacks a class. The message proposes the
            nearest names, and a `class_map` if each class has one.

    Example:

    ```python
    kd.teachers.class_map(["bird", "cat", "dog"], ["dog", "cat"])  # [2, 1]
    ```
    """
    theirs = checked_strings("teacher_class_names", teacher_class_names)
    ours = checked_strings("class_names", class_names)
    twice = sorted({name for name in ours if ours.count(name) > 1})
    if twice:
        raise ValueError(f"class_names must differ. More than once: {twice}")
    if theirs == ours:
        return None
    numbers = [_numbers(name, theirs) for name in ours]
    if any(len(found) != 1 for found in numbers):
        raise ValueError(_proposal(theirs, ours, numbers))
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


def _proposal(theirs, ours, numbers):
    """Returns the message for classes that the teacher does not surely have."""
    plain = [_plain(name) for name in theirs]
    lines, proposed = [], []
    for name, found in zip(ours, numbers):
        if len(found) == 1:
            proposed += found
            continue
        near = difflib.get_close_matches(_plain(name), plain, n=3)
        near = found or list(dict.fromkeys(map(plain.index, near)))
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
        message.append(
            f"If these are meant, pass class_map={proposed} to the losses on "
            "outputs, or rename the classes."
        )
    else:
        message.append(
            f"The teacher's classes are {theirs[:20]}"
            f"{' ...' if len(theirs) > 20 else ''}. Rename the classes, or "
            "take a teacher that knows them."
        )
    return "\n".join(message)
