"""Training workers that die under real Ray: retried from their checkpoint, given up when the study says so."""

import pytest
import torch
from tests.faults import nodes

from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.tensors import read_tensors

pytestmark = pytest.mark.fault


def weights(folder):
    with CheckpointStore(folder / "checkpoints", keep=9).verified(nodes.STEPS) as path:
        return read_tensors(path / "state")


def test_killed_worker_is_retried_and_ends_with_the_same_weights(bench):
    (trial,) = bench.trials("grid.families={vit: [T]}")

    def meanwhile(folders):
        (folder,) = folders.values()
        nodes.wait_for_step(folder, nodes.EVERY + 50)
        nodes.kill(bench.rank_0(folder)[1])

    (folder,) = bench.run("killed", (trial,), meanwhile).values()
    twin = weights(bench.train_here("twin", trial))
    killed = weights(folder)
    assert [key for key in twin if not torch.equal(twin[key], killed[key])] == []
    assert [record["resumed_from"] for record in nodes.events(folder, "started")] == [0, nodes.EVERY]
    assert 0 < nodes.lost_steps(folder) <= nodes.EVERY
    assert not nodes.events(folder, "preempted")


def test_worker_that_dies_too_often_fails_its_trial_and_no_other(bench):
    doomed, other = bench.trials("grid.families={vit: [T], cnn: [T]}", "resources.max_failures=1", "recipe.steps=400")

    def meanwhile(folders):
        folder = folders[doomed.label]
        for attempt in (1, 2):
            nodes.wait_for_step(folder, 10, attempt)
            nodes.kill(bench.rank_0(folder)[1])

    folders = bench.run("doomed", (doomed, other), meanwhile)
    (failed,) = nodes.events(folders[doomed.label], "failed")
    assert failed["reason"].startswith("the process of training worker 0 died: killed, out of memory, or crashed")
    assert len(nodes.events(folders[doomed.label], "started")) == 2
    assert (folders[doomed.label] / "failure.txt").read_text()
    assert nodes.events(folders[other.label], "finished")


def test_killed_driver_is_followed_by_another_and_the_trial_ends_with_the_same_weights(bench):
    (trial,) = bench.trials("grid.families={vit: [T]}", "resources.max_failures=1")

    def meanwhile(folders):
        (folder,) = folders.values()
        nodes.wait_for_step(folder, nodes.EVERY + 50)
        (driver,) = bench.drivers()
        nodes.kill(driver)

    (folder,) = bench.run("driverless", (trial,), meanwhile).values()
    assert not nodes.events(folder, "failed")
    assert [record["resumed_from"] for record in nodes.events(folder, "started")] == [0, nodes.EVERY]
    twin, continued = weights(bench.train_here("its-twin", trial)), weights(folder)
    assert [key for key in twin if not torch.equal(twin[key], continued[key])] == []
