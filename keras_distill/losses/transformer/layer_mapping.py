"""Which layer of a teacher teaches which layer of its student."""

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import one_of
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import validated_taps

MAPPINGS = ("uniform", "last")


def mapped(teacher_names, student_names, layer_mapping, embeddings=False):
    """Leaves out the layers of a teacher that teach no layer of the student.

    Args:
        teacher_names: The taps of all layers, first to last.
        student_names: The same for the student.
        layer_mapping: `"uniform"`: of N layers, layer `m N / M`, rounded
            down, teaches layer m of M. `"last"`: the last M of them teach.
        embeddings: Whether the first tap of both is the embeddings, layer 0,
            which are always a pair.

    Returns:
        `(teacher_names, student_names)`, paired one to one. Lists of equal
        length are returned as they are.
    """
    one_of("layer_mapping", layer_mapping, MAPPINGS)
    checked_boolean("embeddings", embeddings)
    teacher_names = validated_taps(teacher_names, "teacher_layer_name")
    student_names = validated_taps(student_names, "student_layer_name")
    teachers, students = as_list(teacher_names), as_list(student_names)
    if len(teachers) == len(students):
        return teacher_names, student_names
    before = int(embeddings)
    n, m = len(teachers) - before, len(students) - before
    if not 0 < m <= n:
        raise ValueError(
            "Each layer of the student needs one of the teacher. Received: "
            f"teacher_layer_name={teachers}, student_layer_name={students}, "
            f"embeddings={embeddings}. Name fewer layers of the student, or "
            "as many layers of both, which are paired one to one."
        )
    if layer_mapping == "uniform":
        numbers = [k * n // m for k in range(1, m + 1)]
    else:
        numbers = list(range(n - m + 1, n + 1))
    chosen = [*range(before), *(number - 1 + before for number in numbers)]
    return [teachers[k] for k in chosen], student_names


def inside(names, parts):
    """Names parts of attention layers.

    Args:
        names: A name of an attention layer, or a list of names. Those that
            end in one of the parts stay as they are.
        parts: Names of layers, or of what can be tapped, inside of it.

    Returns:
        `"attention#1"` as `"attention/<part>#1"`, for each name and part; one
        name for one name and one part.
    """
    found = []
    for name in as_list(names):
        path, number, call = name.partition("#")
        if path.rpartition("/")[2] in parts:
            found.append(name)
        else:
            found += [f"{path}/{part}{number}{call}" for part in parts]
    return found if isinstance(names, list) or len(parts) > 1 else found[0]
