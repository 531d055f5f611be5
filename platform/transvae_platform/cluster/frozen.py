"""A study's losses and their frozen networks: the plan refuses missing files, the submission fetches them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from transvae.generation.text import locate_t5
from transvae.generation.text_shapes import T5, TextEncoderError
from transvae.losses.features import locate_features
from transvae.losses.frozen import FrozenConfig, FrozenWeightsError
from transvae.losses.perceptual import locate_lpips
from transvae_platform.errors import SpecError, UnreachableError
from transvae_platform.evaluation.inception import locate_inception
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.trial import PIXELLESS, Trial

FOLDER = "frozen"
"""In the home: files of frozen networks, fetched once for all nodes."""
KEYS = {
    "vgg16": "recipe.losses.lpips.network",
    "features": "recipe.losses.vf.network",
    "inception": "downstream.curve.inception",
    "representation": "recipe.semantic.network",
    "text": "downstream.text.encoder",
}
"""What asks for the published weights behind each key of `resources.frozen`."""


def refuse_missing_files(spec: StudySpec, trials: Sequence[Trial]) -> None:
    """Networks that do not exist, and files that the study names and that are not there.

    Raises:
        SpecError: names the key.
    """
    needed = _needed(trials)
    for name, file in spec.resources.frozen.items():
        if name not in needed:
            raise SpecError(f"resources.frozen.{name}: nothing in this study reads it - remove it")
        if not (Path(file).is_dir() if name == "text" else Path(file).is_file()):
            what = "folder" if name == "text" else "file"
            raise SpecError(f"resources.frozen.{name}: there is no {what} {file} - give the path on the head node")
    for network in {trial.recipe.losses.vf.features for trial in trials if trial.recipe.losses.vf}:
        try:
            locate_features(network, FrozenConfig(weights="random"))
        except ValueError as error:
            raise SpecError(f"recipe.losses.vf.features: {error}") from None
    for name, key in (("features", "recipe.losses.vf.features"), ("representation", "grid")):
        if len(needed.get(name, ())) > 1:
            raise SpecError(
                f"{key}: one study reads one pretrained network, not {', '.join(needed[name])} - make it two studies"
            )


def fetch_frozen(spec: StudySpec, trials: Sequence[Trial], home: Path) -> StudySpec:
    """The study with a file in the home for every pretrained network: the one it names, or the hub's.

    Raises:
        UnreachableError: a file is neither named nor at hand, and cannot be downloaded.
    """
    files: dict[str, str] = {}
    for name, networks in _needed(trials).items():
        given = dict[str, str](**spec.resources.frozen).get(name)
        if name == "text":
            files[name] = str(_fetch_text(networks[0], given, home))
            continue
        config = FrozenConfig(path=given) if given else FrozenConfig(download=True)
        try:
            found = _locate(name, networks[0], config)
        except FrozenWeightsError as error:
            raise UnreachableError(
                f"{error} - copy the file here and name it: resources.frozen.{name}=/path/to/file; or, to test the "
                f"line only, {KEYS[name]}=random"
            ) from None
        assert found is not None, "pretrained weights have a file"
        files[name] = str(in_home(found, home / FOLDER / name))
    return spec.model_copy(update={"resources": spec.resources.model_copy(update={"frozen": files})})


def _fetch_text(encoder: str, given: str | None, home: Path) -> Path:
    """A folder of T5's files that all nodes see: the one that the study names, or the hub's, copied into the home."""
    if given is not None:
        return Path(given)
    target = home / FOLDER / "text" / encoder
    if not target.exists():
        try:
            found = locate_t5(f"google/{encoder}", download=True)
        except TextEncoderError as error:
            raise UnreachableError(f"{error} - or name a folder of it: resources.frozen.text=/path/to/folder") from None
        draft = target.with_name(f".{encoder}.{os.getpid()}")
        shutil.copytree(found, draft)
        draft.rename(target)
    return target


def _locate(name: str, network: str, config: FrozenConfig) -> Path | None:
    match name:
        case "vgg16":
            return locate_lpips(config)
        case "inception":
            return locate_inception(config)
        case _:
            return locate_features(network, config)


def _needed(trials: Sequence[Trial]) -> dict[str, list[str]]:
    """The networks behind each key of `resources.frozen` whose published weights some trial needs."""
    needed: dict[str, list[str]] = {}
    for trial in trials:
        losses, curve = trial.recipe.losses, trial.generator.curve if trial.generator else None
        text = trial.generator.text if trial.generator else None
        if text and text.encoder in (f"t5-v1_1-{size}" for size in T5):
            needed["text"] = [text.encoder]
        if curve and curve.inception == "pretrained":
            needed["inception"] = ["inception"]
        if losses.lpips and losses.lpips.network == "pretrained":
            needed["vgg16"] = ["vgg16"]
        if losses.vf and losses.vf.network == "pretrained":
            needed["features"] = sorted({losses.vf.features, *needed.get("features", ())})
        if semantic := trial.recipe.semantic:
            if semantic.lpips and semantic.lpips.network == "pretrained" and trial.family != PIXELLESS:
                needed["vgg16"] = ["vgg16"]
            if semantic.network == "pretrained":
                network = str(trial.model_config_values["encoder"]["network"])
                needed["representation"] = sorted({network, *needed.get("representation", ())})
    return needed


def in_home(file: Path, folder: Path) -> Path:
    """A copy that all nodes see; hubs keep theirs in one machine's cache."""
    target = folder / file.name
    if not target.exists() or target.stat().st_size != file.stat().st_size:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{file.name}.new"
        shutil.copyfile(file, draft)
        draft.replace(target)
    return target
