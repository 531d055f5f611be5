"""The frame of every page: one self-contained HTML file. No scripts, no network."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from transvae_dashboards.markup import Html, tag
from transvae_platform.errors import UserError


def document(title: str, *parts: str) -> str:
    """A page as text."""
    style = Html((files("transvae_dashboards") / "page.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", style),
    )
    return f'<!doctype html>\n<html lang="en">{head}{tag("body", tag("main", *parts))}</html>\n'


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
