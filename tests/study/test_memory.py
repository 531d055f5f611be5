"""What a training needs of a device, as the plan estimates it."""

import pytest
import torch

from transvae.losses.adversarial import PatchDiscriminator
from transvae.memory import count_activations, kept_bytes
from transvae.registry import model_config
from transvae_platform.errors import SpecError
from transvae_platform.study.costs import RUNTIME_BYTES, memory_bytes
from transvae_platform.study.plan import build_plan, refuse_too_big


@pytest.mark.parametrize(
    ("model", "gib"),
    [("transvae-T", 41), ("transvae-L", 75), ("transvae-G", 159), ("cnn-G", 151), ("vit-G", 41)],
)
def test_activations_of_32_images_are_what_was_counted_by_hand(model, gib):
    # bf16, 256 x 256, without checkpointing; the numbers were counted independently from the layouts
    kept = count_activations(model_config(f"{model}/f16d32"), 256, bf16=True, checkpointing=False)
    assert 32 * kept / 2**30 == pytest.approx(gib, rel=0.06)


def test_checkpointing_and_a_shorter_type_keep_less():
    config = model_config("transvae-T/f16d32")
    whole = count_activations(config, 256, bf16=False, checkpointing=False)
    assert count_activations(config, 256, bf16=True, checkpointing=False) < 0.6 * whole
    assert count_activations(config, 256, bf16=False, checkpointing=True) < 0.3 * whole


def test_attention_keeps_no_matrix():
    config = model_config("vit-T/f16d32")
    small, large = (count_activations(config, size, bf16=False, checkpointing=False) for size in (256, 1024))
    assert large == pytest.approx(16 * small, rel=0.02)  # as the tokens, not as their square


def test_a_trial_that_cannot_fit_is_refused_with_the_ways_out(grid, tmp_path):
    trials = grid(
        grid={"families": {"transvae": ["T"]}, "ladder": "paper", "code": "f16d32"},
        data__resolution=256,
        recipe__batch_size=64,
        resources={"device": "gpu"},
    )
    plan = build_plan(trials, {"cpu": 2, "gpu": 1}, tmp_path, None)
    refuse_too_big(plan, 10**12)
    refuse_too_big(plan, None)
    with pytest.raises(SpecError, match=r"transvae-T needs about \d+ GB per GPU of 24 GB\n.*gradient_checkpointing"):
        refuse_too_big(plan, 24e9)


def test_sharded_weights_need_a_share_of_the_memory_and_room_for_the_whole_average(grid):
    def needed(sharding, images=8):
        trial = grid(
            grid={"families": {"transvae": ["G"]}, "ladder": "paper", "code": "f16d32"},
            data__resolution=256,
            recipe__batch_size=images,
            recipe__gradient_checkpointing=True,
            resources={"device": "gpu", "workers": 8, "sharding": sharding},
        )[0]
        return memory_bytes(trial, 10**9)

    # weights, gradients, two moments and the average of one eighth; the average whole beside it
    assert needed("fsdp") - 20 * 10**9 // 8 == pytest.approx(4e9 + RUNTIME_BYTES["gpu"], rel=0.02)
    assert needed("ddp") - needed("fsdp") > 14e9
    # with much to keep for the backward pass, what a rank gathers of the weights comes on top of it
    assert needed("ddp", 512) - needed("fsdp", 512) == pytest.approx(20e9 - 20e9 / 8 - 0.15 * 4e9, rel=0.02)


def test_a_discriminator_that_judges_while_the_encoder_learns_needs_memory(grid):
    def needed(gan, **recipe):
        trial = grid(
            grid={"families": {"vit": ["T"]}, "ladder": "paper", "code": "f16d32"},
            data__resolution=256,
            recipe__batch_size=32,
            recipe__losses={"gan": gan},
            **recipe,
        )[0]
        return memory_bytes(trial, 10**6)

    network = PatchDiscriminator().requires_grad_(False).to("meta")
    kept = kept_bytes(network, torch.empty(32, 3, 256, 256, device="meta", requires_grad=True))
    assert needed({}) - needed(None) == pytest.approx(1.1 * kept, rel=0.05)
    # later the encoder keeps nothing, which is more than a discriminator does
    stage = {"recipe__decoder_stage": {"steps": 10}}
    assert needed({}, **stage) == needed(None)
    assert needed({"start": 0}, **stage) == needed({})
