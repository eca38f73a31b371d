"""The page: one HTML file that needs nothing else."""

from keras_distill.report import sections
from keras_distill.report.curves import training
from keras_distill.report.html import element
from keras_distill.report.html import join
from keras_distill.report.html import table
from keras_distill.report.samples import classes
from keras_distill.report.samples import disagreements
from keras_distill.report.samples import views
from keras_distill.report.style import CSS

# A configuration of a deep model is long; report.json has all of it.
_LONGEST_VALUE = 600
_TITLES = {
    "summary": "Summary",
    "files": "Files",
    "networks": "Networks",
    "training": "Training",
    "calibration": "Calibration",
    "classes": "Classes",
    "disagreements": "Disagreements",
    "views": "Inputs",
    "origin": "How it was made",
}


def page(facts, pictures):
    """A report as HTML text.

    Args:
        facts: The numbers: what report.json holds.
        pictures: `"disagreements"`: one `<img>` or `None` for each;
            `"views"`: a dict role -> list of `<img>`.
    """
    made = {
        "summary": sections.summary(facts),
        "files": sections.files(facts),
        "networks": sections.networks(facts),
        "training": training(facts),
        "calibration": sections.calibration(facts),
        "classes": classes(facts),
        "disagreements": disagreements(facts, pictures["disagreements"]),
        "views": views(facts, pictures["views"]),
        "origin": origin(facts),
    }
    made = {key: part for key, part in made.items() if part is not None}
    links = [
        element("li", element("a", _TITLES[key], href=f"#{key}"))
        for key in made
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element(
            "meta",
            name="viewport",
            content="width=device-width, initial-scale=1",
        ),
        element("title", facts["title"]),
        element("style", sections.Markup(CSS)),
    )
    header = element(
        "header",
        element("h1", facts["title"]),
        element(
            "p",
            f"keras_distill {facts['versions']['keras_distill']}, "
            f"{facts['date'][:10]}",
            class_="quiet",
        ),
        element(
            "nav", element("ul", links), aria_label="Sections of this report"
        ),
    )
    footer = element(
        "footer",
        "Every number of this page is in ",
        element("code", facts["numbers"]),
        ", which lies beside it.",
    )
    body = element("body", header, element("main", list(made.values())), footer)
    document = element("html", head, body, lang="en")
    return join([sections.Markup("<!DOCTYPE html>\n"), document, "\n"])


def origin(facts):
    """Configuration, versions, seeds, machine and command."""
    configuration = facts["configuration"]
    content = [_losses(configuration.get("distillation_losses"))]
    rows = [
        [key.replace("_", " "), _value(value)]
        for key, value in configuration.items()
        if key != "distillation_losses" and value is not None
    ]
    if facts["seeds"] is not None:
        rows.append(["seeds", _value(facts["seeds"])])
    rows += [
        ["command", element("code", facts["command"])],
        ["date", facts["date"]],
        ["machine", facts["machine"]],
        [
            "versions",
            ", ".join(f"{k} {v}" for k, v in facts["versions"].items()),
        ],
    ]
    content.append(
        element(
            "div",
            table(["setting", "value"], rows, "Settings and origin", 2),
            class_="facts",
        )
    )
    return sections.section("origin", "How it was made", content)


def _losses(losses):
    if not losses:
        return None
    rows = [
        [name, f"{found['weight']:g}", _value(found["loss"])]
        for name, found in losses.items()
    ]
    return element(
        "div",
        table(["name", "weight", "loss"], rows, "Distillation losses", 3),
        class_="facts",
    )


def _value(value):
    text = call_text(value)
    if len(text) > _LONGEST_VALUE:
        text = f"{text[:_LONGEST_VALUE]} ... (all in the JSON file)"
    is_call = isinstance(value, dict) and "class_name" in value
    is_word = isinstance(value, str) and " " not in value
    return element("code", text) if is_call or is_word else text


def call_text(value):
    """What Keras serialized, as the call that would make it again."""
    if isinstance(value, dict) and "class_name" in value:
        config = value.get("config")
        if not isinstance(config, dict):
            return str(config or value["class_name"])
        inside = ", ".join(
            f"{key}={call_text(v)}"
            for key, v in config.items()
            if v is not None and key not in ("name", "dtype", "trainable")
        )
        return f"{value['class_name']}({inside})"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {call_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(call_text, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
