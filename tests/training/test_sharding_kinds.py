"""Weights in parts (FSDP2) of the other kinds of trials: the training is that of two ranks which hold all of them."""

import pytest
from tests.training.conftest import make_trial
from tests.training.ranks import as_ranks
from tests.training.test_representing import STAGES, keys
from tests.training.test_sharding import assert_close
from tests.training.test_text_generating import DOWNSTREAM, ENCODER, SPEC, captioned  # noqa: F401 - a fixture
from tests.training.twins import last_state

from transvae import Autoencoder
from transvae_platform.data.stream.latents import latent_space
from transvae_platform.study.grid import build_grid
from transvae_platform.study.spec import StudySpec
from transvae_platform.training.loop import train, train_vae
from transvae_platform.training.text_generating import TextGenerating

SLOW = {"warmup_steps": 0, "learning_rate": 1e-5}  # as in test_sharding.py: rounding of gradients stays small


def read_captions(world, trial, latents, vae, folder):
    decode = Autoencoder.from_pretrained(vae).decode
    task = TextGenerating(trial, world, latent_space(latents[0]), decode, ENCODER, latents[1])
    return train(task, latents, folder, None, {})


def represent(world, trial, samples, folder):
    return train_vae(trial, samples, folder, None, world, {})


def compare(tmp_path):
    one, other = (last_state(tmp_path / name) for name in ("fsdp", "ddp"))
    assert one[0] == other[0]
    for part, rel in (("model/", 1e-4), ("optimizer/exp_avg/", 0.02)):  # weights hardly move, moments are gradients
        found = [{key: value for key, value in state[1].items() if key.startswith(part)} for state in (one, other)]
        assert found[0]
        assert_close(*found, rel=rel)


def test_a_text_to_image_generator_in_parts(captioned, tmp_path):  # noqa: F811
    latents, vae = captioned
    for sharding in ("fsdp", "ddp"):
        down = {
            **DOWNSTREAM, "recipe": {**DOWNSTREAM["recipe"], **SLOW, "steps": 4},
            "resources": {"workers": 2, "sharding": sharding},
        }  # fmt: skip
        trial = build_grid(StudySpec.model_validate({**SPEC, "downstream": down}), "f" * 16)[-1]
        folder = tmp_path / sharding
        metrics = as_ranks(2, folder, read_captions, trial, latents, vae, folder)
        assert metrics[0] == metrics[1]
    compare(tmp_path)


@pytest.mark.parametrize("stage", ["both stages", pytest.param("pixels alone", marks=pytest.mark.slow)])
def test_a_ps_vae_in_parts(home, samples, tmp_path, stage):
    semantic = STAGES if stage == "both stages" else {**STAGES, "pixel_stage": None}
    changes = {**keys(semantic=semantic), "recipe__learning_rate": 1e-5, "recipe__warmup_steps": 0}
    for sharding in ("fsdp", "ddp"):
        trial = make_trial(home, resources__workers=2, resources__sharding=sharding, **changes)
        folder = tmp_path / sharding
        metrics = as_ranks(2, folder, represent, trial, samples, folder)
        assert metrics[0] == metrics[1]
    compare(tmp_path)
