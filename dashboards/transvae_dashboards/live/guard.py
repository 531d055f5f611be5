"""Whom the server answers: pure rules on addresses, so that they can be tested without one.

The server has no passwords. What protects it is that only this machine reaches it (loopback), that a page of a
stranger cannot make a browser ask it under another name (the Host header, against DNS rebinding), and that its own
pages may run no script but its own and fetch nothing from elsewhere (Content-Security-Policy).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from transvae_platform.errors import SpecError

LOOPBACK_NAMES = ("localhost",)
HEADERS = {
    # charts carry style attributes, which no hash can name; scripts come from this server's file only
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip
"""Of every answer."""


def refuse_exposed(host: str, allowed: bool) -> None:
    """Raises SpecError for an address that others reach, unless the user said so."""
    if allowed or is_loopback(host):
        return
    raise SpecError(
        f"--host: {host} is reached by other machines, and the dashboard asks nobody for a password. Leave it on "
        "127.0.0.1 and open a tunnel from your machine: `ssh -N -L 8321:127.0.0.1:8321 USER@THIS-MACHINE`, then "
        "http://127.0.0.1:8321 (with this server's port). Where a proxy that checks people stands in front, add "
        "--expose"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; names other than `localhost` may mean anything."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def knows_host(header: str | None, names: Collection[str]) -> bool:
    """Whether a Host header names this server: loopback, an address of figures, or one of the names it was given.

    DNS rebinding needs a name that the attacker owns, so figures are safe; the port may be that of a tunnel.
    """
    if header is None:
        return False
    host = header.strip().lower()
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    else:
        name, _, port = host.partition(":")
    if port and not port.isdigit():
        return False
    if name in LOOPBACK_NAMES or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
