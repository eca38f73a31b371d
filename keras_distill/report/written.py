"""How numbers and names are written, on the page and in its summary."""

# What a network is called, by its key or the key of its runs.
NAMES = {
    "teacher": "teacher",
    "alone": "student alone",
    "student": "student",
    "distilled": "student",
}


def class_name(facts, number):
    return facts["data"]["class_names"][number]


def number_of(facts, row):
    """What a class has, such as `"35 images"`."""
    number, things = row["samples"], facts["data"]["kind"]
    if facts["data"].get("weighted"):
        return f"a weight of {count(number)}"
    one = things.removesuffix("s") if number == 1 else things
    return f"{count(number)} {one}"


def contains_0(interval):
    """Whether a difference may be none."""
    return interval["low"] <= 0 <= interval["high"]


def difference_text(difference, whose=""):
    """A difference with its interval, and whether it is one at all."""
    points, low, high = (
        f"{100 * difference[key]:+.1f}" for key in ("difference", "low", "high")
    )
    text = f"{points} points{whose} (95\u00a0% interval {low} to {high})"
    if contains_0(difference):
        text += ", no difference that this test size can show"
    return text


def bounds(interval):
    """`[0.94, 0.981]` as `"94.0 to 98.1"`, in percent."""
    if interval is None:
        return "–"
    return "\u00a0to\u00a0".join(f"{100 * bound:.1f}" for bound in interval)


def times(ratio):
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def percent(share, digits=1):
    """`0.964` as `"96.4\u00a0%"`, one word; `None` as `"–"`."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def count(number):
    """`56778` as `"56,778"`."""
    if number is None:
        return "–"
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


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
