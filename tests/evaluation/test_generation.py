"""Samples by number: the same bits whoever draws them, with the label and the guidance that were asked for."""

import numpy as np
import pytest
import torch

from transvae import create_model
from transvae.generation import LatentSpace, LightningDiT, dit_config
from transvae_platform.errors import UserError
from transvae_platform.evaluation.generation import draw_images, draw_latents, sample_labels
from transvae_platform.study.downstream_spec import SamplerSpec
from transvae_platform.world import World

SPACE = LatentSpace(
    fingerprint="a", data="b", resolution=32, content="sample", tokenizer={"name": "m", "weights_sha256": "c"},
    mean=(1.0, 0.0, -1.0, 2.0), std=(2.0, 1.0, 0.5, 1.0),
)  # fmt: skip
EULER = SamplerSpec(times=4, batch=4)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = LightningDiT(dit_config("lightning_dit-micro-S/2", 4, 4, classes=5), SPACE)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def drawn(network, sampler, ids, world=None):
    """Latents and labels by number."""
    found = {}
    for part in draw_latents(network, sampler, np.asarray(ids), world or World()):
        for number, label, latent in zip(part.ids.tolist(), part.labels.tolist(), part.latents, strict=True):
            found[number] = (label, latent)
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for number in one:
        assert one[number][0] == other[number][0]
        assert torch.equal(one[number][1], other[number][1]), number


@pytest.mark.parametrize("sampler", [EULER, SamplerSpec(method="dopri5", batch=4)], ids=["euler", "dopri5"])
def test_a_sample_is_the_same_bits_whatever_else_is_drawn_and_by_how_many(network, sampler):
    whole = drawn(network, sampler, range(10))
    some = drawn(network, sampler, [2, 5, 9])
    assert_same(some, {number: whole[number] for number in (2, 5, 9)})
    shared = [drawn(network, sampler, range(10), World(rank, 3)) for rank in range(3)]
    assert all(shared)
    assert sum(len(part) for part in shared) == 10
    assert_same({number: value for part in shared for number, value in part.items()} | {}, dict(sorted(whole.items())))
    other = drawn(network, sampler.model_copy(update={"seed": 1}), [2])
    assert not torch.equal(other[2][1], whole[2][1])


def test_latents_are_on_the_scale_of_their_tokenizer(network):
    plain = LightningDiT(network.config, None)
    plain.load_state_dict(network.state_dict())
    with pytest.raises(UserError, match="does not say which latents it was trained on"):
        drawn(plain.eval(), EULER, [0])
    latents = torch.stack([latent for _, latent in drawn(network, EULER, range(64)).values()])
    with torch.no_grad():
        for parameter in network.out.parameters():
            parameter.zero_()
        noise = torch.stack([latent for _, latent in drawn(network, EULER, range(256)).values()])
    assert noise.mean((0, 2, 3)).numpy() == pytest.approx(SPACE.mean, abs=0.15)  # a network that answers zero
    assert noise.std((0, 2, 3)).numpy() == pytest.approx(SPACE.std, rel=0.1)
    assert latents.shape == (64, 4, 4, 4)


def test_labels_are_balanced_or_random(network):
    ids = np.arange(1000)
    balanced = sample_labels(EULER.model_copy(update={"labels": "balanced"}), ids, 5)
    assert np.bincount(balanced).tolist() == [200] * 5
    random = np.bincount(sample_labels(EULER, ids, 5), minlength=5)
    assert random.sum() == 1000
    assert random.min() > 150
    assert len(set(random.tolist())) > 1


def test_guidance_counts_its_evaluations_and_changes_the_sample(network):
    torch.nn.init.normal_(network.out.weight, std=0.2)
    guided = SamplerSpec(times=4, batch=4, guidance={"scale": 4.0, "start": 0.0})
    (part,) = draw_latents(network, guided, np.arange(4), World())
    (plain,) = draw_latents(network, EULER, np.arange(4), World())
    assert part.evaluations == plain.evaluations == 3
    assert not torch.equal(part.latents[:, :3], plain.latents[:, :3])


def test_images_are_levels_of_what_the_decoder_makes(network):
    vae = create_model("vit-micro-T/f4d4", resolution=16).eval()
    ((part, levels),) = draw_images(network, vae.decode, EULER, np.arange(3), World())
    assert levels.shape == (3, 3, 16, 16)
    with torch.no_grad():
        expected = (vae.decode(part.latents) * 127.5 + 127.5).round().clamp(0, 255)
    assert torch.equal(levels, expected)
