"""All losses in two stages: what learns when, and that a resumed run equals an uninterrupted one in either stage."""

import math

import pytest
import torch
from tests.training.twins import KilledError, kill_at

from transvae.autoencoder import Autoencoder
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.study.trial import Initial
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.loop import train_vae
from transvae_platform.training.manifest import sha256_of
from transvae_platform.training.tensors import read_tensors
from transvae_platform.world import World

VISION = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
LOSSES = {
    "kl": 1e-6,
    "lpips": {"network": "random"},
    "vf": {"network": "random", "features": VISION},
    "gan": {"layers": 1, "alone": 1},
}
STAGES = {
    "recipe__losses": LOSSES, "recipe__steps": 12, "recipe__decoder_stage": {"steps": 4}, "recipe__batch_size": 4,
    "evaluation__keep_checkpoints": 9,
}  # fmt: skip


def state(folder, step=None):
    """Every tensor of a checkpoint, by name, and its average."""
    store = CheckpointStore(folder / "checkpoints", keep=9)
    with store.verified(step or store.steps()[-1]) as path:
        averaged = Autoencoder.from_pretrained(path / "ema").state_dict()
        tensors = read_tensors(path / "state")
        return {**tensors, **{f"average/{key}": value for key, value in averaged.items()}}


def changed(one, other, prefix):
    return {key for key in one if key.startswith(prefix) and not torch.equal(one[key], other[key])}


@pytest.fixture(scope="module")
def whole(trial, samples, tmp_path_factory):
    """The folder of a trial that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    journal = Journal(folder / "journal.jsonl")
    train_vae(trial(**STAGES), samples, folder, journal, World(), {})
    journal.close()
    return folder


def metrics_of(folder):
    """The losses of every step."""
    return {r["step"]: r["metrics"] for r in read_journal(folder / "journal.jsonl") if r["event"] == "step"}


def test_the_encoder_learns_in_stage_1_only(whole):
    first, edge, last = (state(whole, step) for step in (4, 8, 12))
    assert changed(first, edge, "model/encoder")
    assert changed(first, edge, "projection/")
    assert changed(edge, last, "model/decoder")
    assert not changed(edge, last, "projection/")
    # stage 2 begins from the average, whose encoder then stays bit by bit what it was
    assert not changed(edge, last, "average/encoder")
    assert changed(edge, last, "average/decoder")
    encoder = {key: value for key, value in last.items() if key.startswith("model/encoder")}
    assert all(torch.equal(value, last[key.replace("model/", "average/")]) for key, value in encoder.items())


def test_the_discriminator_begins_with_stage_2_and_is_heard_one_step_later(whole):
    first, edge, last = (state(whole, step) for step in (4, 8, 12))
    assert not changed(first, edge, "discriminator/")
    assert changed(edge, last, "discriminator/")
    steps = metrics_of(whole)
    assert [step for step, metrics in steps.items() if "train/gan_discriminator" in metrics] == [9, 10, 11, 12]
    assert [step for step, metrics in steps.items() if "train/gan_weight" in metrics] == [10, 11, 12]


def test_terms_carry_the_names_of_what_they_are(whole):
    steps = metrics_of(whole)
    for metrics in steps.values():
        assert "train/lpips_random" in metrics
        assert "train/vf_random" in metrics
        assert not {"train/lpips", "train/vf"} & metrics.keys()
    assert "train/vf_random_weight" in steps[1]
    assert "train/vf_random_weight" not in steps[10], "alignment has no way to the decoder"
    (networks,) = [record for record in read_journal(whole / "journal.jsonl") if record["event"] == "frozen"]
    assert [(network["network"], network["weights"]) for network in networks["networks"]] == [
        ("VGG16 of LPIPS", "random"),
        (VISION, "random"),
    ]


@pytest.mark.parametrize("killed_at", [(3, 8), (7, 10)], ids=["and at the edge", "and in the second"])
def test_killed_in_either_stage_and_resumed_equals_uninterrupted(trial, train, tmp_path, monkeypatch, whole, killed_at):
    kill_at(monkeypatch, killed_at)
    for _ in killed_at:
        with pytest.raises(KilledError):
            train(trial(**STAGES))
    train(trial(**STAGES))
    assert not changed(state(whole), state(tmp_path / "run"), "")
    assert metrics_of(tmp_path / "run") == metrics_of(whole)


def test_bfloat16_goes_through_all_losses_of_both_stages(trial, train, tmp_path):
    stages = {"recipe__steps": 5, "recipe__decoder_stage": {"steps": 2}, "evaluation__log_every": 1}
    train(trial(**{**STAGES, **stages}, recipe__precision="bf16"))
    last = metrics_of(tmp_path / "run")[5]
    assert {"train/lpips_random", "train/vf_random", "train/gan_discriminator", "train/gan_weight"} <= last.keys()
    assert all(math.isfinite(value) for value in last.values())
    assert state(tmp_path / "run")["model/decoder.head.0.weight"].dtype == torch.float32


def test_stage_2_alone_starts_from_a_saved_model_and_keeps_its_encoder(trial, train, tmp_path, whole):
    with CheckpointStore(whole / "checkpoints", keep=9).verified(8) as path:
        model = Autoencoder.from_pretrained(path / "ema")
    model.save_pretrained(tmp_path / "model")
    start = Initial(folder=str(tmp_path / "model"), weights_sha256=sha256_of(tmp_path / "model" / "model.safetensors"))
    work = trial(
        recipe__losses={**LOSSES, "vf": None, "gan": {"layers": 1}},
        recipe__steps=4,
        recipe__decoder_stage={"steps": 4},
        recipe__start_from="models:/x@best",
        recipe__warmup_steps=0,
    ).model_copy(update={"initial": start})
    train(work, "alone")
    alone, initial = state(tmp_path / "alone"), model.state_dict()
    assert all(torch.equal(alone[f"model/{key}"], value) for key, value in initial.items() if "encoder" in key)
    assert any(not torch.equal(alone[f"model/{key}"], value) for key, value in initial.items() if "decoder" in key)


def test_pieces_of_a_batch_give_the_gradients_of_the_whole(trial, train, tmp_path):
    # float32 sums in another order, no more: L1, LPIPS and KL are means over samples. One step, for Adam makes steps
    # of one size out of the smallest differences
    losses = {"kl": 1e-6, "lpips": {"network": "random"}}
    for name, pieces in (("one", 1), ("four", 4)):
        train(trial(recipe__losses=losses, recipe__steps=1, recipe__warmup_steps=0, resources__accumulate=pieces), name)
    one, four = state(tmp_path / "one"), state(tmp_path / "four")
    for key in one:
        if key.startswith("optimizer/exp_avg/"):
            torch.testing.assert_close(four[key], one[key], rtol=1e-3, atol=1e-6)


def test_other_sets_are_measured_once_at_the_end(trial, samples, tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    work = trial(recipe__steps=4, evaluation__every=2)
    metrics = train_vae(work, samples, tmp_path, journal, World(), {}, {"again": samples[1]})
    journal.close()
    validated = [record for record in read_journal(tmp_path / "journal.jsonl") if record["event"] == "validated"]
    assert [any(key.startswith("again/") for key in record["metrics"]) for record in validated] == [False, True]
    assert metrics["again/psnr"] == metrics["val/psnr"]
    assert {key.replace("again/", "val/") for key in metrics} == {"val/l1", "val/mse", "val/psnr", "val/ssim"}
    records = read_journal(tmp_path / "journal.jsonl")
    assert [(r["set"], r["path"]) for r in records if r["event"] == "set_pictures"] == [
        ("again", "pictures/step_000000004_again.png")
    ]
    assert (tmp_path / "pictures" / "step_000000004_again.png").exists()
    assert not (tmp_path / "pictures" / "step_000000002_again.png").exists()
