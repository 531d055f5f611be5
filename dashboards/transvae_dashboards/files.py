"""Charts and tables as files for papers: SVG and PDF, CSV and LaTeX, of exactly what a page shows (`exhibits.py`)."""

from __future__ import annotations

import csv
import html
import io
import itertools
import re
from pathlib import Path

from transvae_dashboards.exhibits import Exhibits, Sheet
from transvae_platform.errors import UserError

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
STYLE = "font-family: DejaVu Sans, Helvetica, Arial, sans-serif; background: #ffffff"
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$",
    "∞": r"$\infty$", "–": "--", "…": r"\dots{}", "é": r"\'e",
}  # fmt: skip

NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?( ?%)?")
"""What a spreadsheet may take for what it is."""


def figures(found: Exhibits, name: str) -> dict[str, bytes]:
    """The charts of a page by file name: SVG, PDF where they were drawn for it, and one file with all captions."""
    made: dict[str, bytes] = {}
    if found.panels:
        said = [f"{name}-{panel.name}: {panel.caption}" for panel in found.panels]
        made[f"{name}-captions.txt"] = ("\n\n".join(said) + "\n").encode()
    for panel in found.panels:
        svg = panel.svg.replace("<svg ", f'<svg {NAMESPACES} style="{STYLE}" ', 1)
        svg = re.sub(r'<a xlink:href="[/#][^"]*"', "<a", svg)  # addresses that are not in this file
        made[f"{name}-{panel.name}.svg"] = (svg.replace("var(--sans, sans-serif)", "sans-serif") + "\n").encode()
        if panel.pdf is not None:
            made[f"{name}-{panel.name}.pdf"] = panel.pdf
    return made


def tables(found: Exhibits, name: str) -> dict[str, bytes]:
    """The tables of a page by file name, as CSV and LaTeX (for the package booktabs)."""
    made: dict[str, bytes] = {}
    for sheet in found.sheets:
        plain_name = re.sub(r"[^a-z0-9]+", "-", sheet.label.lower()).strip("-")
        numbers = (plain_name if n == 1 else f"{plain_name}-{n}" for n in itertools.count(1))
        stem = next(stem for stem in numbers if f"{name}-{stem}.csv" not in made)
        made[f"{name}-{stem}.csv"] = as_csv(sheet).encode()
        made[f"{name}-{stem}.tex"] = as_latex(sheet).encode()
    return made


def as_csv(sheet: Sheet) -> str:
    """Cells as their text; those that a spreadsheet would take for a formula begin with a quotation mark."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_safe(plain(cell)) for cell in row] for row in (sheet.head, *sheet.body))
    return text.getvalue()


def as_latex(sheet: Sheet) -> str:
    """A tabular with the rules of booktabs."""

    def line(row: tuple[str, ...]) -> str:
        return " & ".join("".join(LATEX.get(c, c) for c in plain(cell)) for cell in row) + r" \\"

    columns = "l" + "r" * (len(sheet.head) - 1)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(sheet.head), r"\midrule"]
    return "\n".join([*lines, *map(line, sheet.body), r"\bottomrule", r"\end{tabular}", ""])


def plain(cell: str) -> str:
    """A cell's text without its markup; a picture is its description."""
    text = re.sub(r'<img[^>]*alt="([^"]*)"[^>]*>', r"\1 ", cell) if "<" in cell else cell
    text = re.sub(r"<(progress|button)\b.*?</\1>", "", text)
    return html.unescape(re.sub(r"<[^>]+>", "", text)).strip() if type(cell) is not str else cell.strip()


def write_files(made: dict[str, bytes], folder: Path, option: str) -> list[Path]:
    """Write files into a folder; returns their paths.

    Raises:
        UserError: they cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in made.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        why = f"the files cannot be written ({error.strerror or error})"
        raise UserError(f"{folder}: {why} - make room, or name another folder with {option}") from None
    return [folder / name for name in made]


def _safe(cell: str) -> str:
    return "'" + cell if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not NUMBER.fullmatch(cell) else cell
