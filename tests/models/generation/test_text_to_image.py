"""Training and sampling together: a small network learns what two captions and a source mean, by either objective."""

import pytest
import torch

from transvae.generation.diffusion import add_noise, ddim, noise_loss, sampling_steps
from transvae.generation.noise_schedule import NoiseSchedule
from transvae.generation.sampling import euler, times
from transvae.generation.text import HashedWords
from transvae.generation.text_config import TextDiTConfig
from transvae.generation.text_dit import TextDiT
from transvae.generation.text_guidance import TextGuidance, drop_for_editing, drop_text, guided_by_text
from transvae.generation.transport import interpolate, logit_normal_times, velocity_loss

STEPS, BATCH = 150, 32
WORDS = {"warm": 1.0, "cold": -1.0}  # the mean of the latents that a caption stands for
SCHEDULE = NoiseSchedule(steps=100, last=0.15)


def network(objective, editing=False):
    torch.manual_seed(0)
    blocks = "guide" if objective == "noise" else "lightning"
    return TextDiT(TextDiTConfig(2, 32, 2, 2, 2, 4, 16, blocks=blocks, editing=editing))


def loss_of(model, objective, data, text, source=None):
    noise = torch.randn_like(data)
    if objective == "noise":
        at = SCHEDULE.drawn(torch.rand(len(data)))
        noisy = add_noise(data, noise, SCHEDULE.kept()[at])
        return noise_loss(model(noisy, at.float(), text, source), noise)
    t = logit_normal_times(torch.randn(len(data)))
    at, velocity = interpolate(data, noise, t)
    return velocity_loss(model(at, t, text, source), velocity).total


def sample(model, objective, text, source=None, guidance=None):
    follow = guided_by_text(model.eval(), text, guidance, source)
    noise = torch.randn(len(text.mask), 2, 4, 4)
    if objective == "noise":
        return ddim(follow, noise, SCHEDULE, sampling_steps(SCHEDULE, 20))
    return euler(follow, noise, times(21))


@pytest.mark.parametrize("objective", ["noise", "velocity"])
def test_captions_are_learned_and_followed(objective):
    model, encoder = network(objective), HashedWords(16, 4)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for _ in range(STEPS):
        captions = [list(WORDS)[int(which)] for which in torch.randint(2, (BATCH,))]
        data = torch.tensor([WORDS[word] for word in captions])[:, None, None, None] + 0.3 * torch.randn(BATCH, 2, 4, 4)
        text = model.without(encoder.encode(captions), drop_text(torch.rand(BATCH)))
        loss = loss_of(model, objective, data, text)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    text = encoder.encode(["warm", "cold"] * 8)
    for guidance in (None, TextGuidance(2.0)):
        means = sample(model, objective, text, guidance=guidance).mean((1, 2, 3))
        assert means[::2].mean() > 0.6
        assert means[1::2].mean() < -0.6


def test_an_edit_keeps_its_source_and_reads_its_instruction():
    """The first channel of the answer is the source's, the second is what the caption says."""
    model, encoder = network("velocity", editing=True), HashedWords(16, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(2 * STEPS):
        captions = [list(WORDS)[int(which)] for which in torch.randint(2, (BATCH,))]
        source = torch.randn(BATCH, 1, 1, 1).expand(BATCH, 2, 4, 4)
        data = source.clone()
        data[:, 1] = torch.tensor([WORDS[word] for word in captions])[:, None, None]
        no_text, no_source = drop_for_editing(torch.rand(BATCH))
        text = model.without(encoder.encode(captions), no_text)
        loss = loss_of(model, "velocity", data, text, source * ~no_source[:, None, None, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source = torch.linspace(-1.5, 1.5, 16)[:, None, None, None].expand(16, 2, 4, 4)
    text = encoder.encode(["warm", "cold"] * 8)
    edited = sample(model, "velocity", text, source, TextGuidance(text=1.5, source=1.2)).mean((2, 3))
    assert torch.corrcoef(torch.stack([edited[:, 0], source[:, 0, 0, 0]]))[0, 1] > 0.9
    assert edited[::2, 1].mean() > 0.6
    assert edited[1::2, 1].mean() < -0.6
