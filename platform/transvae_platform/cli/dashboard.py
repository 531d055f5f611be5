"""`transvae dashboard`: all studies of a home in the browser, as they are now."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

PORT = 8321


def dashboard(
    home: Annotated[Path, typer.Option(help="Folder of studies.", envvar="TRANSVAE_HOME")] = Path("runs"),
    host: Annotated[str, typer.Option(help="The address to listen on; others than this machine's need --expose.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 takes any free one.", min=0, max=65535)] = PORT,
    expose: Annotated[
        bool, typer.Option("--expose", help="Let other machines in: nobody is asked for a password.")
    ] = False,
    price: Annotated[float | None, typer.Option(help="Of an hour of one device, for costs.", min=0)] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server; default as for `study submit`.", show_default=False)
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
) -> None:
    """Serve the studies of a home on this machine until Ctrl-C; nothing is written but a cache beside each study.

    On a machine far away: `ssh -N -L 8321:127.0.0.1:8321 USER@MACHINE`, then http://127.0.0.1:8321 here.
    """
    from transvae_dashboards.live.server import open_dashboard

    server = open_dashboard(home.resolve(), host, port, exposed=expose, price=price, tracking_uri=tracking_uri)
    print(server.url, flush=True)
    if open_browser:
        webbrowser.open(server.url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()  # after the terminal's ^C
    finally:
        server.server_close()
