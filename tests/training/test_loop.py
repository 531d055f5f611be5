"""The loop without Ray and MLflow: it learns, it resumes as if it had never stopped, it publishes no nonsense."""

import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.ranks import as_ranks
from tests.training.twins import KilledError, assert_same, kill_at, last_state

from transvae import create_model
from transvae.accounting import count_model
from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.data.stream.order import FullOrder
from transvae_platform.errors import UserError
from transvae_platform.study.journal import Journal, JournalReader
from transvae_platform.study.state import TrialState
from transvae_platform.training import autoencoding
from transvae_platform.training.autoencoding import Autoencoding
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.loop import DivergedError, train_vae
from transvae_platform.training.manifest import hash_files, manifest_text, write_flushed
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World


def test_loss_falls_on_photographs(trial, train, records, tmp_path):
    metrics = train(trial(recipe__steps=60, evaluation__every=30))
    losses = [record["metrics"]["train/loss"] for record in records(event="step")]
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    first, last = records(event="validated")
    assert last["metrics"] == metrics
    assert metrics["val/l1"] < first["metrics"]["val/l1"]
    assert metrics["val/psnr"] > 10


def test_journal_tells_the_whole_story(trial, train, records, tmp_path):
    work = trial()
    metrics = train(work)
    begin = records(event="started")[0]
    assert (begin["step"], begin["resumed_from"], begin["world"], begin["device"]) == (0, 0, 1, "cpu")
    assert begin["attention"]
    assert begin["lineage"] == {"code": "test"}
    events = [(record["event"], record.get("step")) for record in records() if record["event"] != "step"]
    at_each = ("validated", "pictures", "checkpoint")
    assert events == [("started", 0), *((event, step) for step in (4, 8, 12) for event in at_each), ("finished", 12)]
    cost = count_model("vit-micro-T/f8d8", 32).training_flops
    for record in records(event="step"):
        assert record["images"] == 8 * record["step"]
        assert record["flops"] == 8 * record["step"] * cost
        assert {"train/loss", "train/l1", "train/kl", "train/gradient_norm", "train/learning_rate"} <= set(
            record["metrics"]
        )
    assert records(event="finished")[0]["metrics"] == metrics == records(event="validated")[-1]["metrics"]
    for record in records(event="pictures"):
        with Image.open(tmp_path / "run" / record["path"]) as picture:
            assert picture.size == (3 * 32, 2 * 32)
        assert len(record["psnr"]) == 3
    best = max(records(event="validated"), key=lambda record: record["metrics"]["val/psnr"])["step"]
    assert records(event="checkpoint")[-1]["best_step"] == best


def test_training_on_several_sizes_resumes_like_any_other(trial, train, records, tmp_path, monkeypatch):
    work = trial(data__sampling={"buckets": [{"size": 32}, {"size": 16}]}, recipe__steps=10)
    train(work, "whole")
    kill_at(monkeypatch, (7,))
    with pytest.raises(KilledError):
        train(work)
    train(work)
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))
    mean = sum(count_model("vit-micro-T/f8d8", size).training_flops for size in (32, 16)) / 2
    assert all(record["flops"] == 8 * record["step"] * mean for record in records(event="step"))


def test_same_seed_same_run_other_seed_other_run(trial, train, tmp_path):
    short = {"recipe__steps": 4}
    for name in ("a", "b"):
        train(trial(**short), name)
    train(trial(grid__seeds=[1], **short), "c")
    assert_same(last_state(tmp_path / "a"), last_state(tmp_path / "b"))
    a, c = last_state(tmp_path / "a")[1], last_state(tmp_path / "c")[1]
    assert sum(not torch.equal(a[key], c[key]) for key in a) > len(a) / 2


@pytest.mark.parametrize(
    "killed_in",
    [(1,), (6,), (8,), (12,), (5, 10)],
    ids=["before any checkpoint", "between", "right after one", "at the edge of an epoch", "twice"],
)
def test_killed_and_resumed_equals_uninterrupted(trial, train, records, tmp_path, monkeypatch, killed_in):
    # 96 crops and batches of 8: step 12 begins the second epoch, so with 14 steps the edge lies behind a resume
    work = trial(recipe__steps=14, recipe__schedule="cosine", recipe__clip_norm=1.0)
    train(work, "whole")
    kill_at(monkeypatch, killed_in)
    for _ in killed_in:
        with pytest.raises(KilledError):
            train(work)
    train(work)
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))
    assert [record["resumed_from"] for record in records(event="started")] == [
        0,
        *(4 * (step // 4) for step in killed_in),
    ]
    resumed = {record["step"]: record["metrics"] for record in records(event="step")}
    whole = {record["step"]: record["metrics"] for record in records("whole", "step")}
    assert resumed == whole


@pytest.mark.parametrize("until", [4, 8])
def test_paused_and_continued_equals_uninterrupted(trial, train, records, tmp_path, until):
    work = trial(recipe__steps=12, recipe__schedule="cosine")
    train(work, "whole")
    train(work, until=until)
    assert [record["step"] for record in records(event="paused")] == [until]
    assert records(event="finished") == []
    assert records(event="validated")[-1]["step"] == until
    train(work)
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))
    assert records(event="started")[-1]["resumed_from"] == until


def test_kill_between_a_checkpoint_and_its_record_loses_neither(trial, train, records, tmp_path, monkeypatch):
    append = Journal.append

    def killed(self, event, **fields):
        if event == "checkpoint" and fields["step"] == 12:
            raise KilledError
        append(self, event, **fields)

    work = trial()
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        with pytest.raises(KilledError):
            train(work)
    train(work)
    *_, started, checkpoint, finished = records()
    assert (started["event"], started["resumed_from"]) == ("started", 12)
    assert (checkpoint["event"], checkpoint["step"], finished["event"]) == ("checkpoint", 12, "finished")
    assert checkpoint["best_step"] in (4, 8, 12)


@pytest.mark.parametrize("family", ["transvae", "cnn", "swin"])
def test_every_family_resumes_exactly(trial, train, tmp_path, monkeypatch, family):
    work = trial(grid__families={family: ["T"]}, recipe__steps=4, evaluation__every=2, recipe__batch_size=4)
    train(work, "whole")
    kill_at(monkeypatch, [3])
    with pytest.raises(KilledError):
        train(work)
    train(work)
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))


def test_damaged_newest_checkpoint_costs_steps_and_no_exactness(trial, train, records, tmp_path):
    work = trial()
    train(work, "whole")
    train(work)
    state = tmp_path / "run" / "checkpoints" / "step_000000012" / "ema" / "model.safetensors"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 4
    state.write_bytes(content)
    train(work)
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))
    assert "checkpoint of step 12 is damaged" in records(event="damaged")[0]["message"]
    assert [record["resumed_from"] for record in records(event="started")] == [0, 8]


def test_lost_checkpoints_are_told_loudly_and_trained_again(trial, train, records, tmp_path, monkeypatch):
    work = trial()
    train(work, "whole")
    kill_at(monkeypatch, [10])
    with pytest.raises(KilledError):
        train(work)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    train(work)
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))
    told = f"checkpoint of step 8 is missing in {tmp_path / 'run' / 'checkpoints'}"
    assert [record["message"] for record in records(event="damaged")] == [told]
    state = TrialState(work, tmp_path / "run", {})
    for record in records():
        state.apply(record)
        if record["event"] == "alarm":
            assert state.alarm == f"{told}; none is left, the trial begins again, to the same result"
            assert state.step == 0
    assert (state.alarm, state.lost) == (None, [told])
    assert len(records(event="alarm")) == 1


def test_another_checkpoint_of_the_same_step_is_not_the_one_that_was_committed(
    trial, train, records, tmp_path, monkeypatch
):
    work = trial()
    train(work, "whole")
    train(work, "other")
    kill_at(monkeypatch, [10])
    with pytest.raises(KilledError):
        train(work)
    newest, other = (tmp_path / run / "checkpoints" / "step_000000008" for run in ("run", "other"))
    shutil.rmtree(newest)
    shutil.copytree(other, newest)
    state = newest / "state.json"
    state.write_text(state.read_text().replace('"code": "test"', '"code": "what"'))
    (newest / "manifest.json").unlink()
    write_flushed(newest / "manifest.json", manifest_text(hash_files(newest, [*files_of(newest)])))
    train(work)
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))
    (told,) = records(event="damaged")
    assert "manifest.json is not the one that the trial's journal tells of" in told["message"]
    assert records(event="started")[1]["resumed_from"] == 4


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_validations_that_the_journal_lost_are_told_again_by_the_checkpoints(trial, train, records, tmp_path):
    work = trial()
    train(work)
    best = records(event="checkpoint")[-1]["best_step"]
    before = {record["step"]: record for record in records(event="validated")}
    path = tmp_path / "run" / "journal.jsonl"
    path.write_text(path.read_text().replace(f'"event":"validated","step":{best}', '"event":"validated","step":9'))
    assert best not in {record["step"] for record in records(event="validated")}
    train(work)
    (again,) = [record for record in records(event="validated") if record["step"] == best]
    for key in ("images", "flops", "metrics"):
        assert again[key] == before[best][key]


def test_finished_trial_is_not_trained_again(trial, train, monkeypatch):
    work = trial(recipe__steps=4)
    metrics = train(work)
    monkeypatch.setattr(TrainStream, "batch", lambda self, step: pytest.fail("trained again"))
    assert train(work) == metrics


def test_checkpoint_of_another_trial_is_set_aside(trial, train, records):
    other, work = trial(recipe__steps=4), trial(recipe__steps=4, recipe__learning_rate=1e-3)
    train(other)
    train(work)
    (damaged,) = records(event="damaged")
    assert f"is that of the trial {other.id}), moved to bad_step_000000004" in damaged["message"]
    assert records(event="started")[-1]["resumed_from"] == 0


def test_weights_that_break_in_the_last_update_are_not_published(trial, train, tmp_path, monkeypatch):
    advance = TrialWeights.advance

    def broken(self):
        if self.step == 3:
            with torch.no_grad():
                next(self.model.parameters()).fill_(math.nan)
        advance(self)

    monkeypatch.setattr(TrialWeights, "advance", broken)
    with pytest.raises(DivergedError, match="the weights are not finite at step 4; this is after 2 rewinds"):
        train(trial(recipe__steps=4))
    assert CheckpointStore(tmp_path / "run" / "checkpoints", keep=9).steps() == []


def test_a_validation_without_an_answer_is_not_published(trial, train, records, tmp_path, monkeypatch):
    measured = autoencoding.evaluate_reconstruction
    monkeypatch.setattr(
        autoencoding, "evaluate_reconstruction", lambda *rest: {**measured(*rest), "val/ssim": math.nan}
    )
    with pytest.raises(DivergedError, match="a validation metric is not finite at step 4"):
        train(trial(recipe__steps=4))
    assert not records(event="validated")
    assert CheckpointStore(tmp_path / "run" / "checkpoints", keep=9).steps() == []


def test_too_few_samples_for_a_batch(trial, train):
    with pytest.raises(UserError, match="96 training samples are fewer than one batch of 200"):
        train(trial(recipe__batch_size=200))


def test_half_precision_trains_with_full_precision_weights(trial, train, tmp_path):
    kinds = set()

    def watch(model):
        model.register_forward_hook(lambda module, inputs, outputs: kinds.add(outputs[0].dtype))
        return model

    metrics = train(trial(recipe__precision="bf16", recipe__steps=4), world=World(wrap=watch))
    _, tensors, _ = last_state(tmp_path / "run")
    own = [tensor for key, tensor in tensors.items() if not key.startswith("guard/") and tensor.is_floating_point()]
    assert {tensor.dtype for tensor in own} == {torch.float32}
    assert math.isfinite(metrics["val/psnr"])
    train(trial(recipe__steps=4), "full")
    assert any(not torch.equal(value, tensors[key]) for key, value in last_state(tmp_path / "full")[1].items())


def test_gradient_checkpointing_changes_memory_and_not_the_result(trial, train, tmp_path):
    train(trial(recipe__steps=4), "plain")
    train(trial(recipe__steps=4, recipe__gradient_checkpointing=True), "frugal")
    plain, frugal = last_state(tmp_path / "plain")[1], last_state(tmp_path / "frugal")[1]
    assert max((plain[key] - frugal[key]).abs().max().item() for key in plain if plain[key].numel()) < 1e-6


def test_average_is_that_of_the_weights(trial):
    weights = TrialWeights(Autoencoding(trial(recipe__ema_decay=0.5), World()))
    parameter, averaged = next(weights.model.parameters()), next(weights.averaged.parameters())
    expected = parameter.detach().clone()
    assert torch.equal(averaged, expected)
    for update in range(1, 9):
        with torch.no_grad():
            parameter.add_(1.0)
        weights.advance()
        decay = min(0.5, (1 + update) / (10 + update))
        expected = expected * decay + parameter.detach() * (1 - decay)
        assert torch.allclose(averaged, expected, atol=1e-6)


def test_initial_weights_are_the_models_own_from_the_seed(trial):
    work = trial(grid__seeds=[3])
    torch.manual_seed(3)
    fresh = create_model(work.model).state_dict()
    weights = TrialWeights(Autoencoding(work, World())).model.state_dict()
    assert all(torch.equal(fresh[key], weights[key]) for key in fresh)


def note_ids(world, work, samples, folder):
    """On every rank: train; returns the ids of every step, and the metrics."""
    seen, read = [], TrainStream.batch

    def note(self, step):
        batch = read(self, step)
        seen.append(batch.ids.tolist())
        return batch

    TrainStream.batch = note
    journal = Journal(folder / "journal.jsonl") if world.rank == 0 else None
    return seen, train_vae(work, samples, folder, journal, world, {})


def test_two_processes_see_the_same_samples_and_reach_the_same_weights(trial, train, samples, tmp_path):
    # a small rate: AdamW turns rounding of tiny gradients into differences of a share of it
    work = trial(recipe__steps=5, recipe__learning_rate=2e-4, evaluation__every=5)
    alone = train(work, "alone")
    together = tmp_path / "together"
    told = as_ranks(2, together, note_ids, work, samples, together)
    for step in range(5):
        expected, _ = FullOrder(96).ids_at(np.arange(8 * step, 8 * step + 8), 0)
        assert told[0][0][step] + told[1][0][step] == expected.tolist()
    assert told[0][1] == told[1][1]
    for key in ("val/l1", "val/mse", "val/ssim"):
        assert told[0][1][key] == pytest.approx(alone[key], abs=1e-5)
    assert told[0][1]["val/psnr"] == pytest.approx(alone["val/psnr"], abs=1e-3)  # of 8-bit values, rounded
    one, two = last_state(tmp_path / "alone")[1], last_state(together)[1]
    for key in one:
        if not key.startswith("optimizer"):
            assert (one[key] - two[key]).abs().max() < 1e-5, key


@pytest.mark.parametrize("left", [0, 9])
def test_a_journal_that_lost_its_end_is_noticed_by_the_next_attempt(trial, train, records, tmp_path, left):
    work = trial()
    train(work, until=8)
    path = tmp_path / "run" / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:left]))
    assert "unreadable" not in [record["event"] for record in JournalReader(path).new()]
    train(work)
    assert [record["event"] for record in JournalReader(path).new()].count("unreadable") == 1
    assert [record["step"] for record in records(event="step")][-4:] == [9, 10, 11, 12]
