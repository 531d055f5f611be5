"""Saving behind the training's back: what is told and when, what failures do, who writes what."""

import json
import threading

import pytest
import torch
from tests.training.ranks import as_ranks

from transvae_platform.errors import UserError
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.lease import Fence, SupersededError
from transvae_platform.training import tensors
from transvae_platform.training.autoencoding import Autoencoding
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.saver import Saver
from transvae_platform.training.tensors import own_share, read_tensors
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World

FULL = OSError(28, "No space left on device")


def advance(weights, seed=0):
    """A step with gradients from nowhere."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in weights.model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter)
    weights.optimizer.step()
    weights.advance()


def everything(weights):
    found = {f"{name}/{key}": value for name, part in weights.parts.items() for key, value in part.state_dict().items()}
    return {**found, **{f"average/{key}": value for key, value in weights.averaged.state_dict().items()}}


def same(one, other):
    assert one.keys() == other.keys()
    return [
        key for key, value in one.items()
        if not (torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key])
    ] == []  # fmt: skip


@pytest.fixture
def weights(trial):
    weights = TrialWeights(Autoencoding(trial(), World()))
    advance(weights)
    return weights


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", keep=2)


@pytest.fixture
def told(tmp_path):
    return lambda *fields: [
        tuple(record.get(field) for field in ("event", *fields)) for record in read_journal(tmp_path / "journal.jsonl")
    ]


@pytest.fixture
def saver(store, tmp_path):
    return Saver(store, World(), Journal(tmp_path / "journal.jsonl"), {"code": "test"}, pauses=(0.0, 0.0))


def fails(monkeypatch, store, error=FULL, times=1):
    left = [error] * times
    commit = store.place.commit

    def failing(*arguments):
        if left:
            raise left.pop()
        return commit(*arguments)

    monkeypatch.setattr(store.place, "commit", failing)


def test_checkpoint_is_told_after_its_commit_and_not_before(saver, store, weights, told, monkeypatch):
    gate, commit = threading.Event(), store.place.commit
    monkeypatch.setattr(store.place, "commit", lambda *arguments: (gate.wait(60), commit(*arguments))[1])
    saver.save(weights)
    saver.tell()
    assert (told(), store.steps()) == ([], [])
    gate.set()
    saver.wait()
    assert told("step") == [("checkpoint", 1)]
    assert store.steps() == [1]


def test_checkpoint_holds_the_weights_of_its_step(saver, store, weights, monkeypatch, trial):
    gate, write = threading.Event(), tensors.save_file
    monkeypatch.setattr(tensors, "save_file", lambda *arguments: (gate.wait(60), write(*arguments)))
    at_save = {
        key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in everything(weights).items()
    }
    saver.save(weights)
    advance(weights, seed=1)
    gate.set()
    saver.finish()
    restored = TrialWeights(Autoencoding(trial(), World()))
    assert restored.restore(store, World())
    assert restored.step == 1
    assert same(everything(restored), at_save)
    assert not same(everything(restored), everything(weights))
    advance(restored, seed=1)
    assert same(everything(restored), everything(weights))


def test_restored_moments_lie_in_memory_like_their_parameters(saver, store, trial):
    convolutions = trial(grid__families={"cnn": ["T"]})
    weights = TrialWeights(Autoencoding(convolutions, World()))
    advance(weights)
    saver.save(weights)
    saver.finish()
    restored = TrialWeights(Autoencoding(convolutions, World()))
    restored.restore(store, World())
    strides = {value.stride() for value in restored.model.parameters() if value.dim() == 4}
    assert any(stride[1] == 1 for stride in strides)
    for parameter in restored.model.parameters():
        assert restored.optimizer.state[parameter]["exp_avg"].stride() == parameter.stride()


def test_parts_of_others_are_saved_too(saver, store, trial):
    class Other:
        def __init__(self):
            self.state = {"window": torch.zeros(3), "skipped": 0, "last": None}

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.state = state

    weights = TrialWeights(Autoencoding(trial(), World()))
    weights.parts["other"] = Other()
    weights.parts["other"].state = {"window": torch.tensor([1.0, 2.0, 3.0]), "skipped": 2, "last": 0.1}
    saver.save(weights)  # at the first step, before the optimiser has any state
    saver.finish()
    restored = TrialWeights(Autoencoding(trial(), World()))
    restored.parts["other"] = Other()
    weights.step = 1
    saver.save(weights)
    saver.finish()
    restored.restore(store, World())
    state = restored.parts["other"].state
    assert state.pop("window").tolist() == [1.0, 2.0, 3.0]
    assert state == {"skipped": 2, "last": 0.1}
    with pytest.raises(UserError, match=r"holds model, optimizer, guard, other, this version of the project saves"):
        TrialWeights(Autoencoding(trial(), World())).restore(store, World())


def test_state_says_what_it_is_of(saver, store, weights, trial):
    weights.validated({"val/psnr": 20.0})
    saver.save(weights)
    saver.finish()
    with store.verified(1) as folder:
        state = json.loads((folder / "state.json").read_text())
        assert not [path for path in folder.rglob("*") if path.suffix in (".pt", ".pkl", ".metadata")]
    assert state["metrics"] == {"val/psnr": 20.0}
    assert state["best"] == [[20.0, 1]]
    assert state["lineage"] == {"code": "test"}
    assert state["config"]["recipe"]["learning_rate"] == 2e-3


def test_alarm_once_per_cause_and_the_all_clear(saver, store, weights, told, monkeypatch):
    fails(monkeypatch, store, FULL, 2)
    for step in (1, 2):
        weights.step = step
        saver.save(weights)
    saver.wait()
    fails(monkeypatch, store, PermissionError(13, "Permission denied"))
    for step in (3, 4, 5):
        weights.step = step
        saver.save(weights)
    saver.wait()
    assert told("step") == [("alarm", 1), ("alarm", 3), ("checkpoint", 4), ("alarm_over", 4), ("checkpoint", 5)]
    first = told("message")[0][1]
    assert str(store.place.location) in first
    assert "the checkpoint of step 1 cannot be written (No space left on device); training goes on" in first
    assert "there is none yet" in first


def test_old_checkpoint_that_cannot_be_removed_alarms_and_harms_nothing(saver, store, weights, told, monkeypatch):
    def refuse(name):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store.place, "remove", refuse)
    for step in (1, 2, 3, 4):
        weights.step = step
        saver.save(weights)
    saver.finish()
    assert [entry for entry in told("step") if entry[0] == "alarm"] == [("alarm", 3)]
    assert store.steps() == [1, 2, 3, 4]


def test_last_checkpoint_is_tried_again(saver, store, weights, told, monkeypatch):
    fails(monkeypatch, store, FULL, 2)
    saver.save(weights)
    saver.finish()
    assert told() == [("alarm",), ("checkpoint",), ("alarm_over",)]


def test_last_checkpoint_that_cannot_be_written_fails_the_trial(saver, store, weights, told, monkeypatch):
    fails(monkeypatch, store, FULL, 9)
    saver.save(weights)
    with pytest.raises(UserError, match=r"the last checkpoint, of step 1, cannot be written \(No space left"):
        saver.finish()
    assert told() == [("alarm",)]


def test_saved_step_is_not_saved_again(saver, store, weights, told):
    saver.save(weights)
    saver.save(weights)
    saver.finish()
    assert told() == [("checkpoint",)]


def test_mistake_of_the_writer_reaches_the_training(saver, store, weights, monkeypatch):
    fails(monkeypatch, store, KeyError("mistake"))
    saver.save(weights)
    with pytest.raises(KeyError):
        saver.wait()


def test_superseded_writer_ends_the_training(store, weights, tmp_path):
    lock = tmp_path / "lock"
    lock.write_text("1 newer")
    fenced = CheckpointStore(tmp_path / "checkpoints", keep=1, fence=Fence(lock, "older"))
    saver = Saver(fenced, World(), None, {})
    saver.save(weights)
    with pytest.raises(SupersededError):
        saver.finish()
    assert store.steps() == []


def test_best_steps_are_as_many_as_are_kept(trial):
    weights = TrialWeights(Autoencoding(trial(evaluation__keep_best=2), World()))
    seen = []
    for step, psnr in enumerate((10.0, 12.0, 12.0, 11.0, 13.0), 1):
        weights.step = step
        weights.validated({"val/psnr": psnr})
        seen.append(weights.best_steps)
    assert seen == [(1,), (2, 1), (2, 3), (2, 3), (5, 2)]


def test_every_tensor_has_one_owner_and_all_own_about_as_much(weights):
    values = {key: value for key, value in everything(weights).items() if isinstance(value, torch.Tensor)}
    shares = [own_share(values, rank, 3) for rank in range(3)]
    assert sorted(key for share in shares for key in share) == sorted(values)
    sizes = [sum(value.nbytes for value in share.values()) for share in shares]
    assert max(sizes) - min(sizes) <= max(value.nbytes for value in values.values())


def restore_and_save(world, work, folder):
    """On every rank: take the state that one process wrote, save it, meet a full disk, save again."""
    weights = TrialWeights(Autoencoding(work, world))
    assert weights.restore(CheckpointStore(folder / "alone", keep=1), world), "written by one process, read by two"
    assert weights.step == 1
    journal = Journal(folder / "journal.jsonl") if world.rank == 0 else None
    store = CheckpointStore(folder / "together", keep=1)
    saver = Saver(store, world, journal, {})
    saver.save(weights)
    for _ in range(20):  # collectives of the training thread, while the savers speak on their own group
        assert world.sum(torch.ones(1000)).sum() == 2000
    saver.wait()
    weights.step = 2
    write, tensors.save_file = tensors.save_file, lambda *arguments: (_ for _ in ()).throw(FULL)
    if world.rank == 0:  # only the other rank's disk is full
        tensors.save_file = write
    saver.save(weights)
    saver.wait()
    assert store.steps() == [1]
    tensors.save_file = write
    saver.save(weights)
    saver.finish()
    assert 2 in store.steps()  # rank 0 may still be removing the first


def test_two_ranks_read_what_one_wrote_and_one_what_two_wrote(trial, weights, tmp_path):
    alone = Saver(CheckpointStore(tmp_path / "alone", keep=1), World(), None, {})
    alone.save(weights)
    alone.finish()
    as_ranks(2, tmp_path, restore_and_save, weights.trial, tmp_path)
    together = CheckpointStore(tmp_path / "together", keep=1)
    with together.verified(2) as folder:
        shards = sorted((folder / "state").iterdir())
        assert len(shards) == 2
        halves = [shard.stat().st_size for shard in shards]
        assert max(halves) < 1.2 * min(halves)
        assert len(read_tensors(folder / "state")) > 100
    restored = TrialWeights(Autoencoding(trial(), World()))
    restored.restore(together, World())
    assert same(everything(restored), everything(weights))
    events = [(record["event"], record["step"]) for record in read_journal(tmp_path / "journal.jsonl")]
    assert events == [("checkpoint", 1), ("alarm", 2), ("checkpoint", 2), ("alarm_over", 2)]
