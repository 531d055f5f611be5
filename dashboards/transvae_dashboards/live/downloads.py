"""What can be taken away: the charts and tables of a view as files, numbers as JSON, the whole study as a report."""

from __future__ import annotations

import io
import json
import zipfile

from transvae_dashboards.exhibits import collecting
from transvae_dashboards.files import figures, tables
from transvae_dashboards.live.registries import WAITING
from transvae_dashboards.page import Beside, render
from transvae_dashboards.scene import Scene
from transvae_dashboards.views import VIEWS

ZIP, JSON, HTML = "application/zip", "application/json", "text/html; charset=utf-8"


def download(scene: Scene, wanted: str) -> tuple[str, bytes, str] | None:
    """Kind, content and file name of `VIEW.zip`, `data.json` or `report.html`; None for anything else."""
    name = scene.state.name
    if wanted == "data.json":
        document = {"schema_version": 1, "study": name, "trials": [row.as_dict() for row in scene.rows]}
        return JSON, json.dumps(document, indent=1).encode(), f"{name}.json"
    if wanted == "report.html":
        return HTML, render(scene.state, scene.price, _beside(scene)).encode(), f"{name}.html"
    view = wanted.removesuffix(".zip")
    if view == wanted or view not in VIEWS:
        return None
    scene.view = view
    with collecting(pdf=True) as found:
        VIEWS[view].draw(scene)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in {**figures(found, name), **tables(found, name)}.items():
            archive.writestr(path, content)
    return ZIP, packed.getvalue(), f"{name}-{view}.zip"


def _beside(scene: Scene) -> Beside:
    """The comparison that the address asks for, by the words of the view `compare`, and MLflow's answer if it came."""
    answer = scene.registry() if scene.registry else WAITING
    left, right = scene.query.get("a"), scene.query.get("b")
    return Beside(
        None if answer == WAITING else lambda: answer, scene.others(scene.query.get("with", "")),
        (left, right) if left and right else None,
    )  # fmt: skip
