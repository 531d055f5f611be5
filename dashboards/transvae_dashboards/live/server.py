"""The server itself: GET and HEAD on a socket of this machine, from Python's standard library."""

from __future__ import annotations

import errno
import gc
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from transvae_dashboards.live.guard import HEADERS, knows_host, refuse_exposed
from transvae_dashboards.live.pages import Answer, Pages
from transvae_platform.errors import UserError

TEXT = "text/plain; charset=utf-8"
SECONDS = 30
"""That a connection may be silent before its thread ends."""


class Dashboard(ThreadingHTTPServer):
    """Serves the studies of a home until `shutdown`."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], pages: Pages, names: Collection[str] = ()) -> None:
        self.pages, self.names = pages, frozenset(names)
        super().__init__(address, Handler)

    @property
    def url(self) -> str:
        """Where a browser of this machine finds it."""
        host, port = self.server_address[:2]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else str(host)
        return f"http://{shown}:{port}/"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Dashboard
    protocol_version = "HTTP/1.1"
    timeout = SECONDS

    def do_GET(self) -> None:
        if not knows_host(self.headers.get("Host"), self.server.names):
            self._send(Answer(421, TEXT, b"This server does not go by that name (Host header refused).\n"))
            return
        self._send(self.server.pages.answer(self.path, self.headers.get("If-None-Match")))

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def version_string(self) -> str:
        return "transvae"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing: the terminal shows where the page is, not who looks at it."""

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        fixed = {"Content-Type": answer.kind, "Content-Length": str(len(answer.body)), "Cache-Control": "no-cache"}
        for name, value in {**fixed, **HEADERS, **answer.headers}.items():
            self.send_header(name, value)
        try:
            self.end_headers()
            if self.command != "HEAD" and answer.status != 304:
                self.wfile.write(answer.body)
        except (BrokenPipeError, ConnectionResetError):  # a page that was closed, or left, before it was whole
            self.close_connection = True


def open_dashboard(
    home: Path, host: str, port: int, *, exposed: bool = False, price: float | None = None,
    tracking_uri: str | None = None,
) -> Dashboard:  # fmt: skip
    """A server that listens; port 0 takes any free one.

    Raises:
        SpecError: other machines reach the address, and nobody said that they may.
        UserError: the address is not there, or taken.
    """
    refuse_exposed(host, exposed)
    gc.freeze()  # drawing leaves cycles to collect; looking through all imports each time was a tenth of a page's time
    try:
        pages, names = Pages(home, price, tracking_uri), () if host in ("0.0.0.0", "::") else (host,)
        return Dashboard((host.strip("[]"), port), pages, names=names)
    except OSError as error:
        taken = "another process listens there - give another --port, or --port 0 for any free one"
        why = taken if error.errno == errno.EADDRINUSE else str(error.strerror or error)
        raise UserError(f"{host}:{port}: {why}") from None
