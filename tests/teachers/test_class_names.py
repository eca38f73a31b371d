"""The teacher's classes against those of the data."""

import re

import pytest

import keras_distill as kd

TEACHER = ["bird", "Golden_Retriever", "cat", "crane", "crane"]


@pytest.mark.parametrize(
    "teacher, data, expected",
    [
        (["a", "b"], ["a", "b"], None),
        (["a", "b"], ["A", "b"], None),
        (["a", "b"], ["b", "a"], [1, 0]),
        (["a", "A"], ["A", "a"], [1, 0]),
        (TEACHER, ["cat", "golden retriever"], [2, 1]),
        (TEACHER, ["bird", "golden-retriever", "cat"], [0, 1, 2]),
    ],
)
def test_a_map_of_classes(teacher, data, expected):
    assert kd.teachers.class_map(teacher, data) == expected


@pytest.mark.parametrize(
    "data, message",
    [
        (["cats", "bird"], "'cats': nearest is 'cat' (number 2).*=[2, 0]"),
        (["crane"], "(number 3), 'crane' (number 4).*class_map=[3]"),
        (["cat", "zebra"], "'zebra': nearest is nothing.*classes are ['bird'"),
        (["cat", "cat"], "class_names must differ"),
    ],
)
def test_classes_that_the_teacher_lacks(data, message):
    pattern = ".*".join(map(re.escape, message.split(".*")))
    with pytest.raises(ValueError, match=f"(?s){pattern}"):
        kd.teachers.class_map(TEACHER, data)


@pytest.mark.parametrize(
    "teacher, data, expected",
    [
        (["a", "b"], ["b", "zebra", "a"], [1, None, 0]),
        (["a", "b", "c"], ["c", "b"], [2, 1]),
        (["a", "b"], ["a", "b"], None),
    ],
)
def test_a_teacher_of_some_of_the_classes(teacher, data, expected):
    assert kd.teachers.class_map(teacher, data, partial=True) == expected


def test_what_a_teacher_lacks_may_be_a_slip():
    with pytest.warns(UserWarning, match="lacks .'cats'.*'cat'"):
        found = kd.teachers.class_map(
            TEACHER, ["bird", "cats", "golden retriever"], partial=True
        )
    assert found == [0, None, 1]
    with pytest.raises(ValueError, match="'zebra': nearest is nothing"):
        kd.teachers.class_map(TEACHER, ["zebra", "bird"], partial=True)
