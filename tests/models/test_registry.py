"""Names, aliases, overrides and the errors that teach the valid ones."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from transvae.config import AutoencoderConfig, CNNLayout, TransVAELayout
from transvae.registry import OVERRIDES, create_model, list_models, model_config
from transvae.sizes import FAMILIES, MICRO_PIXELS, SIZES


def test_the_grid_is_complete():
    names = list_models()
    assert len(names) == len(set(names)) == 22 + 40 + 3 * 4 + 3 * 10
    for family in FAMILIES:
        for size in SIZES:
            assert f"{family}-{size}/f16d32" in names
            assert f"{family}-micro-{size}/f8d8" in names
            assert f"{family}-micro-{size}/f4d4" in names
    for family in ("s-vae", "ps-vae"):
        assert list_models(f"{family}-?/*") == [f"{family}-{size}/f16d96" for size in "TBLG"]
        for latent in ("f8d16", "f4d16"):
            assert list_models(f"{family}-micro-*/{latent}") == [f"{family}-micro-{size}/{latent}" for size in SIZES]
    assert list_models("rae-?/*") == [
        f"rae-{size}/f16d{d}" for size, d in zip("TBLG", (384, 768, 1024, 1536), strict=True)
    ]
    assert len(list_models("rae-micro-*")) == 2 * len(MICRO_PIXELS)


def test_list_models_by_pattern():
    assert list_models("cnn-*/f16d32") == [f"cnn-{size}/f16d32" for size in SIZES]
    assert list_models("transvae-*/f8d16") == ["transvae-L/f8d16"]
    assert list_models("resnet*") == []


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("transvae-large-f16d32", "transvae-L/f16d32"),
        ("transvae_large_f16d32", "transvae-L/f16d32"),
        ("TransVAE-Tiny/f16d32", "transvae-T/f16d32"),
        ("transvae-large-f8d16", "transvae-L/f8d16"),
        ("transvae_giant_printed_f16d32", "transvae-giant_printed/f16d32"),
        ("cnn-micro-base-f4d4", "cnn-micro-B/f4d4"),
        ("swin-t-f16d32", "swin-T/f16d32"),
        ("ps_vae_large_f16d96", "ps-vae-L/f16d96"),
        ("S-VAE-micro-tiny/f4d16", "s-vae-micro-T/f4d16"),
    ],
)
def test_readme_spellings(spelling, name):
    assert model_config(spelling).name == name


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("transvae-X/f16d32", ("T, B, L, H, G, giant_printed", "did you mean")),
        ("transvae-T/f8d16", ("sizes of transvae at f8d16 are L",)),
        ("cnn-L/f8d16", ("cnn exists at f16d32 with sizes T, B, L, H, G",)),
        ("transvae-micro-T/f16d32", ("transvae-micro exists at f8d8", "f4d4")),
        ("resnet-T/f16d32", ("the families are transvae, cnn, vit, swin, s-vae, ps-vae, rae",)),
        ("transvea-T/f16d32", ("did you mean 'transvae-t-f16d32'",)),
    ],
)
def test_a_wrong_name_lists_what_exists(name, parts):
    with pytest.raises(ValueError) as error:
        model_config(name)
    for part in parts:
        assert part in str(error.value)


def test_an_unknown_override_lists_the_keys_and_the_nearest():
    with pytest.raises(ValueError) as error:
        model_config("vit-T/f16d32", positon="none")
    assert "did you mean 'position'" in str(error.value)
    assert all(key in str(error.value) for key in OVERRIDES)


def test_overrides_need_a_name():
    with pytest.raises(ValueError, match="apply to a name"):
        create_model(model_config("vit-micro-T/f8d8"), position="none")


def test_micro_models_start_narrow_and_paper_models_standard():
    assert model_config("cnn-T/f16d32").posterior_init == "standard"
    assert model_config("cnn-micro-T/f8d8").posterior_init == "narrow"
    assert model_config("cnn-micro-T/f8d8", posterior_init="standard").posterior_init == "standard"


@pytest.mark.parametrize("name", list_models())
def test_configurations_survive_json(name):
    config = model_config(name)
    assert AutoencoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_configurations_are_frozen():
    with pytest.raises(FrozenInstanceError):
        model_config("vit-T/f16d32").latent_dim = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": 3}, "unknown keys latent"),
        ({"encoder": {"family": "mlp"}}, "encoder.family='mlp' does not exist"),
        ({"encoder": None}, "encoder must be a mapping"),
        ({"encoder": {"family": "vit", "width": 64}}, "missing keys depth"),
        ({"compression": 4}, "compresses by 16"),
    ],
)
def test_broken_json_configurations_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderConfig.from_dict({**model_config("vit-T/f16d32").to_dict(), **change})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TransVAELayout(widths=(128, 128), depths=(3,)), "2 widths"),
        (lambda: TransVAELayout(widths=(), depths=()), "at least one stage"),
        (lambda: TransVAELayout(widths=(96, 96, 96), depths=(1, 1, 1)), "not a multiple of the head dimension"),
        (lambda: TransVAELayout(widths=(64, 64, 320), depths=(1, 1, 1)), "dc_path=True cannot average"),
        (lambda: CNNLayout(widths=(8, 16), blocks=0), "must be positive"),
        (lambda: replace(model_config("swin-T/f16d32").encoder, widths=(96, 96, 384, 768)), "doubles the width"),
        (lambda: replace(model_config("vit-T/f16d32").encoder, head_dim=2), "divisible by 4"),
        (lambda: replace(model_config("vit-T/f16d32").encoder, patch=12), "power of two"),
    ],
)
def test_impossible_layouts_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_names_and_configurations_do_not_import_torch():
    code = (
        "import sys, transvae, transvae.sizes, transvae.config, transvae.registry as r;"
        "r.list_models(); r.model_config('transvae-T/f16d32', position='none');"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_public_names():
    import transvae

    assert set(transvae.__all__) <= set(dir(transvae))
    for name in transvae.__all__:
        assert getattr(transvae, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = transvae.Nothing
