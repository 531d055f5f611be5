"""Noise prediction and DDIM against their formulas, in Python's floats."""

import math

import pytest
import torch

from transvae.generation import create_text_dit
from transvae.generation.diffusion import add_noise, ddim, noise_loss, sampling_steps
from transvae.generation.noise_schedule import NoiseSchedule
from transvae.generation.sampling import euler, times
from transvae.generation.text import HashedWords
from transvae.generation.text_guidance import TextGuidance, guided_by_text


@pytest.mark.parametrize(("kind", "ends"), [("linear", (1e-4, 0.02)), ("scaled_linear", (0.00085, 0.012))])
def test_schedules_are_their_formulas(kind, ends):
    first, last = ends
    kept, expected = 1.0, []
    for s in range(1000):
        share = s / 999
        beta = first + share * (last - first)
        if kind == "scaled_linear":
            beta = (math.sqrt(first) + share * (math.sqrt(last) - math.sqrt(first))) ** 2
        kept *= 1 - beta
        expected.append(kept)
    table = NoiseSchedule(1000, first, last, kind).kept()
    assert table.dtype == torch.float64
    assert table.tolist() == pytest.approx(expected, rel=1e-10)
    assert table[-1] == pytest.approx({"linear": 4.036e-5, "scaled_linear": 4.660e-3}[kind], rel=1e-3)


def test_the_guides_mixture_keeps_far_more_than_ddpm():
    """Why `linear` is the default for its bounds: with `scaled_linear` the last step keeps a signal of 2.7 %."""
    roots = [math.sqrt(1e-4) + s / 999 * (math.sqrt(0.02) - math.sqrt(1e-4)) for s in range(1000)]
    mixed = math.prod(1 - root**2 for root in roots)
    assert float(NoiseSchedule(kind="scaled_linear").kept()[-1]) == pytest.approx(mixed, rel=1e-9)
    assert mixed / float(NoiseSchedule().kept()[-1]) == pytest.approx(18.2, abs=0.1)


def test_every_trained_step_is_drawn_equally_often():
    schedule, uniform = NoiseSchedule(steps=4), torch.tensor([0.0, 0.2499, 0.25, 0.5, 0.75, 1 - 2**-24])
    assert schedule.drawn(uniform).tolist() == [0, 0, 1, 2, 3, 3]
    assert NoiseSchedule(steps=4, draw="all_but_last").drawn(uniform).tolist() == [0, 0, 0, 1, 2, 2]
    assert NoiseSchedule().drawn(torch.rand(100_000)).bincount(minlength=1000).min() > 50


def test_noise_is_added_by_each_samples_share():
    data, noise = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    noisy = add_noise(data, noise, torch.tensor([0.25, 1.0], dtype=torch.float64))
    torch.testing.assert_close(noisy[0], 0.5 * data[0] + math.sqrt(0.75) * noise[0])
    assert torch.equal(noisy[1], data[1])
    assert noisy.dtype == torch.float32
    assert float(noise_loss(torch.zeros_like(noise), noise)) == pytest.approx(float(noise.square().mean()))


def test_sampling_steps():
    schedule = NoiseSchedule()
    trailing, leading = sampling_steps(schedule), sampling_steps(schedule, spacing="leading")
    assert (trailing[0], trailing[1], trailing[-1], len(trailing)) == (999, 979, 19, 50)
    assert (leading[0], leading[1], leading[-1], len(leading)) == (980, 960, 0, 50)
    assert sampling_steps(schedule, 1000) == list(range(999, -1, -1)) == sampling_steps(schedule, 1000, "leading")
    assert sampling_steps(schedule, 1) == [999]


def test_ddim_is_its_equation_step_by_step():
    schedule = NoiseSchedule(steps=10, last=0.3)
    noise, asked = torch.randn(2, 1, 1, 1, dtype=torch.float64), []

    def predict(x, s):
        asked.append(s.tolist())
        return 0.3 * x + 0.01 * s[:, None, None, None]

    answer = ddim(predict, noise, schedule, sampling_steps(schedule, 3))
    kept = schedule.kept().tolist()
    for row in range(2):
        x = float(noise[row])
        for step, after in ((9, 5), (5, 2), (2, None)):
            a, b = kept[step], 1.0 if after is None else kept[after]
            e = 0.3 * x + 0.01 * step
            x = math.sqrt(b) * (x - math.sqrt(1 - a) * e) / math.sqrt(a) + math.sqrt(1 - b) * e
        assert float(answer[row]) == pytest.approx(x, rel=1e-12)
    assert asked == [[9.0, 9.0], [5.0, 5.0], [2.0, 2.0]]


def test_ddim_finds_the_data_that_a_perfect_network_knows():
    data, schedule = torch.randn(2, 3, 4, 4), NoiseSchedule()
    kept = schedule.kept()

    def predict(x, s):
        a = float(kept[int(s[0])])
        return (x - math.sqrt(a) * data) / math.sqrt(1 - a)

    answer = ddim(predict, torch.randn(2, 3, 4, 4), schedule, sampling_steps(schedule, 20))
    torch.testing.assert_close(answer, data, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_sampling_is_bitwise_repeatable_and_a_sample_is_its_own(sampler):
    """A sample is a function of its own noise and caption: in another order, and beside others, up to rounding."""
    torch.manual_seed(0)
    model = create_text_dit("text_dit-micro-S/2", 4, 8, 16).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    encoder, words = HashedWords(16, 6), ["a cat", "a dog in the sun", "rain"]
    noise = torch.randn(3, 4, 8, 8)

    def sample(rows):
        velocity = guided_by_text(model, encoder.encode([words[row] for row in rows]), TextGuidance())
        if sampler == "euler":
            return euler(velocity, noise[rows], times(6))
        schedule = NoiseSchedule()
        return ddim(velocity, noise[rows], schedule, sampling_steps(schedule, 5))

    together = sample([0, 1, 2])
    assert torch.equal(together, sample([0, 1, 2]))
    torch.testing.assert_close(sample([2, 0])[0], together[2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sample([1])[0], together[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "cosine"}, "kind='cosine' does not exist; choose one of linear, scaled_linear"),
        ({"draw": "some"}, "draw='some' does not exist; choose one of all, all_but_last"),
        ({"steps": 1}, "at least 2 steps and 0 < first <= last < 1, not 1 steps"),
        ({"first": 0.03}, "not 1000 steps from 0.03 to 0.02"),
    ],
)
def test_impossible_schedules_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**values)


def test_impossible_samplings_are_refused():
    with pytest.raises(ValueError, match="1001 sampling steps of a schedule of 1000; take 1 to 1000"):
        sampling_steps(NoiseSchedule(), 1001)
    with pytest.raises(ValueError, match="spacing='even' does not exist; choose one of trailing, leading"):
        sampling_steps(NoiseSchedule(), 50, "even")
