"""Losses that cannot work are refused at the plan; weights of frozen networks are fetched into the home."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from transvae.losses.frozen import FrozenWeightsError
from transvae.losses.hubs import TorchHub
from transvae.losses.perceptual import TRUNKS
from transvae_platform.cluster import frozen
from transvae_platform.cluster.frozen import fetch_frozen, refuse_missing_files
from transvae_platform.cluster.planning import refuse_impossible_losses
from transvae_platform.errors import SpecError, UnreachableError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.load import load_study

QUICKSTART = Path(__file__).parents[2] / "studies" / "quickstart.yaml"


def study(*changes):
    spec = load_study(QUICKSTART, ("grid.families={vit: [T]}", "recipe.overrides={}", *changes))
    return spec, build_grid(spec, "d" * 16)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ("{gan: {layers: 5}}", "32 pixels leave a discriminator of 5 layers no logits"),
        ("{vf: {match: features}}", None),
        ("{lpips: {}}", None),
        ("{vf: {}, gan: {layers: 2}}", None),
    ],
)
def test_losses_fit_the_images(losses, message):
    _, trials = study(f"recipe.losses={losses}")
    if message is None:
        refuse_impossible_losses(trials)
    else:
        with pytest.raises(SpecError, match=f"vit-T: recipe.losses: {message}"):
            refuse_impossible_losses(trials)


def test_latents_that_do_not_meet_the_features_are_refused():
    _, trials = study("recipe.losses={vf: {}}", "data.resolution=40")
    with pytest.raises(SpecError, match="resolution 40 is not a multiple of 16"):
        refuse_impossible_losses(trials)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ("resources.frozen={vgg16: /nowhere.pth}", "recipe.losses={lpips: {}}"),
            "frozen.vgg16: there is no file /nowhere",
        ),
        (("resources.frozen={features: /nowhere.pth}",), "frozen.features: nothing in this study reads it"),
        (
            ("recipe.losses={vf: {features: vit_huge_patch99}}",),
            "vf.features: 'vit_huge_patch99' is no vision transformer",
        ),
    ],
)
def test_missing_files_and_networks_are_refused_at_the_plan(changes, message):
    spec, trials = study(*changes)
    with pytest.raises(SpecError, match=message):
        refuse_missing_files(spec, trials)


def test_a_named_file_is_copied_to_where_all_nodes_see_it(tmp_path, monkeypatch):
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    hub = TorchHub(f"https://example.org/vgg16-{digits}.pth")
    monkeypatch.setitem(TRUNKS, "vgg", dataclasses.replace(TRUNKS["vgg"], published=hub))
    file = tmp_path / "vgg16-397923af.pth"
    file.write_bytes(b"weights")
    spec, trials = study(f"resources.frozen={{vgg16: {file}}}", "recipe.losses={lpips: {}}")
    refuse_missing_files(spec, trials)
    fetched = fetch_frozen(spec, trials, tmp_path / "home")
    copy = Path(fetched.resources.frozen["vgg16"])
    assert copy.is_relative_to(tmp_path / "home")
    assert copy.read_bytes() == b"weights"
    assert build_grid(fetched, "d" * 16)[0].id == trials[0].id, "where a file lies decides nothing"
    file.write_bytes(b"others")
    with pytest.raises(UnreachableError, match=rf"{file} has the SHA-256 .*, the published file begins with {digits}"):
        fetch_frozen(spec, trials, tmp_path / "home")


def test_what_cannot_be_downloaded_is_named_with_the_ways_out(tmp_path, monkeypatch):
    def missing(config):
        assert config.download
        raise FrozenWeightsError("VGG16 of LPIPS: no network")

    monkeypatch.setattr(frozen, "locate_lpips", missing)
    spec, trials = study("recipe.losses={lpips: {}}")
    with pytest.raises(
        UnreachableError, match=r"no network - .*resources.frozen.vgg16=.*recipe.losses.lpips.network=random"
    ):
        fetch_frozen(spec, trials, tmp_path)


def test_random_networks_need_no_file(tmp_path):
    spec, trials = study("recipe.losses={lpips: {network: random}, vf: {network: random}}")
    refuse_missing_files(spec, trials)
    assert fetch_frozen(spec, trials, tmp_path).resources.frozen == {}
