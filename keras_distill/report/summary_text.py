"""The summary: what the numbers say, in sentences."""

from keras_distill.report.written import NAMES
from keras_distill.report.written import bounds
from keras_distill.report.written import class_name
from keras_distill.report.written import contains_0
from keras_distill.report.written import count
from keras_distill.report.written import difference_text
from keras_distill.report.written import number_of
from keras_distill.report.written import percent
from keras_distill.report.written import plus_minus
from keras_distill.report.written import size
from keras_distill.report.written import times


def summary(facts):
    """Returns a list of sentences about the facts of a report."""
    sentences = [
        _imbalance_sentence(facts),
        _file_sentence(facts),
        _student_sentence(facts),
        _overlap_sentence(facts),
        _aware_sentence(facts),
        _alone_sentence(facts),
        _runs_sentence(facts),
        _exported_sentence(facts),
        _recall_sentence(facts),
        _calibration_sentence(facts),
        _classes_sentence(facts),
    ]
    return [sentence for sentence in sentences if sentence]


def smallest_file(verification):
    """The row of the smallest exported file, or `None`."""
    rows = (verification or {}).get("rows", [])[1:]
    return min(rows, key=lambda row: row["size_bytes"]) if rows else None


def _imbalanced(facts):
    return facts["data"].get("imbalanced", False)


def _share(facts):
    """Key of the share that the summary is about."""
    return "balanced_accuracy" if _imbalanced(facts) else "accuracy"


def _decisions(facts):
    data = facts["data"]
    return data.get("decisions", data["samples"])


def _imbalance_sentence(facts):
    if not _imbalanced(facts):
        return None
    majority = facts["data"]["majority"]
    return (
        "The classes are imbalanced: always answering "
        f"“{class_name(facts, majority['class'])}” would be right on "
        f"{percent(majority['accuracy'])}. So this summary speaks of the "
        "balanced accuracy, the mean of the recall of all classes "
        f"({percent(majority['balanced_accuracy'])} for that answer)."
    )


def _file_sentence(facts):
    verification = facts.get("verification")
    row = smallest_file(verification)
    if row is None:
        return None
    things = facts["data"]["kind"]
    samples = verification.get("positions") or verification["samples"]
    if row["accuracy"] is None:
        text = (
            f"The {row['file']} file decides like the Keras student on "
            f"{percent(row['agreement'])} of {count(samples)} {things}"
        )
    elif _imbalanced(facts) and row.get("balanced_accuracy") is not None:
        drop = (
            verification["rows"][0]["balanced_accuracy"]
            - row["balanced_accuracy"]
        )
        text = (
            f"The {row['file']} file has a balanced accuracy of "
            f"{percent(row['balanced_accuracy'])} on {count(samples)} test "
            f"{things}, {_points_beside_student(100 * drop)}"
        )
    else:
        text = (
            f"The {row['file']} file is right on {percent(row['accuracy'])} "
            f"of {count(samples)} test {things}, "
            f"{_beside_student(row, samples, facts['data'])}"
        )
    text += f". It has {size(row['size_bytes'])}"
    largest = max(verification["rows"][1:], key=lambda r: r["size_bytes"])
    ratio = largest["size_bytes"] / row["size_bytes"]
    if ratio >= 1.05:
        text += f", {ratio:.1f} times less than {largest['file']}"
    return text + "."


def _beside_student(row, samples, data):
    drop, things = row["accuracy_drop_points"], data["kind"]
    if data.get("weighted"):  # points are no numbers of samples then
        return _points_beside_student(drop)
    number = abs(round(drop / 100 * samples))
    if not number:
        return "as many as the Keras student"
    side = "below" if drop > 0 else "above"
    one = things.removesuffix("s") if number == 1 else things
    return f"{abs(drop):.1f} points ({number:,} {one}) {side} the Keras student"


def _points_beside_student(drop):
    if abs(drop) < 0.05:
        return "the same as the Keras student"
    side = "below" if drop > 0 else "above"
    return f"{abs(drop):.1f} points {side} the Keras student"


def _student_sentence(facts):
    networks = facts["networks"]
    student, teacher = networks["student"], networks.get("teacher")
    text = f"The student has {count(student['parameters'])} parameters"
    if teacher and teacher["parameters"] and student["parameters"]:
        ratio = teacher["parameters"] / student["parameters"]
        text += f", its teacher {count(teacher['parameters'])}"
        if ratio >= 1.5:
            text += f" ({times(ratio)} as many)"
    share, things = _share(facts), facts["data"]["kind"]
    number = count(_decisions(facts))
    if _imbalanced(facts):
        text += f". Its balanced accuracy is {percent(student[share])} on"
    else:
        text += f". It is right on {percent(student[share])} of"
    text += f" {number} test {things}"
    if student.get(f"{share}_interval"):
        interval = bounds(student[f"{share}_interval"])
        text += f" (95\u00a0% interval {interval})"
    if teacher and teacher.get("accuracy") is not None:
        the = "the teacher's" if _imbalanced(facts) else "the teacher on"
        text += (
            f", {the} {percent(teacher[share])}; they decide "
            f"alike on {percent(student['agreement_with_teacher'])}"
        )
    return text + "."


def _overlap_sentence(facts):
    """Mean IoU of the student, the teacher and the smallest file."""
    networks = facts["networks"]
    share = networks["student"].get("mean_iou")
    if share is None:
        return None
    text = f"Its mean intersection over union is {percent(share)}"
    for key in ("teacher", "alone"):
        other = networks.get(key, {}).get("mean_iou")
        if other is not None:
            text += f", the {NAMES[key]}'s {percent(other)}"
    row = smallest_file(facts.get("verification"))
    if row is not None and row.get("mean_iou") is not None:
        text += f", that of the {row['file']} file {percent(row['mean_iou'])}"
    return f"{text}."


def _aware_sentence(facts):
    bits = facts["networks"]["student"].get("weight_bits")
    if not bits:
        return None
    return (
        "It computes as its int8 file does: with weights of "
        f"{' and '.join(map(str, bits))} bits, and with ranges of activations "
        "that were trained with it."
    )


def _alone_sentence(facts):
    """The student beside the same network trained alone, on the same data."""
    networks, share = facts["networks"], _share(facts)
    gain = (facts.get("runs") or {}).get("gain")
    if "alone" not in networks or (gain and not _imbalanced(facts)):
        return None
    alone = networks["alone"][share]
    more = networks["student"][share] - alone
    text = "The same network trained alone "
    if _imbalanced(facts):
        text += f"has a balanced accuracy of {percent(alone)}"
    else:
        text += f"is right on {percent(alone)}"
    whose = " for the student with a teacher"
    difference = facts.get("differences", {}).get("alone")
    if difference is None:
        return f"{text}: {100 * more:+.1f} points{whose}."
    return (
        f"{text}: {difference_text(difference[share], whose)}. One run does "
        "not say what another training would give."
    )


def _runs_sentence(facts):
    runs = facts.get("runs")
    gain = runs and runs["gain"]
    if not gain:
        return None
    number = len(gain["values"])
    text = (
        f"The teacher changed its accuracy by {plus_minus(gain, sign='+')} "
        f"points against the same network alone ({number}\u00a0run"
    )
    if gain["low"] is not None:
        text += (
            f"s, 95\u00a0% interval {100 * gain['low']:+.1f} to "
            f"{100 * gain['high']:+.1f}"
        )
    text += ")"
    if runs["gap_closed"] is not None and runs["gap_closed"] > 0:
        text += f", {percent(runs['gap_closed'], 0)} of the way"
        text += " to the teacher's"
    if gain["low"] is None:
        text += ". One run does not say how certain that is"
    elif contains_0(gain):
        text += ". The interval contains 0: the difference is not certain"
    if _imbalanced(facts):
        text += ". These runs do not say what became of the small classes"
    return text + "."


def _exported_sentence(facts):
    """Which of several runs the student is: the best is not the mean."""
    runs = facts.get("runs") or {}
    exported, mean = runs.get("exported"), runs.get("accuracy", {})
    if not exported:
        return None
    mean = mean["distilled"]
    number, expected = len(mean["values"]), f"{plus_minus(mean)}\u00a0%"
    if exported["run"] is None:
        return (
            f"Which of the {number}\u00a0runs this student is, is not known. "
            f"The best of several is not the mean: {expected}."
        )
    text = f"This student is run {exported['run'] + 1} of {number}"
    if exported["seed"] is not None:
        text += f" (seed {exported['seed']})"
    if exported["is_best"]:
        return (
            f"{text}, the best with {percent(exported['accuracy'])}. The best "
            "of several is not the mean: of another training expect "
            f"{expected}."
        )
    return (
        f"{text}, with an accuracy of {percent(exported['accuracy'])}; the "
        f"mean of all is {expected}."
    )


def _recall_sentence(facts):
    """The class that the student finds less often than another network."""
    differences = facts.get("differences") or {}
    other = "alone" if "alone" in differences else "teacher"
    fallen = differences.get(other, {}).get("lowest_recall")
    if not fallen or (contains_0(fallen) and not _imbalanced(facts)):
        return None
    (row,) = (r for r in facts["classes"] if r["class"] == fallen["class"])
    return (
        f"Against the {NAMES[other]}, the recall of "
        f"{class_name(facts, row['class'])} fell most: from "
        f"{percent(row[other])} to {percent(row['student'])} of "
        f"{number_of(facts, row)}, {difference_text(fallen)}."
    )


def _calibration_sentence(facts):
    student = facts["networks"]["student"]
    over = student["mean_confidence"] - student["accuracy"]
    text = (
        f"It is {percent(student['mean_confidence'])} confident on average "
        f"and right on {percent(student['accuracy'])}"
    )
    if abs(over) >= 0.005:
        kind = "over" if over > 0 else "under"
        text += f", {kind}confident by {100 * abs(over):.1f} points"
    return (
        f"{text}; the expected calibration error is "
        f"{percent(student['expected_calibration_error'])}."
    )


def _classes_sentence(facts):
    apart = [row for row in facts["classes"] if row.get("agreement", 1) < 1]
    if not apart:
        return None
    names = [
        f"{class_name(facts, row['class'])} "
        f"({percent(row['agreement'])} of {number_of(facts, row)})"
        for row in apart[:3]
    ]
    words = names[0]
    if len(names) > 1:
        words = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"Student and teacher agree least on {words}."
