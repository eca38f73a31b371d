"""HTML and SVG elements from Python: everything is escaped unless it is both.

What a user names a class, a layer or a file ends up on the page; here is the
one place where text becomes markup.
"""

import html

_VOID = frozenset(
    "br circle col hr img line link meta path polygon polyline rect".split()
)


class Markup(str):
    """Text that is HTML already."""


def element(tag, *content, **attributes):
    """One element.

    Args:
        tag: Its name.
        *content: Texts (escaped), `Markup` (as it is), numbers, lists of
            these; `None` is nothing.
        **attributes: `class_` stands for `class`, `aria_label` for
            `aria-label`; one that is `None` is left out.

    Returns:
        `Markup`.
    """
    inside = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{inside}/>")
    return Markup(f"<{tag}{inside}>{join(content)}</{tag}>")


def join(content, between=""):
    """Texts and `Markup` -> one `Markup`."""
    parts = []
    for part in content:
        if part is None:
            continue
        if isinstance(part, (list, tuple)):
            part = join(part)
        elif not isinstance(part, Markup):
            part = html.escape(str(part))
        parts.append(part)
    return Markup(between.join(parts))


def table(header, rows, caption, text_columns=1):
    """A table in a box of its own, in which it scrolls where it is too wide.

    Args:
        header: Titles of the columns.
        rows: Lists of cells; the first cell names the row.
        caption: What the table shows.
        text_columns: How many columns, from the left, hold words; the others
            hold numbers and are set to the right.
    """
    kinds = [None if i < text_columns else "number" for i in range(len(header))]
    head = [
        element("th", title, scope="col", class_=kind)
        for title, kind in zip(header, kinds)
    ]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            [element("td", c, class_=k) for c, k in zip(row[1:], kinds[1:])],
        )
        for row in rows
    ]
    inside = element(
        "table",
        element("thead", element("tr", head)),
        element("tbody", body),
        aria_label=caption,
    )
    # With a keyboard one can scroll only what can be focused. The caption
    # stands outside, so that it does not scroll away.
    box = element(
        "div",
        inside,
        class_="scroll",
        role="region",
        aria_label=caption,
        tabindex="0",
    )
    return figure(box, caption)


def figure(picture, caption, class_=None):
    """A picture with its caption above it."""
    return element(
        "figure", element("figcaption", caption), picture, class_=class_
    )


def percent(share, digits=1):
    """`0.964` -> `"96.4\u00a0%"` (one word); `None` -> `"–"`."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def count(number):
    """`56778` -> `"56,778"`."""
    return "–" if number is None else f"{number:,}"


def size(number_of_bytes):
    """`10034` -> `"9.8\u00a0KiB"`."""
    if number_of_bytes is None:
        return "–"
    kib = number_of_bytes / 1024
    if kib < 1024:
        return f"{kib:,.1f}\u00a0KiB"
    return f"{kib / 1024:,.1f}\u00a0MiB"


def plus_minus(found, scale=100.0, digits=1, sign=""):
    """What `statistics.interval` found -> `"95.6\u00a0±\u00a01.1"`."""
    if found is None:
        return "–"
    text = f"{scale * found['mean']:{sign}.{digits}f}"
    if found["half_width"] is None:
        return text
    return f"{text}\u00a0±\u00a0{scale * found['half_width']:.{digits}f}"
