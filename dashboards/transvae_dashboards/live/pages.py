"""Addresses and what stands behind them: every view of every study of a home, pictures, figures and tables as files."""

from __future__ import annotations

import secrets
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from transvae_dashboards.document import shell
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.live.downloads import download
from transvae_dashboards.live.registries import Registries, ask_mlflow
from transvae_dashboards.live.studies import Opened, Studies
from transvae_dashboards.markup import Html, join, prose, tag
from transvae_dashboards.scene import Scene
from transvae_dashboards.views import VIEWS
from transvae_dashboards.views.home import home_view
from transvae_dashboards.views.trial import trial_view
from transvae_platform.errors import UserError

KEPT_PAGES = 64
HTML = "text/html; charset=utf-8"
STATIC = {"/app.js": ("app.js", "text/javascript; charset=utf-8"), "/page.css": ("page.css", "text/css; charset=utf-8")}
SAID = "{kind}: {error}. Other views may do without what is wrong here; the dashboard's terminal says where it is."
REFRESH, SLOWLY = 3, 30
"""Seconds between two looks of an open page at a study that is not over, and at one that is: it may be resumed."""


@dataclass(frozen=True)
class Answer:
    """What the server sends."""

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Pages:
    """Answers paths. Thread-safe: one page is drawn at a time, as the charts' library wants it."""

    def __init__(self, home: Path, price: float | None = None, tracking_uri: str | None = None) -> None:
        self.studies, self._price = Studies(home), price
        self._registries = Registries(home, partial(ask_mlflow, tracking_uri=tracking_uri))
        self._lock, self._born = threading.Lock(), secrets.token_hex(4)
        self._drawn: OrderedDict[tuple[str, str], Answer] = OrderedDict()

    def answer(self, target: str, known: str | None = None) -> Answer:
        """The answer to a GET of a path with its query; `known` is the ETag that the asker has."""
        address = urlsplit(target)
        if address.path in STATIC:
            name, kind = STATIC[address.path]
            return Answer(200, kind, (files("transvae_dashboards") / name).read_bytes())
        query = dict(parse_qsl(address.query))
        parts = [unquote(part) for part in address.path.strip("/").split("/") if part]
        if parts[2:] == ["file", "report.html"] and parts[1] in self.studies.names():
            self._registries.settle(parts[1])  # before it is one page's turn: the others need not wait
        with self._lock:
            try:
                return self._route(parts, query, target, known)
            except UserError as error:
                return self._trouble(409, "This study cannot be shown", str(error))
            except Exception as error:  # noqa: BLE001 - a defect must not look like a server that is away
                traceback.print_exc(file=sys.stderr)
                text = SAID.format(kind=type(error).__name__, error=error)
                return self._trouble(500, "This page cannot be drawn", text)

    def _route(self, parts: list[str], query: dict[str, str], target: str, known: str | None) -> Answer:
        if not parts:
            names = self.studies.names()
            body = home_view([(name, self.studies.glance(name)) for name in names], self.studies.home)
            return _page("Studies", body, refresh=REFRESH)
        if parts[0] != "study" or len(parts) < 2:
            return self._nothing()
        opened = self.studies.open(parts[1])
        if opened is None:
            return self._trouble(404, "No such study", f"This home holds no study {parts[1]!r}.")
        if len(parts) == 2:
            return Answer(302, HTML, b"", {"Location": Scene(opened.state, live=True).to("overview") or "/"})
        if parts[2:] == ["registry"]:
            self._registries.ask(opened.state.name)  # an open page learns of promotions, too
        tagged = self._tag(opened, query)
        if known == tagged:
            return Answer(304, HTML, b"", {"ETag": tagged})
        key = (target, tagged)
        if key not in self._drawn:
            self._drawn[key] = self._study(opened, parts[2:], query, tagged)
            while len(self._drawn) > KEPT_PAGES:
                self._drawn.popitem(last=False)
        self._drawn.move_to_end(key)
        return self._drawn[key]

    def _study(self, opened: Opened, parts: list[str], query: dict[str, str], tagged: str) -> Answer:
        name = opened.state.name
        scene = Scene(
            opened.state, query, live=True, view=parts[0], price=self._price, names=self.studies.names(),
            registry=lambda: self._registries.ask(name), others=self._other, running=opened.holder is not None,
            fits_of=opened.fits,
        )  # fmt: skip
        if parts[0] in VIEWS and len(parts) == 1:
            view = VIEWS[parts[0]]
            named = [] if parts[0] == "overview" else [tag("h1", f"{view.title} of {name}", class_="hidden")]
            body = named + view.draw(scene)
            other = self._beside(opened, query)
            news = opened.changes or self._registries.waits(name) or (other is not None and other.changes)
            return _page(f"{view.title} – {name}", body, scene, opened, tagged, REFRESH if news else SLOWLY)
        if parts[0] == "trial" and len(parts) == 2 and parts[1] in opened.state.trials:
            trial = opened.state.trials[parts[1]]
            title = f"{trial.trial.label} seed {trial.trial.seed} – {name}"
            refresh = REFRESH if opened.changes else SLOWLY
            return _page(title, trial_view(scene, trial), scene, opened, tagged, refresh)
        if parts[0] == "file" and len(parts) == 2 and (found := download(scene, parts[1])) is not None:
            kind, content, filename = found
            # percent signs, as a study's folder may have any name (RFC 6266)
            attached = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
            return Answer(200, kind, content, {"Content-Disposition": attached, "ETag": tagged})
        return self._nothing()

    def _tag(self, opened: Opened, query: Mapping[str, str]) -> str:
        """Equal for equal pages of this process: another one may be another version, or count from another place."""
        seen = [self._born, opened.version, str(self._registries.version(opened.state.name))]
        if (other := self._beside(opened, query)) is not None:
            seen.append(other.version)
        if query.get("of") == "home":
            seen.append(str(newest_record(self.studies.home)))
        return f'"{"-".join(seen)}"'

    def _beside(self, opened: Opened, query: Mapping[str, str]) -> Opened | None:
        """The other study that a page shows, if it shows one."""
        name = query.get("with", opened.state.name)
        return self.studies.open(name) if name != opened.state.name else None

    def _other(self, name: str) -> FollowedStudy | None:
        opened = self.studies.open(name)
        return opened.state if opened else None

    def _nothing(self) -> Answer:
        return self._trouble(404, "No such page", "The address leads to nothing here.")

    def _trouble(self, status: int, title: str, text: str) -> Answer:
        body = [tag("h1", title), tag("p", text), tag("p", tag("a", "All studies", href="/"))]
        return Answer(status, HTML, shell(title, join(body)).encode())


def _page(
    title: str, body: list[Html], scene: Scene | None = None, opened: Opened | None = None, tagged: str = "",
    refresh: int | None = None,
) -> Answer:  # fmt: skip
    top = study_top(scene, opened) if scene and opened else Html("")
    text = shell(title, join(body), top=top, refresh=refresh)
    return Answer(200, HTML, text.encode(), {"ETag": tagged} if tagged else {})


def study_top(scene: Scene, opened: Opened) -> Html:
    """What stands above every view of a study: where one is, the other views, who runs it."""
    links = [
        tag("a", view.word, href=scene.to(name), aria_current="page" if name == scene.view else None)
        for name, view in VIEWS.items()
    ]
    path = [tag("a", "Studies", href="/"), " / ", tag("a", scene.state.name, href=scene.to("overview"))]
    return join([
        tag("p", *path, class_="path"), _away(scene), tag("nav", *links, class_="views", aria_label="Views"),
        tag("p", prose(opened.standing), class_="standing", role="status"),
    ])  # fmt: skip


def _away(scene: Scene) -> Html:
    """Links to what can be taken away of a view, by the choices in its address."""
    compared = {key: scene.query[key] for key in ("with", "a", "b") if key in scene.query}
    found = {
        "trials (JSON)": scene.to("file/data.json"), "report (HTML)": scene.to("file/report.html", **compared),
    }  # fmt: skip
    if scene.view in VIEWS:
        found = {"this view (ZIP)": scene.to(f"file/{scene.view}.zip", **scene.query), **found}
    links = [tag("a", words, href=url, download="") for words, url in found.items()]
    return tag("p", "Take away: ", join(links, ", "), class_="away")


def newest_record(home: Path) -> int:
    """When an evaluation of a home was last written, in nanoseconds; 0 where there is none."""
    folder, times = home / "evaluations", [0]
    for path in (*folder.glob("*/record.json"), *folder.glob("latents/*.json")):
        with suppress(OSError):  # removed since it was listed
            times.append(path.stat().st_mtime_ns)
    return max(times)
