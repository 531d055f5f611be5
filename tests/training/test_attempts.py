"""Attempts at one trial: an earlier one that stood still and wakes up late changes nothing any more."""

import threading

import pytest
from tests.training.twins import assert_same, last_state

from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.lease import SupersededError, wait_for_lease
from transvae_platform.training import loop
from transvae_platform.training.loop import train_vae
from transvae_platform.world import World


@pytest.mark.parametrize("stalled_at", [5, 7], ids=["after a checkpoint", "before one"])
def test_attempt_that_wakes_up_late_changes_nothing(trial, train, samples, tmp_path, monkeypatch, stalled_at):
    work, folder = trial(), tmp_path / "studies" / "s" / "run"
    train(work, "twin")
    asleep, wake, step, raised = threading.Event(), threading.Event(), loop.train_step, []

    def stall(weights, *rest):
        if threading.current_thread().name == "stalled" and weights.step == stalled_at:
            asleep.set()
            wake.wait(60)
        return step(weights, *rest)

    monkeypatch.setattr(loop, "train_step", stall)

    def attempt(fence):
        journal = Journal(folder / "journal.jsonl", fence.attempt(folder))
        try:
            train_vae(work, samples, folder, journal, World(), {})
        except SupersededError as error:
            raised.append(str(error))

    def contents():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    with wait_for_lease(tmp_path / "studies" / "s", pytest.fail) as fence:
        stalled = threading.Thread(target=attempt, args=(fence,), name="stalled")
        stalled.start()
        assert asleep.wait(60)
        for thread in threading.enumerate():
            if thread.name == "saver":  # its checkpoint is its last deed
                thread.join()
        attempt(fence)
        left = contents()
        wake.set()
        stalled.join()
    assert raised == ["run: a later attempt has taken over - follow it with the same command"]
    assert contents() == left, "no file was written, changed or removed"
    assert_same(last_state(folder), last_state(tmp_path / "twin"))
    records = read_journal(folder / "journal.jsonl")
    assert [record["resumed_from"] for record in records if record["event"] == "started"] == [0, 4]
