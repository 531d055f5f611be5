"""VA-VAE's file: its names and shapes, as LDM's configuration (1, 1, 2, 2, 4) of width 128 publishes them."""

import pytest
import torch

from transvae.registry import create_model
from transvae.tokenizers.contract import TokenizerError
from transvae.tokenizers.vavae import _ours, open_vavae

MULTIPLIERS, WIDTH, LATENT = (1, 1, 2, 2, 4), 128, 32


def _convolution(name, a, b, kernel=3):
    return {f"{name}.weight": (b, a, kernel, kernel), f"{name}.bias": (b,)}


def _norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _block(name, a, b):
    shortcut = _convolution(f"{name}.nin_shortcut", a, b, 1) if a != b else {}
    return {**_norm(f"{name}.norm1", a), **_convolution(f"{name}.conv1", a, b), **_norm(f"{name}.norm2", b),
            **_convolution(f"{name}.conv2", b, b), **shortcut}  # fmt: skip


def _attention(name, width):
    parts = {}
    for part in ("q", "k", "v", "proj_out"):
        parts |= _convolution(f"{name}.{part}", width, width, 1)
    return {**_norm(f"{name}.norm", width), **parts}


def _middle(name, width):
    return {**_block(f"{name}.block_1", width, width), **_attention(f"{name}.attn_1", width),
            **_block(f"{name}.block_2", width, width)}  # fmt: skip


def ldm_shapes(d=LATENT):
    """LDM's `ddconfig` of VA-VAE: num_res_blocks 2, attn_resolutions [16] at 256 pixels."""
    widths = [WIDTH * m for m in MULTIPLIERS]
    shapes = _convolution("encoder.conv_in", 3, WIDTH) | _convolution("decoder.conv_in", d, widths[-1])
    before = WIDTH
    for i, width in enumerate(widths):
        for j in range(2):
            shapes |= _block(f"encoder.down.{i}.block.{j}", before, width)
            before = width
            if i == 4:
                shapes |= _attention(f"encoder.down.{i}.attn.{j}", width)
        if i < 4:
            shapes |= _convolution(f"encoder.down.{i}.downsample.conv", width, width)
    for side in ("encoder", "decoder"):
        shapes |= _middle(f"{side}.mid", before)
    shapes |= _norm("encoder.norm_out", before) | _convolution("encoder.conv_out", before, 2 * d)
    for i in reversed(range(5)):
        for j in range(3):
            shapes |= _block(f"decoder.up.{i}.block.{j}", before, widths[i])
            before = widths[i]
            if i == 4:
                shapes |= _attention(f"decoder.up.{i}.attn.{j}", before)
        if i:
            shapes |= _convolution(f"decoder.up.{i}.upsample.conv", before, before)
    shapes |= _norm("decoder.norm_out", before) | _convolution("decoder.conv_out", before, 3)
    return shapes | _convolution("quant_conv", 2 * d, 2 * d, 1) | _convolution("post_quant_conv", d, d, 1)


def test_every_published_name_has_its_place_and_shape():
    shapes = ldm_shapes()
    with torch.device("meta"):
        model = create_model("cnn-T/f16d32")
        model.load_state_dict(_ours({key: torch.empty(shape) for key, shape in shapes.items()}), strict=True)
    count = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert sum(p.numel() for p in model.parameters()) == count
    assert round(count / 1e6) == 70  # table 1 of the paper


def test_q_k_and_v_keep_their_order():
    shapes = ldm_shapes()
    state = {key: torch.zeros(shape) for key, shape in shapes.items() if ".mid.attn_1." in key}
    for number, part in enumerate("qkv", 1):
        state[f"encoder.mid.attn_1.{part}.bias"] += number
    width = 512
    assert _ours(state)["encoder.mid.blocks.1.attention.qkv.bias"][::width].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("state", "said"),
    [({"weight": torch.zeros(2)}, "no LDM autoencoder with post_quant_conv.weight.*folders of diffusers"),
     ({"post_quant_conv.weight": torch.zeros(4, 4, 1, 1)}, "is not VA-VAE's network"),
     ({"post_quant_conv.weight": torch.tensor(1.0)}, "is not VA-VAE's network"),
     ({"post_quant_conv.weight": torch.zeros(0, 4)}, "is not VA-VAE's network"),
     ({"post_quant_conv.weight": torch.zeros(4, 4, 1, 1), "encoder.mid.attn_1.q.weight": torch.zeros(4, 4, 1, 1)},
      r"Missing key.*encoder\.mid\.blocks\.1\.attention\.qkv\.weight")],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, state, said):
    path = tmp_path / "other.pt"
    torch.save({"state_dict": state}, path)
    with pytest.raises(TokenizerError, match=said):
        open_vavae(path)


def test_damaged_file_is_refused(tmp_path):
    path = tmp_path / "cut.pt"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(TokenizerError, match=r"cut.pt cannot be read as weights"):
        open_vavae(path)
