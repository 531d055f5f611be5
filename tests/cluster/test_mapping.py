"""Ray starts with the first piece of work, once, and ends with the block; too many GPUs are told."""

from contextlib import contextmanager

import pytest

from transvae_platform.cluster import mapping, schedule
from transvae_platform.cluster.mapping import ray_mapper
from transvae_platform.data.making import on_ray
from transvae_platform.data.making.work import run_locally
from transvae_platform.errors import SpecError


@pytest.fixture
def told(monkeypatch):
    """What happens to Ray, in order."""
    events = []

    @contextmanager
    def session(address):
        events.append(("start", address))
        yield
        events.append("end")

    def run(function, work, actors, gpus):
        events.append((actors, gpus))
        return run_locally(function, work)

    monkeypatch.setattr(schedule, "ray_session", session)
    monkeypatch.setattr(schedule, "cluster_devices", lambda: (0, 8))
    monkeypatch.setattr(mapping, "local_devices", lambda: (4, 2))
    monkeypatch.setattr(on_ray, "run_on_ray", run)
    return events


def test_no_work_starts_no_ray(told):
    with ray_mapper(None, models=True):
        pass
    assert told == []


def test_all_work_is_done_in_one_session(told):
    with ray_mapper(None) as mapper:
        for _ in range(2):
            assert list(mapper(lambda piece: None, [{"a": 1}])) == [{"a": 1}]
    assert told == [("start", None), (None, 0), (None, 0), "end"]


@pytest.mark.parametrize(("address", "gpus", "expected"), [(None, 0, (4, 0)), (None, 2, (2, 1)), ("auto", 3, (3, 1))])
def test_processes_with_models_stay_one_per_device(told, address, gpus, expected):
    with ray_mapper(address, models=True, gpus=gpus) as mapper:
        list(mapper(lambda piece: None, [{}]))
    assert told == [("start", address), expected, "end"]


def test_too_many_gpus_of_this_machine_are_told_before_anything(told):
    with (
        pytest.raises(SpecError, match="--gpus: 3 are asked for, this machine has 2"),
        ray_mapper(None, models=True, gpus=3),
    ):
        pytest.fail("entered")
    assert told == []


@pytest.mark.parametrize(
    ("gpus", "message"),
    [(9, "--gpus: 9 are asked for, the cluster at auto has 8"), (0, "the cluster at auto declares no CPU slots")],
)
def test_devices_of_a_cluster_are_judged_before_the_first_piece(told, gpus, message):
    with pytest.raises(SpecError, match=message), ray_mapper("auto", models=True, gpus=gpus) as mapper:
        list(mapper(lambda piece: pytest.fail("worked"), [{}]))
