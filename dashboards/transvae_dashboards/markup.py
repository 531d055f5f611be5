"""Small functions that build HTML: text is escaped unless it is already `Html`."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence

from transvae_dashboards.exhibits import show_table

VOID = ("img",)
"""Elements without an end."""


class Html(str):
    """Text that is markup already; every other string is escaped on its way into a page."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Text as markup; markup as it is."""
    return text if isinstance(text, Html) else Html(html.escape(text))


def tag(name: str, /, *children: str, **attributes: str | int | None) -> Html:
    """`tag("p", "a < b", class_="note")`; attributes that are None are left out, `_` in their names becomes `-`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Html:
    """Parts in a row, each escaped."""
    return Html(escape(between).join(escape(part) for part in parts))


def table(
    head: Sequence[str], body: Iterable[Sequence[str]], *, label: str, text: Collection[int] = (), kind: str = ""
) -> Html:
    """A table with row headers in its first column; numbers to the right, except in the columns named in `text`."""
    aligned = {0, *text}

    def cell(index: int, content: str, in_head: bool) -> Html:
        kind = None if index in aligned else "n"
        if in_head:
            return tag("th", content, scope="col", class_=kind)
        return tag("th", content, scope="row") if index == 0 else tag("td", content, class_=kind)

    body = list(body)
    show_table(label, head, body)
    rows = [tag("tr", *(cell(i, content, False) for i, content in enumerate(row))) for row in body]
    header = tag("thead", tag("tr", *(cell(i, content, True) for i, content in enumerate(head))))
    return scroll(tag("table", header, tag("tbody", *rows), class_=kind or None), label)


def scroll(content: Html, label: str) -> Html:
    """A frame that scrolls sideways when its content is wider than the screen, by keyboard too."""
    return tag("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


def prose(text: str) -> Html:
    """A sentence whose `commands` stand between backticks."""
    return Html(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))


def missing(text: str) -> Html:
    """What stands where nothing can be shown yet: why, and what would change that."""
    return tag("p", prose(text), class_="missing")


def section(title: str, *content: str, anchor: str, lead: str = "") -> Html:
    """A part of the page under a heading that can be linked to."""
    opening = [tag("h2", title)]
    if lead:
        opening.append(tag("p", prose(lead), class_="lead"))
    return tag("section", *opening, *content, id=anchor)


def details(title: str, *content: str, opened: bool = False) -> Html:
    """Content behind a title that opens it; works without scripts."""
    shown = Html("<details open>") if opened else Html("<details>")
    return Html(shown + tag("summary", title) + join(content) + "</details>")
