"""The frames of pages: the live dashboard's, and that of reports, one self-contained HTML file without any request."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib.resources import files
from pathlib import Path

from transvae_dashboards.markup import Html, tag
from transvae_platform.errors import UserError

ABOUT = Html(
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
)


def document(title: str, *parts: str, top: str = "") -> str:
    """A self-contained page as text; its script (copying, zoom) needs no network, and the page forbids any."""
    style, script = (Html(_text(name)) for name in ("page.css", "app.js"))
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{allowed}'"
    head = tag(
        "head", ABOUT, Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'), tag("title", title),
        tag("style", style),
    )  # fmt: skip
    body = tag("body", top, tag("main", *parts, id="main"), tag("script", script))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def shell(title: str, main: str, *, top: str = "", refresh: int | None = None) -> str:
    """A page of the live dashboard; with `refresh` its script looks for news every so many seconds."""
    head = tag(
        "head", ABOUT, tag("title", f"{title} – TransVAE"), Html('<link rel="stylesheet" href="/page.css">'),
        Html('<link rel="icon" href="data:,">'), Html('<script src="/app.js" defer></script>'),
    )  # fmt: skip
    skip = tag("a", "Skip to the content", href="#main", class_="skip")
    content = tag("main", main, id="main", data_refresh=refresh)
    body = tag("body", skip, tag("header", top, class_="top") if top else Html(""), content)
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def write_page(text: str, path: Path) -> Path:
    """Write a page to `path`; returns `path`.

    Raises:
        UserError: it cannot be written there.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file - give --output the name of a file to write the page to")
    # a reader of the old page must never see half of the new one
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}) - what it shows is whole in its home: make room and "
            "draw it again, or elsewhere with --output"
        ) from None
    return path


def _text(name: str) -> str:
    return (files("transvae_dashboards") / name).read_text(encoding="utf-8")
