"""Server addresses may carry a password; what is printed, stored or passed on must not."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from transvae_platform.errors import SpecError

_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]*:[^/?#@\s]+@")


def without_password(uri: str) -> str:
    """The address without the user name and password it may carry."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def refuse_password(key: str, address: str) -> None:
    """Addresses of data, models and checkpoints stand in journals, manifests, command lines and pages as they are.

    Raises:
        SpecError: this one carries a password or secret key, which is not repeated.
    """
    if _PASSWORD.search(address):
        raise SpecError(
            f"{key}: the address carries a password, and addresses are written to journals, MLflow and pages - take it "
            "out, and give credentials by the environment (AWS_ACCESS_KEY_ID, ...), by the store's own file "
            "(~/.aws/credentials) or by a role of the nodes"
        )
