"""Whom the server answers, and on which addresses it listens."""

import pytest

from transvae_dashboards.live.guard import is_loopback, knows_host, refuse_exposed
from transvae_platform.errors import SpecError


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ("localhost:8321", True), ("127.0.0.1", True), ("127.0.0.1:9", True), ("[::1]:8321", True), ("LOCALHOST", True),
        ("192.168.1.7:80", True), ("lab-head:8321", True), ("evil.example", False), ("127.0.0.1.nip.io", False),
        ("localhost.evil.example:8321", False), ("", False), (None, False), ("localhost:80:80", False),
        ("localhost:8321@evil", False), ("[evil]:80", False), ("::1", False),
    ],
)  # fmt: skip
def test_only_names_that_no_stranger_can_own_are_answered(header, known):
    assert knows_host(header, {"lab-head"}) is known


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.4", False), ("my-laptop", False), ("localhost.example", False)],
)  # fmt: skip
def test_addresses_that_others_reach_need_a_word(host, loopback):
    assert is_loopback(host) is loopback
    refuse_exposed(host, allowed=True)
    if loopback:
        refuse_exposed(host, allowed=False)
    else:
        with pytest.raises(SpecError, match=r"ssh -N -L .*--expose"):
            refuse_exposed(host, allowed=False)
