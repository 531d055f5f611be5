"""Early training (figure 1): one held-out image along the first validations of every model."""

from __future__ import annotations

import base64
import io

from PIL import Image

from transvae_dashboards import formats
from transvae_dashboards.markup import Html, section, table, tag
from transvae_dashboards.reconstructions import PIXEL_ART, sheet_rows
from transvae_dashboards.scene import Scene
from transvae_dashboards.tables import FAMILY_NAMES, SIZE_NAMES, ordered
from transvae_platform.study.state import TrialState

MOST = 8
"""Steps shown: the first ones, and the last."""
LEAD = (
    "The same held-out image along training, averaged weights, with its PSNR in dB; the first seed of each model, the "
    "first validations and the last."
)


def early(scene: Scene) -> list[Html]:
    """The section; none while no trial has pictures of two steps."""
    trials = _first_seeds([trial for trial in ordered(scene.state.autoencoders) if len(trial.pictures) > 1])
    if not trials:
        return []
    steps = sorted({step for trial in trials for step in trial.pictures})
    shown = steps if len(steps) <= MOST else [*steps[: MOST - 1], steps[-1]]
    count = min(max(map(len, trial.picture_psnr.values()), default=0) for trial in trials)
    number = int(scene.one("image", [str(i) for i in range(count)], "0"))
    body = [[_name(scene, trial), *(_cell(trial, step, number) for step in shown)] for trial in trials]
    head = ["Model", *(f"step {step:,}" for step in shown)]
    pick = scene.choice("Image", "image", [(str(i), str(i + 1)) for i in range(count)], str(number))
    content = table(head, body, label="Early training", text=range(1, len(head)), kind="early")
    return [section("Early training", pick, content, anchor="early", lead=LEAD)]


def _first_seeds(trials: list[TrialState]) -> list[TrialState]:
    found: dict[tuple[str, str, str], TrialState] = {}
    for trial in trials:
        key = (trial.trial.family, trial.trial.size, trial.trial.variant)
        if key not in found or trial.trial.seed < found[key].trial.seed:
            found[key] = trial
    return list(found.values())


def _name(scene: Scene, state: TrialState) -> Html:
    trial = state.trial
    variant = "" if trial.variant == "base" else f" {trial.variant}"
    return scene.named(state, f"{FAMILY_NAMES[trial.family]} {SIZE_NAMES[trial.size]}{variant}")


def _cell(trial: TrialState, step: int, number: int) -> Html | str:
    path, psnr = trial.pictures.get(step), trial.picture_psnr.get(step, [])
    rows = sheet_rows(path) if path is not None else None
    if rows is None or number >= len(rows[1]) or number >= len(psnr):
        return formats.NONE
    alt = f"Reconstruction at step {step}, PSNR {psnr[number]:.1f} dB"
    return tag("div", picture(rows[1][number], alt), tag("p", f"{psnr[number]:.1f}"))


def picture(image: Image.Image, alt: str) -> Html:
    """One image inside the page."""
    file, art = io.BytesIO(), image.width <= PIXEL_ART
    image.save(file, "PNG" if art else "WEBP")
    uri = f"data:image/{'png' if art else 'webp'};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return tag("img", src=uri, width=image.width, height=image.height, alt=alt, class_="pixels" if art else "photo")
