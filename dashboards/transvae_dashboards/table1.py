"""Table 1: every evaluation of a home, and the paper's table as printed. One self-contained file.

Numbers of different protocols, data sets, resolutions, splits or weights of LPIPS and Inception never share a column:
each has a table of its own. The difference to the paper is drawn where protocol, data and model are the paper's;
elsewhere the cells stay empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from transvae_dashboards import formats
from transvae_dashboards.document import document, write_page
from transvae_dashboards.markup import Html, section, table, tag
from transvae_platform.evaluation.paper import METRICS, SETS, SOURCE, TABLE1, TRAINED_ON, printed
from transvae_platform.evaluation.protocols import ORIGINALS
from transvae_platform.evaluation.records import UNPUBLISHED, Record, kind_of, shown

NAMES = {"rfid": "rFID", "psnr": "PSNR", "lpips": "LPIPS", "ssim": "SSIM"}
DIGITS = {"rfid": 2, "psnr": 2, "lpips": 3, "ssim": 3}
APART: dict[str, Callable[[Record], str]] = {
    "weights": lambda record: str(record.model.get("weights_sha256", ""))[:8],
    "configuration": lambda record: str(record.model.get("config", ""))[:8],
    "seed": lambda record: str(record.seed),
}
"""What rows of one name can differ in."""


def write_table1(records: Sequence[Record], path: Path) -> Path:
    """Draw the page and write it to `path`; returns `path`."""
    return write_page(render(records), path)


def render(records: Sequence[Record]) -> str:
    """The page as text."""
    return document("Table 1", tag("h1", "Table 1: reconstruction"), *table1_sections(records))


def table1_sections(records: Sequence[Record]) -> list[Html]:
    """What was measured, one part per protocol and data, and the paper's table."""
    columns = sorted(records, key=lambda record: (record.data["resolution"], *map(str, record.column)))
    measured = [_measured(list(group)) for _, group in groupby(columns, key=lambda record: record.column)]
    nothing = tag("p", "Nothing was evaluated yet: transvae evaluate MODEL --data NAME")
    return [*(measured or [nothing]), _paper()]


def _measured(records: list[Record]) -> Html:
    """All models under one protocol on one split of one data set."""
    data, protocol = records[0].data, records[0].protocol
    px = data["resolution"]
    present = [name for name in _order() if any(name in record.metrics for record in records)]
    compared = any(printed(record) for record in records)
    head = ["Tokenizer", "Format", "Parameters", "n", *map(_name, present)]
    head += [f"{NAMES[name]}, paper (difference)" for name in METRICS] if compared else []
    named = sorted(((_told_apart(record, records), record) for record in records), key=lambda pair: pair[0])
    body = [_row(name, record, present, compared) for name, record in named]
    lead = (
        f"Protocol {protocol['name']} ({protocol['identity']}): images {protocol['geometry']}, {_enlarged(data)}"
        f"{protocol.get('originals', ORIGINALS)}, "  # records of earlier releases do not say it
        f"latent {protocol['latent']}, PSNR of {protocol['psnr']}, SSIM of {protocol['ssim'] or 'nothing'}, "
        f"LPIPS {protocol['trunk'] or 'none'} of {protocol['lpips'] or 'nothing'}, "
        f"FID features as {protocol['extractor']}; weights: {records[0].measured_by}."
    )
    warnings = sorted({warning for record in records for warning in record.warnings})
    random = any(name != kind_of(name) for name in present)
    notes = [tag("p", f"Warning: {warning}", class_="note") for warning in warnings]
    if random:
        notes.append(tag("p", "LPIPS and FID of random or unverified networks mean nothing elsewhere."))
    notes += [tag("p", text) for record in records if (text := _how_long(record))]
    return section(
        f"{px} × {px}, {data['name']}, {data['split']}",
        table(head, body, label=f"Reconstruction at {px}", text=(1,)), *notes,
        anchor=f"at-{px}-{protocol['identity']}-{data['fingerprint']}-{data['split']}-{records[0].key}", lead=lead,
    )  # fmt: skip


def _enlarged(data: Mapping[str, Any]) -> str:
    """Said, as a resize that enlarges makes other numbers; records of earlier releases do not tell."""
    return "small ones enlarged, " if data.get("enlarged") else ""


def _order() -> list[str]:
    """The table's metrics in the paper's order, those of other networks beside their namesakes."""
    return [name + suffix for name in METRICS for suffix in ("", *UNPUBLISHED)]


def _name(metric: str) -> str:
    kind = kind_of(metric)
    return NAMES[kind] + (f" ({metric.removeprefix(kind)[1:]} network)" if metric != kind else "")


def _told_apart(record: Record, records: Sequence[Record]) -> str:
    """The model's name, with what else differs where another row would read alike."""
    name = str(record.model["name"])
    alike = [other for other in records if other.model["name"] == name]
    differing = [f"{what} {of(record)}" for what, of in APART.items() if len({of(other) for other in alike}) > 1]
    return name + (f" ({', '.join(differing)})" if differing else "")


def _row(name: str, record: Record, present: Sequence[str], compared: bool) -> list[str]:
    model = record.model
    cells = [
        name, f"{model['title']}, f{model['compression']}d{model['channels']}",
        formats.parameters(model["parameters"]), f"{record.n:,}",
        *(shown(record.metrics.get(name), DIGITS[kind_of(name)]) for name in present),
    ]  # fmt: skip
    return cells + ([_beside(record, name) for name in METRICS] if compared else [])


def _beside(record: Record, metric: str) -> str:
    """The paper's value, and by how much ours is above it."""
    found = printed(record)
    theirs = found[0].value(found[1], metric) if found else None
    if theirs is None:
        return formats.NONE
    text, ours = f"{theirs:g}", record.metrics.get(metric)
    return f"{text} ({ours - theirs:+.{DIGITS[metric]}f})".replace("-", "−") if ours is not None else text


def _how_long(record: Record) -> str:
    """How long a model of ours was trained beside the paper's, whose value stands in its row."""
    found = printed(record)
    if found is None or record.model.get("published"):
        return ""
    name, theirs = record.model["name"], TRAINED_ON.get(found[0].title)
    ours = record.model.get("images")  # not in records of earlier releases
    return (
        f"{name} was trained on {f'{ours:,}' if ours is not None else 'an unknown number of'} images, "
        f"the paper's {found[0].title} on {f'{theirs:,}' if theirs else 'a number that the paper does not state'}."
    )


def _paper() -> Html:
    """The paper's table, cells as printed, with what is doubtful about them."""
    head = ["Pixels", "Tokenizer", "Variant", *(f"{NAMES[m]}, {data}" for data in SETS for m in METRICS), "Doubt"]
    body = []
    for row in TABLE1:
        values = [row.value(data, metric) for data in SETS for metric in METRICS]
        cells = [formats.NONE if value is None else f"{value:g}" for value in values]
        body.append([str(row.pixels), row.title, row.variant, *cells, row.doubt])
    lead = f"{SOURCE}, as printed; its rows of ViTok are that paper's own. Nothing in this table was measured here."
    return section(
        "The paper's table", table(head, body, label="Table 1 of the paper", text=(1, 2, len(head) - 1)),
        anchor="paper", lead=lead,
    )  # fmt: skip
