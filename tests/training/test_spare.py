"""The second copy of the best weights: whole or absent, beside the checkpoints, and only that of the best step."""

import itertools

import pytest
from tests.training.test_saver import FULL, advance

from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.lease import Fence, SupersededError
from transvae_platform.training.autoencoding import Autoencoding
from transvae_platform.training.checkpoint import CheckpointStore, DamagedError
from transvae_platform.training.recorded import recorded_checkpoints
from transvae_platform.training.saver import Saver
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World

NUMBERS = itertools.count()


@pytest.fixture(params=["folder", "memory://"])
def store(request, tmp_path):
    return CheckpointStore(
        tmp_path / "checkpoints" if request.param == "folder" else f"memory://spares/{next(NUMBERS)}", keep=2
    )


@pytest.fixture
def run(trial, store, tmp_path):
    """Steps with these qualities in dB, each validated and saved; returns the saver's journal."""

    def steps(*qualities, before_save=lambda step: None):
        weights = TrialWeights(Autoencoding(trial(), World()))
        saver = Saver(store, World(), Journal(tmp_path / "journal.jsonl"), {}, pauses=())
        for step, psnr in enumerate(qualities, 1):
            advance(weights, seed=step)
            weights.validated({"val/psnr": psnr})
            before_save(step)
            saver.save(weights)
            saver.wait()
        return read_journal(tmp_path / "journal.jsonl")

    return steps


def spares(store):
    return [name for name in store.place.names() if name.startswith("spare_")]


def test_the_best_weights_lie_there_twice_and_no_others(run, store, tmp_path):
    records = run(20.0, 21.0, 19.0, 18.0)
    assert ["spare" in record for record in records] == [True, True, False, False]
    assert spares(store) == ["spare_000000002"]
    assert store.steps() == [2, 3, 4], "a second copy is no checkpoint"
    (recorded,) = [record["spare"] for record in records if record["step"] == 2]
    assert recorded_checkpoints(tmp_path, "spare") == {1: records[0]["spare"], 2: recorded}
    with store.verified(2) as best, store.verified(2, recorded) as copy:
        assert sorted(path.name for path in copy.iterdir()) == ["ema", "manifest.json", "state.json"]
        for file in ("state.json", "ema/model.safetensors", "ema/config.json"):
            assert (best / file).read_bytes() == (copy / file).read_bytes()


@pytest.mark.parametrize("recorded", ["0" * 64, None])
def test_a_copy_that_is_not_the_recorded_one_or_is_gone_is_refused(run, store, recorded):
    run(20.0)
    with pytest.raises(DamagedError, match=r"spare_00000000[19]: the checkpoint cannot be used"):
        store.verified(1 if recorded else 9, recorded or "").__enter__()


def test_a_writer_that_was_superseded_leaves_no_copy(run, store, tmp_path):
    run(20.0)
    (tmp_path / "lock").write_text("2 another")
    late = CheckpointStore(store.place.location, keep=2, fence=Fence(tmp_path / "lock", "token"))
    late.place = store.place  # one store in memory
    with pytest.raises(SupersededError):
        late.keep_spare(2, lambda folder: (folder / "state.json").write_text("{}"))
    assert spares(store) == ["spare_000000001"]


def test_a_copy_that_cannot_be_written_is_an_alarm_and_costs_no_checkpoint(run, store, monkeypatch):
    commit = store.place.commit

    def full(draft, files):
        if draft.name.startswith("spare_"):
            raise FULL
        return commit(draft, files)

    monkeypatch.setattr(store.place, "commit", full)
    records = run(20.0)
    assert [record["event"] for record in records] == ["checkpoint", "alarm"]
    assert "a second copy of the best weights cannot be written" in records[-1]["message"]
    assert (store.steps(), spares(store)) == ([1], [])


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_a_flipped_bit_in_the_copy_is_found(run, tmp_path, store):
    run(20.0)
    weights = tmp_path / "checkpoints" / "spare_000000001" / "ema" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DamagedError, match=r"ema/model\.safetensors differs from its SHA-256"):
        store.verified(1, "").__enter__()
