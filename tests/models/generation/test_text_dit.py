"""The text-to-image DiT: its counts, what it begins as, what depends on what, what it refuses."""

import pytest
import torch

from transvae.generation import create_text_dit, text_dit_config
from transvae.generation.text import HashedWords, Text
from transvae.generation.text_dit import TextDiT, for_editing

KINDS = [(blocks, modulation) for blocks in ("guide", "lightning") for modulation in ("zero", "plain")]


def small(**switches):
    torch.manual_seed(0)
    return TextDiT(text_dit_config("text_dit-micro-S/2", 4, 8, 16, **switches))


def awake(model):
    """A network whose zero-initialised layers have values: before that it answers zero whatever it sees."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def captions(*some):
    return HashedWords(16, 6).encode(some)


@pytest.mark.parametrize(("blocks", "modulation"), KINDS)
def test_counts_in_closed_form(blocks, modulation):
    """Of the guide's size: width 1152, depth 28, text 4096 channels, latents 96 x 16 x 16."""
    with torch.device("meta"):
        model = create_text_dit("text_dit-XL/1", 96, 16, 4096, blocks=blocks, modulation=modulation)
    c, hidden = 1152, int(2 / 3 * 4 * 1152)
    ffn = 8 * c * c + 5 * c if blocks == "guide" else c * 2 * hidden + 2 * hidden + hidden * c + c
    norms = 3 * c if blocks == "lightning" else 0
    branches = 9 if modulation == "zero" else 6
    block = 4 * c * c + 4 * c + 4 * c * c + 4 * c + ffn + norms + branches * (c * c + c)
    time = 256 * c + c + c * c + c
    ends = 96 * c + c + c * 96 + 96 + 2 * (c * c + c) + norms // 3
    learned = 256 * c if blocks == "guide" else 0
    assert sum(p.numel() for p in model.parameters()) == 28 * block + time + ends + 4096 * c + c + 4096 + learned


@pytest.mark.parametrize(("blocks", "modulation"), KINDS)
def test_a_fresh_network_answers_zero_and_an_awake_one_reads(blocks, modulation):
    model = small(blocks=blocks, modulation=modulation)
    x, t, text = torch.randn(2, 4, 8, 8), torch.tensor([0.2, 0.7]), captions("a red cat", "a blue dog")
    assert not model(x, t, text).any()
    model = awake(model)
    answer = model(x, t, text)
    assert answer.shape == x.shape
    assert not torch.allclose(answer, model(x, t, captions("a red cat", "a blue cat")), atol=1e-3)
    assert not torch.allclose(answer, model(x, t.flip(0), text), atol=1e-3)
    alone = model(x[1:], t[1:], Text(text.tokens[1:], text.mask[1:]))
    torch.testing.assert_close(alone, answer[1:], atol=1e-5, rtol=1e-5)


def test_gates_decide_whether_a_fresh_block_is_the_identity():
    x, condition, text = torch.randn(1, 16, 96), torch.randn(1, 96), torch.randn(1, 3, 96)
    for modulation, same in (("zero", True), ("plain", False)):
        block = small(modulation=modulation).blocks[0]
        assert torch.equal(block(x, condition, text, torch.ones(1, 1, 1, 3, dtype=torch.bool), None), x) == same


def test_what_the_mask_hides_changes_nothing():
    model, x, t = awake(small()), torch.randn(1, 4, 8, 8), torch.tensor([0.5])
    text = captions("two words")
    noisy = Text(torch.where(text.mask[..., None], text.tokens, torch.full_like(text.tokens, 7.0)), text.mask)
    assert torch.equal(model(x, t, text), model(x, t, noisy))
    shorter = Text(text.tokens[:, :2], text.mask[:, :2])
    torch.testing.assert_close(model(x, t, shorter), model(x, t, text), atol=1e-6, rtol=1e-5)


def test_dropped_captions_become_one_learned_token():
    model, x, t = awake(small()), torch.randn(2, 4, 8, 8), torch.tensor([0.5, 0.5])
    text = captions("a long caption of many words", "short")
    dropped = model.without(text, torch.tensor([True, False]))
    assert dropped.mask[0].tolist() == [True, False, False, False, False, False]
    assert torch.equal(dropped.tokens[0, 0], model.null_E)
    assert torch.equal(dropped.tokens[1], text.tokens[1])
    every = torch.ones(2, dtype=torch.bool)
    first, second = model.without(text, every), model.without(captions("other", "words"), every)
    assert torch.equal(model(x, t, first), model(x, t, second)), "no caption is left in it"
    model.train()(x, t, dropped).sum().backward()
    assert model.null_E.grad.any(), "the null text is learned"


def test_a_network_widened_for_editing_answers_as_before():
    model, x, t, text = awake(small()), torch.randn(2, 4, 8, 8), torch.tensor([0.2, 0.7]), captions("a", "b")
    edit = for_editing(model).eval()
    assert edit.config.editing
    source = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(edit(x, t, text, source), model(x, t, text), atol=1e-6, rtol=1e-6)
    assert torch.equal(edit(x, t, text), edit(x, t, text, torch.zeros_like(x))), "zeros stand for no source"
    edit(x, t, text, source).sum().backward()
    assert edit.patches.weight.grad[:, 4:].any()
    fresh = small(editing=True).patches.weight
    assert fresh[:, :4].any()
    assert not fresh[:, 4:].any()


@pytest.mark.parametrize("blocks", ["guide", "lightning"])
def test_checkpointed_blocks_give_the_same_gradients(blocks):
    x, t, text, gradients = torch.randn(2, 4, 8, 8), torch.rand(2), captions("a cat", "a dog"), []
    for checkpointing in (False, True):
        model = awake(small(blocks=blocks)).train()
        model.gradient_checkpointing = checkpointing
        model(x, t, text).square().sum().backward()
        gradients.append([p.grad for name, p in model.named_parameters() if name != "null_E"])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_checkpoints_hold_learned_positions_alone():
    assert "position_NC" in small().state_dict()
    assert not {"cos_Nd", "sin_Nd", "position_NC"} & small(blocks="lightning").state_dict().keys()
    saved = small(blocks="lightning").state_dict()
    small(blocks="lightning").load_state_dict(saved)


@pytest.mark.parametrize(
    ("name", "size", "switches", "message"),
    [
        ("text_dit-micro-S/3", 8, {}, "patches of 3 do not divide a latent of 8 positions per side"),
        ("text_dit-M/1", 8, {}, "'text_dit-M/1' is no DiT - the sizes, with any patch: text_dit-B/1"),
        ("lightning_dit-B/1", 8, {}, "'lightning_dit-B/1' is no DiT"),
        ("text_dit-B/1", 8, {"blocks": "dit"}, "blocks='dit' does not exist; choose one of guide, lightning"),
        ("text_dit-B/1", 8, {"modulation": "none"}, "modulation='none' does not exist; choose one of zero, plain"),
    ],
)
def test_what_does_not_fit_is_named(name, size, switches, message):
    with pytest.raises(ValueError, match=message):
        text_dit_config(name, 4, size, 16, **switches)
    with pytest.raises(ValueError, match="text_dim=0 must be positive"):
        text_dit_config("text_dit-B/1", 4, 8, 0)


def test_other_inputs_are_refused_by_name():
    model, x, t, text = small(), torch.zeros(1, 4, 8, 8), torch.zeros(1), captions("a")
    with pytest.raises(ValueError, match=r"latents of shape \(4, 4, 4\), the network is for \(4, 8, 8\)"):
        model(x[..., :4, :4], t, text)
    with pytest.raises(ValueError, match=r"the network reads 16 channels: it was made for another text encoder"):
        model(x, t, HashedWords(8).encode(["a"]))
    with pytest.raises(ValueError, match="the network was made without editing=True"):
        model(x, t, text, x)
    with pytest.raises(ValueError, match=r"a source of shape \(4, 4, 4\)"):
        small(editing=True)(x, t, text, x[..., :4, :4])


@pytest.mark.parametrize(("blocks", "modulation"), KINDS)
def test_it_trains_under_autocast(blocks, modulation):
    """Every weight gets a gradient, the answer is that of fp32 within bfloat16's rounding."""
    model = awake(small(blocks=blocks, modulation=modulation)).train()
    x, t, text = torch.randn(2, 4, 8, 8), torch.tensor([0.2, 0.7]), captions("a red cat", "a blue dog")
    text = model.without(text, torch.tensor([True, False]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(x, t, text)
    whole = model(x, t, text)
    assert (half.float() - whole).abs().max() < 0.1 * whole.abs().max()
    half.float().square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
