"""What the tables of a study need, looked at before anything trains: data sets, settings, weights of LPIPS and FID."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transvae.losses.frozen import FrozenConfig, FrozenWeightsError
from transvae.losses.perceptual import TRUNKS, locate_lpips
from transvae_platform.cluster.frozen import FOLDER, in_home
from transvae_platform.cluster.source import Source
from transvae_platform.data.sets.catalogue import NoDataSetError, find_data_set
from transvae_platform.errors import SpecError, UnreachableError
from transvae_platform.evaluation.inception import locate_inception
from transvae_platform.evaluation.latent_space.density import PERPLEXITY, TOO_FEW
from transvae_platform.evaluation.latent_space.probe import ProbeProtocol
from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.study.section import MOST
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.tables_spec import OWN, DensitySpec, Reconstruction

Frozen = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By preset: options of `FrozenConfig` for `lpips` and `inception`."""


def refuse_impossible_tables(spec: StudySpec, source: Source, home: Path) -> None:
    """Data sets that do not exist or cannot be evaluated, files that are not there, settings that contradict.

    Args:
        source: of the study's own images; labels of a data set that is made already are not read here.

    Raises:
        SpecError: names the key.
    """
    if spec.tables is None:
        return
    if spec.tables.probe:
        ProbeProtocol(**spec.tables.probe.model_dump())
        if source.listing is not None and not source.listing.classes:
            raise SpecError("tables.probe: a probe learns classes, the images of `data` have none - remove it")
    if spec.tables.density:
        _refuse_few(spec.tables.density, source)
    asked = spec.tables.reconstruction
    for name, file in (asked.files if asked else {}).items():
        if not Path(file).is_file():
            raise SpecError(f"tables.reconstruction.files.{name}: there is no file {file} - give the head node's path")
    for reference in asked.data if asked else ():
        assert asked
        if reference == OWN or reference in spec.evaluation.sets:
            section = spec.data if reference == OWN else spec.evaluation.sets[reference]
            _refuse_small(asked, reference, section.resolution)
            continue
        try:
            manifest = find_data_set(home, reference).manifest
        except NoDataSetError as error:
            raise SpecError(f"tables.reconstruction.data: {error}") from None
        compression, _ = map(int, spec.grid.code.removeprefix("f").split("d"))
        if manifest.resolution % compression:
            raise SpecError(
                f"tables.reconstruction.data: {reference} has images of {manifest.resolution} x {manifest.resolution}, "
                f"no multiple of the compression {compression}"
            )
        _refuse_small(asked, reference, manifest.resolution)
        if manifest.kind != "images" or not manifest.samples(asked.split):
            raise SpecError(f"tables.reconstruction.data: {reference} holds no {asked.split} images")


def _refuse_small(asked: Reconstruction, reference: str, resolution: int) -> None:
    for preset in asked.presets:
        trunk = PRESETS[preset].trunk
        if trunk and resolution < TRUNKS[trunk].smallest:
            raise SpecError(
                f"tables.reconstruction: LPIPS of the preset {preset} takes images of {TRUNKS[trunk].smallest} pixels "
                f"or more, those of {reference} have {resolution} - leave one of the two out"
            )


def _refuse_few(density: DensitySpec, source: Source) -> None:
    there = source.train if density.split == "train" else MOST  # held-out samples are known once they are made
    if (count := min(density.images, there)) <= TOO_FEW:
        raise SpecError(
            f"tables.density: {count} images are too few for a map with perplexity {PERPLEXITY:g}, it takes more than "
            f"{TOO_FEW} - raise tables.density.images, or have more images"
        )


def fetch_networks(spec: StudySpec, home: Path) -> Frozen:
    """The weights of LPIPS and Inception in the home, for every preset of the study: named files, or the hub's.

    Raises:
        UnreachableError: a file is neither named nor at hand, and cannot be downloaded.
    """
    asked = spec.tables.reconstruction if spec.tables else None
    return {} if asked is None else {preset: dict(_networks(asked, preset, home)) for preset in asked.presets}


def _networks(asked: Reconstruction, preset: str, home: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    trunk = PRESETS[preset].trunk
    locate: dict[str, Callable[[FrozenConfig], Path | None]] = {
        "lpips": lambda config: locate_lpips(config, trunk or "vgg"), "inception": locate_inception,
    }  # fmt: skip
    for network, key in (("lpips", trunk), ("inception", "inception")):
        if key is None or asked.networks == "random":
            yield network, {"weights": "random"}
            continue
        given = dict[str, str](**asked.files).get(key)
        try:
            found = locate[network](FrozenConfig(path=given) if given else FrozenConfig(download=True))
        except FrozenWeightsError as error:
            raise UnreachableError(
                f"{error} - copy the file here and name it: tables.reconstruction.files.{key}=/path/to/file; or, to "
                "test the line only, tables.reconstruction.networks=random"
            ) from None
        assert found is not None, "pretrained weights have a file"
        yield network, {"path": str(in_home(found, home / FOLDER / key))}
