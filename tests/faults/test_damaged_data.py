"""A study whose data set is damaged after it was made: the same command again ends it as if nothing had happened."""

import os
import shutil
from types import SimpleNamespace

import pytest

from transvae_platform.cluster import submit
from transvae_platform.cluster.damaged_data import set_aside_damaged
from transvae_platform.data.making.verify import find_damage
from transvae_platform.data.sets.manifest import read_manifest
from transvae_platform.training.shard_check import DamagedDataError, ShardCheck
from transvae_platform.world import World

from .toys import expected, train_toys


def train_on_shards(trials, agenda, study_folder, fence, lineage, places, *rest):
    """Toys that look at their shards, as trainings do."""
    try:
        ShardCheck([location for location, _ in places(trials[0])["data"]], World()).settle()
    except DamagedDataError:
        os.environ["TOY_FAILS"] = "[0, 1, 2, 3]"  # of the submission's process
    return train_toys(trials, agenda, study_folder, fence, lineage, places, *rest)


@pytest.fixture
def folder(fresh, made, monkeypatch):
    """The data set of a study that is to be submitted, where it may be damaged."""
    monkeypatch.setattr(submit, "run_trials", train_on_shards)
    monkeypatch.setenv("TOY_STEP_SECONDS", "0")
    shutil.copytree(made, fresh.home / "data")
    return next(fresh.home.glob("data/*/manifest.json")).parent


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return bytes(content)


def test_a_damaged_data_set_is_set_aside_and_made_again(fresh, folder):
    manifest = read_manifest(folder)
    harmed = flip(folder / "train-00001.arrow")
    assert fresh.submit().end() == 3
    again = fresh.submit()
    assert again.end() == 0, again.err
    assert "is damaged and set aside" in again.out + again.err
    assert read_manifest(folder) == manifest
    assert not find_damage(str(folder), manifest)
    assert (folder.parent / "bad" / folder.name / "train-00001.arrow").read_bytes() == harmed
    assert fresh.values() == {trial: expected(trial) for trial in fresh.state().trials}


def test_a_damaged_manifest_costs_nothing_but_the_making(fresh, folder):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:300])
    only = fresh.submit()
    assert only.end() == 0, only.err
    assert not find_damage(str(folder), read_manifest(folder))


@pytest.mark.parametrize(
    ("kind", "diverged", "moved"),
    [("source", False, True), ("latents", False, True), ("ingested", False, False), ("source", True, False)],
)
def test_what_the_study_made_itself_is_set_aside_where_a_trial_failed_of_it(folder, kind, diverged, moved):
    flip(folder / "train-00001.arrow")
    home, name = folder.parent.parent, folder.name
    listing = object() if kind == "source" else None
    prepared = SimpleNamespace(source=SimpleNamespace(listing=listing, fingerprint=name), sets={})
    latents = {"a": {"locations": [f"/before/the/home/moved/data/{name}"]}} if kind == "latents" else {}
    failed = [SimpleNamespace(diverged=diverged)]
    state = SimpleNamespace(latents=latents, in_state=lambda _: failed)
    assert set_aside_damaged(prepared, state, home, lambda _: None) is moved
    assert folder.exists() is not moved
    assert not set_aside_damaged(prepared, state, home, lambda _: None), "it is gone"
