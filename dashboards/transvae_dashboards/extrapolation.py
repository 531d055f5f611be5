"""Extrapolation (figure 3a): each model at every resolution it was evaluated at, in numbers and in pictures.

A line compares evaluations of one model, protocol, source, split, weights of LPIPS and Inception, seed and draw of the
held-out images; each test resolution is a column of its own, and what was left out at one of them only is said. Beside
it stands the resolution of the training, where it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from transvae_dashboards.document import document, write_page
from transvae_dashboards.markup import Html, scroll, section, table, tag
from transvae_dashboards.reconstructions import sheet_rows, strip_of
from transvae_dashboards.sections.pictures import column, strip_image
from transvae_platform.evaluation.records import PICTURES, Record, kind_of, shown

DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3, "rfid": 2}


def write_extrapolation(records: Sequence[Record], home: Path, path: Path) -> Path:
    """Draw the page from a home's records and pictures and write it to `path`; returns `path`."""
    return write_page(render(records, home), path)


def render(records: Sequence[Record], home: Path) -> str:
    """The page as text."""
    nothing = tag("p", "No model was evaluated at two resolutions of one source yet.")
    drawn = extrapolation_sections(records, home)
    return document("Extrapolation", tag("h1", "Reconstruction by test resolution"), *(drawn or [nothing]))


def extrapolation_sections(records: Sequence[Record], home: Path) -> list[Html]:
    """A section per model that was evaluated at two resolutions."""
    ordered = sorted(records, key=lambda record: (*_line(record), record.data["resolution"]))
    lines = [list(group) for _, group in groupby(ordered, key=_line)]
    several = [line for line in lines if len({record.data["resolution"] for record in line}) > 1]
    return [_section(line, home) for line in several]


def _line(record: Record) -> tuple[str, ...]:
    """What evaluations that may be compared over resolutions share."""
    model, data = record.model, record.data
    shared = (
        model["name"], model["weights_sha256"], record.protocol["identity"], data["source"], data["split"],
        data.get("drawn"), record.seed,  # records of earlier releases do not say how the split was drawn
    )  # fmt: skip
    return (*map(str, shared), record.measured_by)


def _section(line: Sequence[Record], home: Path) -> Html:
    first = line[0]
    head = ["Metric", *(f"{record.data['resolution']} px, n = {record.n:,}" for record in line)]
    names = list(dict.fromkeys(name for record in line for name in record.metrics))
    body = [[name, *(shown(record.metrics.get(name), DIGITS[kind_of(name)]) for record in line)] for name in names]
    title = f"{first.model['name']} ({first.model['title']})"
    side = first.model.get("trained_at")  # not in the files of others, nor in records of earlier releases
    lead = f"Trained at {side} px. " if side else ""
    lead += f"Protocol {first.protocol['name']}, {first.data['split']} images of {first.data['source']}."
    if any(record.data.get("enlarged") for record in line):
        lead += " Images smaller than a test resolution were enlarged."
    if len({record.data.get("left_out_names") for record in line}) > 1:
        lead += " The columns do not hold the same images: others were left out at each resolution."
    pictures = tag("div", *(_pictures(record, home) for record in line), class_="sides")
    return section(
        title, table(head, body, label=title), pictures,
        anchor=f"{first.model['weights_sha256'][:12]}-{first.protocol['identity']}-{first.data['split']}-{first.key}",
        lead=lead,
    )  # fmt: skip


def _pictures(record: Record, home: Path) -> Html:
    """The first originals beside the outputs, to be enlarged like all reconstructions."""
    px, name = record.data["resolution"], record.model["name"]
    rows = sheet_rows(home / "evaluations" / record.key / PICTURES)
    if rows is None:
        return tag("p", f"{px} px: the pictures of {record.key} are gone or damaged.")
    originals, outputs = (strip_of(row) for row in rows)
    mean = f"{shown(record.metrics.get('psnr'), DIGITS['psnr'])} dB, mean of all"
    columns = [
        column("Original", "", strip_image(originals, f"Originals at {px} pixels")),
        column(f"At {px} px", mean, strip_image(outputs, f"Reconstructions by {name} at {px} pixels")),
    ]
    return scroll(tag("div", *columns, class_="columns"), f"Pictures of {name} at {px} pixels")
