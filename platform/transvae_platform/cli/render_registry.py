"""What the terminal shows of registered models."""

from __future__ import annotations

from typing import Any

from transvae_platform.cli.tables import console, table


def print_models(models: list[dict[str, str]]) -> None:
    """The registered models, a line per alias."""
    rows = table(
        ("model", "left"), ("version", "right"), ("PSNR dB or loss", "right"), ("architecture", "left"),
        ("promoted", "left"), ("by", "left"), ("before", "right"),
    )  # fmt: skip
    for model in models:
        rows.add_row(
            model["uri"], model["version"], _quality(model), model["model"],
            model["promoted_at"][:16].replace("T", " ") or "not recorded", model["promoted_by"], model["previous"],
        )  # fmt: skip
    console().print(rows if models else "no models are registered yet")


def _quality(model: dict[str, str]) -> str:
    if model["psnr"]:
        return f"{float(model['psnr']):.2f}"
    return f"loss {float(model['loss']):.4f}" if model["loss"] else f"features {float(model['features']):.4f}"


def print_version(version: dict[str, Any], call: str) -> None:
    """One version: aliases, metrics, lineage, promotions, and the lines that load it."""
    out = console()
    out.print(f"{version['uri']}  {' '.join('@' + alias for alias in version['aliases'])}".rstrip(), highlight=False)
    for title in ("metrics", "lineage"):
        out.print(f"\n{title}")
        for key, value in version[title].items():
            shown = f"{value:.6g}" if isinstance(value, float) else value
            out.print(f"  {key + ':':24s} {shown}", markup=False, highlight=False, soft_wrap=True)
    out.print("\npromotions" if version["promotions"] else "\npromotions: none")
    for move in version["promotions"]:
        before = f", before it {move['previous']}" if move["previous"] else ""
        to = f"@{move['alias']} to version {move['version']}{before}"
        how = move["how"] + (", unknown code allowed" if move["unknown_code"] else "")
        out.print(f"  {move['at'][:19]}Z {to}, by {move['by']} ({how})", markup=False, highlight=False, soft_wrap=True)
    out.print(f"\nload:    from transvae_platform import load_model; vae = {call}", soft_wrap=True, highlight=False)
