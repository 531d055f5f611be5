"""The contract on ours and on folders in diffusers' format, with random weights; refusals."""

import json
import re

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from transvae import create_model
from transvae.tokenizers import PUBLISHED, Facts, TokenizerError, open_tokenizer, opening
from transvae.tokenizers.published import known_by, title_of
from transvae.torchvision_cpu import ensure_torchvision

SD35 = {  # the published config.json
    "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4, "force_upcast": True,
    "in_channels": 3, "out_channels": 3, "latent_channels": 16, "layers_per_block": 2, "mid_block_add_attention": True,
    "norm_num_groups": 32, "sample_size": 1024, "scaling_factor": 1.5305, "shift_factor": 0.0609,
    "use_quant_conv": False, "use_post_quant_conv": False, "latents_mean": None, "latents_std": None,
}  # fmt: skip
SD = {**SD35, "latent_channels": 4, "scaling_factor": 0.18215, "shift_factor": None, "use_quant_conv": True,
      "use_post_quant_conv": True, "sample_size": 256}  # fmt: skip


def dc(channels, wide, scale, down="pixel_unshuffle", up="pixel_shuffle"):
    """DC-AE's f32c32-in with so many stages of width 2048 more: f64c128-in has one, f128c512-in two."""
    published: dict = {
        "_class_name": "AutoencoderDC", "in_channels": 3, "latent_channels": channels, "attention_head_dim": 32,
        "downsample_block_type": down, "upsample_block_type": up, "scaling_factor": scale,
        "decoder_norm_types": ["batch_norm"] * 3 + ["rms_norm"] * (3 + wide),
        "decoder_act_fns": ["relu"] * 3 + ["silu"] * (3 + wide),
    }  # fmt: skip
    for side, layers in (("encoder", [0, 4, 8]), ("decoder", [0, 5, 10])):
        published |= {
            f"{side}_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * (3 + wide),
            f"{side}_block_out_channels": [128, 256, 512, 512, 1024, 1024] + [2048] * wide,
            f"{side}_layers_per_block": layers + [2] * (3 + wide),
            f"{side}_qkv_multiscales": [[]] * (6 + wide),
        }
    return published


DCAE = dc(32, 0, 0.3189)
RAE = {  # with registers, base; decoder ViT-XL
    "_class_name": "AutoencoderRAE", "encoder_type": "dinov2", "encoder_hidden_size": 768, "encoder_patch_size": 14,
    "encoder_num_hidden_layers": 12, "encoder_input_size": 224, "patch_size": 16, "decoder_hidden_size": 1152,
    "decoder_num_hidden_layers": 28, "decoder_num_attention_heads": 16, "decoder_intermediate_size": 4096,
    "scaling_factor": 1.0,
}  # fmt: skip
SMALL_KL = {**SD35, "block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4}
SMALL_DC = {**DCAE, "encoder_block_out_channels": [8, 16, 32, 32, 64, 64],
            "decoder_block_out_channels": [8, 16, 32, 32, 64, 64],
            "encoder_layers_per_block": [0, 1, 1, 1, 1, 1], "decoder_layers_per_block": [0, 1, 1, 1, 1, 1]}  # fmt: skip


@pytest.fixture(scope="module")
def diffusers():
    ensure_torchvision()
    return pytest.importorskip("diffusers")


@pytest.fixture
def folder(diffusers, tmp_path):
    """Writes a randomly initialised network as its publishers do."""

    def write(config):
        torch.manual_seed(0)
        options = {key: value for key, value in config.items() if not key.startswith("_")}
        network = getattr(diffusers, config["_class_name"])(**options)
        network.save_pretrained(tmp_path / "published")
        return tmp_path / "published", network.eval()

    return write


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (SD35, 83.82), (SD, 83.65),  # the reference's
        (DCAE, 323.36),  # of DC-AE's own code; its paper: 323
        (dc(32, 0, 0.3189, "Conv", "interpolate"), 283.52),  # the reference's: blocks of f32c32-sana
        (dc(128, 1, 0.2889), 676.90), (dc(512, 2, 0.4883), 1120.68), (RAE, 501.64),
    ],
    ids=["sd3.5", "sd", "dc-ae-f32", "dc-ae-f32, sana's blocks", "dc-ae-f64", "dc-ae-f128", "rae"],
)  # fmt: skip
def test_parameters_of_the_published_configurations(diffusers, config, millions):
    if config is RAE:
        pytest.importorskip("transformers")
    with torch.device("meta"):
        options = {key: value for key, value in config.items() if not key.startswith("_")}
        network = getattr(diffusers, config["_class_name"])(**options)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.006)
    channels = config.get("latent_channels", config.get("encoder_hidden_size"))
    published = {entry.parameters for entry in PUBLISHED.values() if entry.channels == channels and entry.parameters}
    assert published == {count} or config.get("downsample_block_type") == "Conv"
    if config["_class_name"] == "AutoencoderDC":
        (entry,) = (entry for entry in PUBLISHED.values() if entry.channels == channels and entry.parameters)
        assert (network.spatial_compression_ratio, config["scaling_factor"]) == (entry.compression, entry.scale)


def test_a_folder_of_autoencoder_kl(folder):
    path, network = folder(SMALL_KL)
    tokenizer = open_tokenizer(path)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        posterior, theirs = tokenizer.posterior(x), network.encode(x).latent_dist
        torch.testing.assert_close(posterior.mean, theirs.mean)
        noise = torch.randn(posterior.mean.shape)
        torch.testing.assert_close(posterior.sample(noise), theirs.mean + theirs.std * noise)
        torch.testing.assert_close(tokenizer.decode(posterior.mean), network.decode(theirs.mean).sample)
    facts = tokenizer.facts
    assert (
        posterior.mean.shape == (2, facts.channels, 32 // facts.compression, 32 // facts.compression) == (2, 16, 4, 4)
    )
    assert (facts.scale, facts.shift, facts.deterministic, facts.title) == (1.5305, 0.0609, False, "AutoencoderKL")
    assert len(facts.weights_sha256) == 64
    assert tokenizer.parameters_count == sum(p.numel() for p in network.parameters())
    assert not any(p.requires_grad for p in tokenizer.parameters())


def test_a_format_is_known_by_its_size_and_a_file_by_its_sha256():
    assert title_of(8, 16, 1.5305, 83_819_683) == "SD3.5-VAE"
    assert title_of(8, 16, 1.5305, 1_050_000) is None
    assert title_of(8, 4, 0.18215, 83_653_863) == "SD-VAE"  # ft-EMA, ft-MSE and the original
    assert title_of(16, 32, None, 70_000_000) is None
    assert known_by("f5b59a26851551b67ae1fe58d32e76486e1e812def4696a4bea97f16604d40a3") == "flux-vae"
    assert known_by("0" * 64) is None


def test_the_title_of_ours_says_what_is_not_its_names(tmp_path):
    for number, (overrides, title) in enumerate([
        ({}, "transvae-micro-T/f4d4"), ({"resolution": 64}, "transvae-micro-T/f4d4"),
        ({"position": "learned"}, "transvae-micro-T/f4d4 (position=learned)"),
    ]):  # fmt: skip
        create_model("transvae-micro-T/f4d4", **overrides).save_pretrained(tmp_path / str(number))
        assert open_tokenizer(tmp_path / str(number)).facts.title == title


def test_names_of_diffusers_first_years_are_read(folder):
    path, network = folder({**SMALL_KL, "latent_channels": 4, "use_quant_conv": True, "use_post_quant_conv": True})
    weights = path / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for now, before in former.items():
        for key in [key for key in state if f".attentions.0.{now}." in key]:
            state[key.replace(f".{now}.", f".{before}.")] = state.pop(key)
    assert "decoder.mid_block.attentions.0.proj_attn.bias" in state
    save_file(state, weights)
    opened, expected = open_tokenizer(path).network.state_dict(), network.state_dict()
    assert all(torch.equal(opened[key], value) for key, value in expected.items())
    assert opened.keys() == expected.keys()


def test_a_folder_of_autoencoder_dc(folder):
    path, network = folder(SMALL_DC)
    tokenizer = open_tokenizer(path)
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        posterior = tokenizer.posterior(x)
        latent = network.encode(x).latent
        torch.testing.assert_close(posterior.mean, latent)
        assert posterior.sample(torch.randn(3)) is posterior.mean is posterior.mode()
        torch.testing.assert_close(tokenizer.decode(latent), network.decode(latent).sample)
    assert (tokenizer.facts.compression, tokenizer.facts.channels, tokenizer.facts.deterministic) == (32, 32, True)


def test_a_pipelines_folder_means_its_vae(folder, tmp_path):
    path, _ = folder(SMALL_KL)
    path.rename(tmp_path / "vae")
    assert open_tokenizer(tmp_path).facts.kind == "AutoencoderKL"


def test_weights_that_are_missing_do_not_stay_random(folder):
    path, _ = folder(SMALL_KL)
    weights = path / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    del state["encoder.conv_in.weight"]
    save_file(state, weights)
    with pytest.raises(TokenizerError, match=r"does not fit its config.json"):
        open_tokenizer(path)
    weights.unlink()
    with pytest.raises(TokenizerError, match="download the folder again"):
        open_tokenizer(path)


def test_other_forms_of_the_weights_are_named_with_the_way_to_convert_them(folder):
    path, network = folder(SMALL_KL)
    (path / "diffusion_pytorch_model.safetensors").unlink()
    network.save_pretrained(path, variant="fp16")
    with pytest.raises(TokenizerError, match=r"there are diffusion_pytorch_model.fp16.safetensors: convert") as error:
        open_tokenizer(path)
    command = re.search(r'python -c "(.*)"', str(error.value))[1]
    exec(command.replace("NEW_FOLDER", str(path.parent / "new")))
    opened, expected = open_tokenizer(path.parent / "new").network.state_dict(), network.state_dict()
    assert all(torch.equal(opened[key], value) for key, value in expected.items())


def test_a_configuration_without_widths_is_refused(folder):
    path, _ = folder(SMALL_KL)
    (path / "config.json").write_text(json.dumps({**SMALL_KL, "block_out_channels": []}))
    with pytest.raises(TokenizerError, match=r"builds no AutoencoderKL of this config.json"):
        open_tokenizer(path)


def test_ours(tmp_path):
    torch.manual_seed(0)
    model = create_model("vit-micro-T/f8d8").eval()
    model.save_pretrained(tmp_path)
    tokenizer = open_tokenizer(tmp_path)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        assert torch.equal(tokenizer.decode(tokenizer.posterior(x).mode()), model.decode(model.encode(x)))
    assert (tokenizer.facts.kind, tokenizer.facts.compression, tokenizer.facts.channels) == ("transvae", 8, 8)
    assert tokenizer.facts.scale is None


def test_sizes_that_do_not_fit_are_named():
    facts = Facts("AutoencoderDC", "DC-AE", 32, 32, True, "", "")
    facts.refuse(64, 96)
    with pytest.raises(TokenizerError, match="multiples of its compression 32, not 48 x 64"):
        facts.refuse(48, 64)
    with pytest.raises(TokenizerError, match="ingest the images at --resolution 256"):
        Facts("AutoencoderRAE", "RAE", 16, 768, True, "", "", only_side=256).refuse(512, 512)


def test_what_cannot_be_opened_says_why(tmp_path, monkeypatch):
    for name, said in (("detok-bb-ft", "sized for 256 x 256"), ("vitok-s-b-16", "never published")):
        with pytest.raises(TokenizerError, match=said):
            open_tokenizer(name)
    with pytest.raises(TokenizerError, match=r"did you mean 'sd3\.5-vae'"):
        open_tokenizer("sd35-vae")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderTiny"}))
    with pytest.raises(TokenizerError, match="names the class AutoencoderTiny"):
        open_tokenizer(tmp_path)

    def unreachable(*names, **options):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(opening, "snapshot_download", unreachable)
    monkeypatch.setattr(opening, "hf_hub_download", unreachable)
    with pytest.raises(
        TokenizerError, match=r"gated: accept its licence .*hf auth login.* give the path of the folder"
    ):
        open_tokenizer("sd3.5-vae")
    with pytest.raises(TokenizerError) as error:
        open_tokenizer("va-vae")
    assert "gated" not in str(error.value)
    assert "vavae-imagenet256-f16d32-dinov2.pt" in str(error.value)


def test_a_folder_of_autoencoder_rae(folder):
    pytest.importorskip("transformers")
    config = {
        "_class_name": "AutoencoderRAE", "encoder_type": "dinov2", "encoder_hidden_size": 64,
        "encoder_num_hidden_layers": 1, "decoder_hidden_size": 64, "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 4, "decoder_intermediate_size": 64, "encoder_input_size": 56, "patch_size": 16,
        "noise_tau": 0.8, "latents_mean": [[[0.5]]] * 64, "latents_std": [[[2.0]]] * 64,
    }  # fmt: skip
    path, network = folder(config)
    tokenizer = open_tokenizer(path)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        z = tokenizer.posterior(x).mean
        torch.testing.assert_close(z, network.encode((x + 1) / 2).latent)
        torch.testing.assert_close(tokenizer.decode(z), network.decode(z).sample * 2 - 1)
    facts = tokenizer.facts
    assert (facts.compression, facts.channels, facts.only_side, facts.deterministic) == (16, 64, 64, True)
