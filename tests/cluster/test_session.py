"""Reaching a cluster: an address that nobody answers is one message, not a wait without end."""

import time

import pytest

from transvae_platform.cluster import schedule
from transvae_platform.cluster.schedule import ray_session
from transvae_platform.errors import UnreachableError


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_silent_address_is_refused_at_once(free_port, scheme, monkeypatch):
    monkeypatch.setattr(schedule.ray, "init", lambda *a, **k: pytest.fail("asked Ray, which waits for minutes"))
    start = time.monotonic()
    address = f"{scheme}127.0.0.1:{free_port}"
    with pytest.raises(UnreachableError, match=f"no Ray cluster answers at {address}"), ray_session(address):
        pytest.fail("entered")
    assert time.monotonic() - start < schedule.ADDRESS_SECONDS


@pytest.mark.parametrize("address", ["auto", "somewhere"])
def test_other_addresses_are_judged_by_ray(address, monkeypatch):
    def refuse(*arguments, **options):
        raise ConnectionError("could not find any running Ray instance")

    monkeypatch.setattr(schedule.ray, "init", refuse)
    with pytest.raises(UnreachableError, match=f"no Ray cluster answers at {address}"), ray_session(address):
        pytest.fail("entered")


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_slow_start_is_tried_once_more_and_then_told(failures, monkeypatch):
    started = []

    def init(*arguments, **options):
        started.append(arguments)
        if len(started) <= failures:
            raise Exception("The current node timed out during startup.\nMore lines.")  # as Ray does

    monkeypatch.setattr(schedule.ray, "init", init)
    if failures < 2:
        with ray_session(None):
            assert started == [("local",)] * (failures + 1)
        return
    told = r"does not start on this machine \(The current node timed out during startup\.\)"
    with pytest.raises(UnreachableError, match=told), ray_session(None):
        pytest.fail("there is no Ray")
