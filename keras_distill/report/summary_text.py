"""The summary: what the numbers say, in sentences; and how they are written."""

# What a network is called, by its key or the key of its runs.
NAMES = {
    "teacher": "teacher",
    "alone": "student alone",
    "student": "student",
    "distilled": "student",
}


def summary(facts):
    """Returns a list of sentences about the facts of a report."""
    sentences = [
        _file_sentence(facts),
        _student_sentence(facts),
        _gain_sentence(facts),
        _calibration_sentence(facts),
        _classes_sentence(facts),
    ]
    return [sentence for sentence in sentences if sentence]


def smallest_file(verification):
    """The row of the smallest exported file, or `None`."""
    rows = (verification or {}).get("rows", [])[1:]
    return min(rows, key=lambda row: row["size_bytes"]) if rows else None


def class_name(facts, number):
    return facts["data"]["class_names"][number]


def _file_sentence(facts):
    verification = facts.get("verification")
    row = smallest_file(verification)
    if row is None:
        return None
    things = facts["data"]["kind"]
    samples = verification["samples"]
    if row["accuracy"] is None:
        text = (
            f"The {row['file']} file decides like the Keras student on "
            f"{percent(row['agreement'])} of {count(samples)} {things}"
        )
    else:
        text = (
            f"The {row['file']} file is right on {percent(row['accuracy'])} "
            f"of {count(samples)} test {things}, "
            f"{_beside_student(row, samples, things)}"
        )
    text += f". It has {size(row['size_bytes'])}"
    largest = max(verification["rows"][1:], key=lambda r: r["size_bytes"])
    ratio = largest["size_bytes"] / row["size_bytes"]
    if ratio >= 1.05:
        text += f", {ratio:.1f} times less than {largest['file']}"
    return text + "."


def _beside_student(row, samples, things):
    drop = row["accuracy_drop_points"]
    number = abs(round(drop / 100 * samples))
    if not number:
        return "as many as the Keras student"
    side = "below" if drop > 0 else "above"
    one = things.removesuffix("s") if number == 1 else things
    return f"{abs(drop):.1f} points ({number:,} {one}) {side} the Keras student"


def _student_sentence(facts):
    networks, data = facts["networks"], facts["data"]
    student, teacher = networks["student"], networks.get("teacher")
    text = f"The student has {count(student['parameters'])} parameters"
    if teacher and student["parameters"]:
        ratio = teacher["parameters"] / student["parameters"]
        text += f", its teacher {count(teacher['parameters'])}"
        if ratio >= 1.5:
            text += f" ({_times(ratio)} as many)"
    text += (
        f". It is right on {percent(student['accuracy'])} of "
        f"{count(data['samples'])} test {data['kind']}"
    )
    if teacher and teacher.get("accuracy") is not None:
        text += (
            f", the teacher on {percent(teacher['accuracy'])}; they decide "
            f"alike on {percent(student['agreement_with_teacher'])}"
        )
    return text + "."


def _gain_sentence(facts):
    runs, networks = facts.get("runs"), facts["networks"]
    gain = runs and runs["gain"]
    if not gain:
        if "alone" not in networks:
            return None
        more = networks["student"]["accuracy"] - networks["alone"]["accuracy"]
        return (
            "The same network trained alone is right on "
            f"{percent(networks['alone']['accuracy'])}: {100 * more:+.1f} "
            "points for the student with a teacher, in one run, which does "
            "not say how certain that is."
        )
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
    elif gain["low"] <= 0 <= gain["high"]:
        text += ". The interval contains 0: the difference is not certain"
    return text + "."


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
    things = facts["data"]["kind"]
    names = [
        f"{class_name(facts, row['class'])} "
        f"({percent(row['agreement'])} of {count(row['samples'])} {things})"
        for row in apart[:3]
    ]
    words = names[0]
    if len(names) > 1:
        words = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"Student and teacher agree least on {words}."


def _times(ratio):
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def percent(share, digits=1):
    """`0.964` as `"96.4\u00a0%"`, one word; `None` as `"–"`."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def count(number):
    """`56778` as `"56,778"`."""
    return "–" if number is None else f"{number:,}"


def size(number_of_bytes):
    """`10034` as `"9.8\u00a0KiB"`."""
    if number_of_bytes is None:
        return "–"
    kib = number_of_bytes / 1024
    if kib < 1024:
        return f"{kib:,.1f}\u00a0KiB"
    return f"{kib / 1024:,.1f}\u00a0MiB"


def plus_minus(interval, sign=""):
    """What `runs.interval` returns as `"95.6\u00a0±\u00a01.1"`."""
    if interval is None:
        return "–"
    text = f"{100 * interval['mean']:{sign}.1f}"
    if interval["half_width"] is None:
        return text
    return f"{text}\u00a0±\u00a0{100 * interval['half_width']:.1f}"
