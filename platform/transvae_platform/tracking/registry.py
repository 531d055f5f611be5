"""The checkpoint registry: the best checkpoint of every finished trial as a version of an MLflow registered model.

A model is named `<study>-<family>-<size>[-<variant>]`, a version is one trial (one seed), and the alias `best` points
to the version with the highest PSNR of its name (of generators: the lowest validation loss), unless a person promoted
another. Only checkpoints that equal their manifest, with finite weights and metrics, become versions; what an alias
asks for in addition: `promotion.py`. A version whose files are damaged is made again (`known.py`).
The files are ours (config.json, model.safetensors, README.md): loading executes no code from the registry.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from transvae_platform.errors import UserError
from transvae_platform.study.state import TrialState
from transvae_platform.tracking.known import DAMAGED, known_version, undamaged
from transvae_platform.tracking.promotion import of_bytes, promote, promotions, ranked_by
from transvae_platform.tracking.result import IMAGES, INSTEAD, candidates, verified_result
from transvae_platform.tracking.server import connect, existing_tracking_uri
from transvae_platform.training.checkpoint import DamagedError

if TYPE_CHECKING:
    from transvae.autoencoder import Autoencoder
    from transvae.generation import LightningDiT, TextDiT

BEST = "best"
IDENTITY = ("trial_id", "weights_sha256")
"""Tags by which a registered version is found again: another person's study of the same name may have other bytes."""


def register_best(
    client: MlflowClient, experiment_id: str, run_id: str, trial: TrialState
) -> dict[str, str | int | float]:
    """Register a finished trial's best checkpoint, once; returns name, version, address, quality and weights' SHA-256.

    Which checkpoint takes its place if it is damaged: `cluster/reopen.py`.

    The alias `best` moves to it if it is the best of its name (`Trial.ranked_by`), unless a person gave `best` to
    another.

    Raises:
        UserError: the trial may not be registered, or its version not be promoted, with the reasons.
    """
    if trial.state != "finished":
        raise UserError(f"{trial.trial.id}: only finished trials are registered, this one is {trial.state}")
    name, best = registered_name(trial), trial.checkpoints[max(trial.checkpoints)]["best_step"]
    versions = client.search_model_versions(f"name='{name}'")
    damaged = ""
    for step in candidates(trial, best):
        try:
            with verified_result(trial, step) as (folder, tags):
                tags |= {INSTEAD: damaged} if damaged else {}
                known = known_version(client, versions, {tag: tags[tag] for tag in IDENTITY})
                version = known or _new_version(client, experiment_id, run_id, trial, folder, tags)
                break
        except DamagedError as error:
            wanted = {"trial_id": trial.trial.id, "step": str(best)}
            if step == best and (known := known_version(client, versions, wanted)):  # the registry has it
                version = known
                break
            damaged = damaged or str(error)
            if step == trial.trial.recipe.steps:
                raise UserError(f"{error}; the next submission trains what is lost again") from None
    else:
        raise UserError(f"{damaged}; no other checkpoint can be registered")
    if _may_move(client, version):
        promote(client, version, BEST, "registration")
    return {
        "name": name,
        "version": int(version.version),
        "uri": f"models:/{name}/{version.version}",
        trial.trial.ranked_by.metric.removeprefix("val/"): _quality(version),
        "sha256": version.tags["weights_sha256"],
        **({INSTEAD: version.tags[INSTEAD]} if INSTEAD in version.tags else {}),
    }


def registered_name(trial: TrialState) -> str:
    """`<study>-<family>-<size>[-<variant>]`: what `load_model` takes after `models:/`.

    MLflow allows no dots in it: the variant of a learning rate, `lr-0.001`, becomes `lr-0_001`.
    """
    return f"{trial.trial.study}-{trial.trial.label}".replace(".", "_")


def load_model(uri: str, *, home: str | Path = "runs", tracking_uri: str | None = None) -> Autoencoder:
    """A model from the registry, in eval mode, its weights verified against the version's SHA-256.

    Args:
        uri: `models:/quickstart-transvae-G@best`, or `models:/NAME/VERSION`.
        home: the folder studies were run in; it holds the default MLflow store and a cache of downloaded models.
        tracking_uri: the MLflow server; default `MLFLOW_TRACKING_URI`, else the store in `home`.

    Raises:
        UserError: there is no such model, or its weights are damaged.
        UnreachableError: the server does not answer.
    """
    from transvae.autoencoder import Autoencoder

    folder = local_model(uri, home, tracking_uri)[0]
    try:
        return Autoencoder.from_pretrained(folder).eval()
    except ValueError as error:
        raise UserError(f"{uri} is no autoencoder ({error}) - load_generator takes generators") from None


def load_generator(uri: str, *, home: str | Path = "runs", tracking_uri: str | None = None) -> LightningDiT | TextDiT:
    """A generator from the registry, in eval mode; `latents` says what it was trained on, `conditions` with which text.

    Arguments and errors are those of `load_model`.
    """
    from transvae.generation import LightningDiT, TextDiT
    from transvae.generation.folder import TEXT_KIND, kind_of

    folder = local_model(uri, home, tracking_uri)[0]
    try:
        kind = TextDiT if kind_of(folder) == TEXT_KIND else LightningDiT
        return kind.from_pretrained(folder)
    except ValueError as error:
        raise UserError(f"{uri} is no generator ({error}) - load_model takes autoencoders") from None


def local_model(uri: str, home: str | Path, tracking_uri: str | None = None) -> tuple[Path, str]:
    """A registered model's folder in the home, downloaded if need be and verified, and its weights' SHA-256.

    Arguments and errors are those of `load_model`.
    """
    home = Path(home)
    client = connect(tracking_uri or existing_tracking_uri(home), home)
    version = find_version(client, uri)
    weights = version.tags["weights_sha256"]
    cache = home / "models" / weights
    if not cache.exists():
        _download(client, version, cache)
    if reasons := list(of_bytes(cache, version.tags)):
        raise UserError(f"{uri}: {reasons[0]} (in {cache}) - delete that folder")
    return cache, weights


def trained_images(uri: str, home: str | Path, tracking_uri: str | None = None) -> int | None:
    """How many images a registered model saw in its training; None if an earlier release registered it.

    Arguments and errors are those of `load_model`.
    """
    client = connect(tracking_uri or existing_tracking_uri(Path(home)), Path(home))
    images = find_version(client, uri).tags.get(IMAGES)
    return None if images is None else int(images)


def find_version(client: MlflowClient, uri: str) -> ModelVersion:
    """The version that `models:/NAME@alias`, `NAME/3`, `NAME/latest` or `NAME` (its newest) means.

    Raises:
        UserError: there is none; names what there is. Or it is a model of something else that uses the same server.
    """
    version = _any_version(client, uri)
    if "weights_sha256" not in version.tags:
        raise UserError(
            f"{uri}: version {version.version} of {version.name} was not registered by a study of this project - "
            "`transvae registry list` shows those that were"
        )
    return version


def _any_version(client: MlflowClient, uri: str) -> ModelVersion:
    name, separator, selector = uri.removeprefix("models:/").replace("@", "/@").partition("/")
    try:
        if selector.startswith("@"):
            return client.get_model_version_by_alias(name, selector[1:])
        if separator and selector != "latest":
            return client.get_model_version(name, selector)
        return max(client.search_model_versions(f"name='{name}'"), key=lambda known: int(known.version))
    except (MlflowException, ValueError) as error:
        raise UserError(f"{uri}: no such model in the registry ({error}) - {_there_is(client, name)}") from None


def best_version(client: MlflowClient, uri: str) -> ModelVersion:
    """Like `find_version`, but a bare name means the best of its versions."""
    version = find_version(client, uri)
    if "/" in uri.removeprefix("models:/") or "@" in uri:
        return version
    versions = client.search_model_versions(f"name='{version.name}'")
    return min(undamaged(versions) or versions, key=_order)


def registered_models(client: MlflowClient) -> list[dict[str, str]]:
    """One row per alias of every model of ours: address, version, PSNR, origin, and when and by whom it was promoted.

    A model without an alias has one row, for its newest version.
    """
    rows = []
    for model in _all_models(client):
        promoted = {move.alias: move for move in promotions(client, model.name)}  # the last move of each alias
        for selector in [f"@{alias}" for alias in model.aliases] or [""]:
            try:
                version = find_version(client, model.name + selector)
            except UserError:  # it has no version yet, or is none of ours
                continue
            move = promoted.get(selector.removeprefix("@"))
            known = move is not None and move.version == str(version.version)  # else a person used MLflow's own pages
            rows.append(
                {
                    "uri": f"models:/{model.name}{selector or f'/{version.version}'}",
                    "version": str(version.version),
                    "psnr": version.tags.get("val.psnr", ""),
                    "loss": version.tags.get("val.loss", ""),
                    "features": version.tags.get("val.semantic", version.tags.get("val.semantic_random", "")),
                    "model": version.tags["model"],
                    "study": version.tags["study"],
                    "trial": version.tags["trial_id"],
                    "weights_sha256": version.tags["weights_sha256"],
                    "promoted_at": move.at if move and known else "",
                    "promoted_by": f"{move.by} ({move.how})" if move and known else "",
                    "previous": move.previous if move and known else "",
                    "unknown_code": "allowed" if move and known and move.unknown_code else "",
                }
            )
    return sorted(rows, key=lambda row: row["uri"])


def registered_of(client: MlflowClient, study: str) -> list[ModelVersion]:
    """All versions of all models of a study, by name and version."""
    names = [model.name for model in _all_models(client) if model.tags.get("study") == study]
    found = [version for name in names for version in client.search_model_versions(f"name='{name}'")]
    ours = [version for version in found if "weights_sha256" in version.tags]
    return sorted(ours, key=lambda version: (version.name, int(version.version)))


def described(client: MlflowClient, version: ModelVersion) -> dict[str, Any]:
    """What `transvae registry show` tells of a version: aliases, metrics, lineage and the promotions of its model."""
    aliases = client.get_registered_model(version.name).aliases
    tags = dict(version.tags)
    metrics = {tag.replace(".", "/", 1): float(tags.pop(tag)) for tag in sorted(tags) if tag.startswith("val")}
    return {
        "uri": f"models:/{version.name}/{version.version}",
        "aliases": sorted(alias for alias, held in aliases.items() if str(held) == str(version.version)),
        "metrics": metrics,
        "lineage": dict(sorted(tags.items())),
        "run": version.run_id,
        "promotions": [vars(move) for move in promotions(client, version.name)],
    }


def _there_is(client: MlflowClient, name: str) -> str:
    """The versions and aliases of a model, or the models if there is none of that name."""
    models = {model.name: model for model in _all_models(client)}
    if name not in models:
        return f"registered models: {', '.join(models) or 'none yet'}"
    versions = sorted(int(version.version) for version in client.search_model_versions(f"name='{name}'"))
    aliases = [f"@{alias} ({version})" for alias, version in sorted(models[name].aliases.items())]
    return f"{name} has versions {', '.join(map(str, versions)) or 'none'}, aliases {', '.join(aliases) or 'none'}"


def _all_models(client: MlflowClient) -> Iterator[RegisteredModel]:
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        yield from page
        if not (token := page.token):
            return


def _new_version(
    client: MlflowClient, experiment_id: str, run_id: str, trial: TrialState, folder: Path, tags: dict[str, str]
) -> ModelVersion:
    name = registered_name(trial)
    logged = client.create_logged_model(
        experiment_id,
        name=name,
        source_run_id=run_id,
        tags=tags,
        params={key: f"{value:.0f}" for key, value in trial.cost.items()},
        model_type="generator" if trial.trial.generator else "vae",
    )
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    try:
        client.create_registered_model(name, tags={"study": trial.trial.study, "model": trial.trial.model})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        name, source=f"models:/{logged.model_id}", run_id=run_id, tags=tags, model_id=logged.model_id
    )


def _may_move(client: MlflowClient, version: ModelVersion) -> bool:
    """Whether registration is to move `best` here: it is the best, and no person gave `best` to another version."""
    chosen = client.get_registered_model(version.name).aliases.get(BEST)
    if chosen is None or str(chosen) == str(version.version):  # the latter: perhaps not recorded yet
        return True
    past = promotions(client, version.name, BEST)
    ours = bool(past) and past[-1].how == "registration" and past[-1].version == str(chosen)
    before = client.get_model_version(version.name, str(chosen))
    return ours and (DAMAGED in before.tags or _order(version) < _order(before))


def _quality(version: ModelVersion) -> float:
    rank = ranked_by(version.tags)
    return float(version.tags.get(rank.metric.replace("/", "."), "-inf" if rank.higher else "inf"))


def _order(version: ModelVersion) -> float:
    """Smaller for the better of two versions."""
    return ranked_by(version.tags).order(_quality(version))


def _download(client: MlflowClient, version: ModelVersion, cache: Path) -> None:
    """Put a version's files into the cache, where they appear complete and verified, or not at all."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".loading-", dir=cache.parent) as folder:
        download_artifacts(version.source, dst_path=folder, tracking_uri=client.tracking_uri)
        if reasons := list(of_bytes(Path(folder), version.tags)):
            raise UserError(
                f"models:/{version.name}/{version.version}: as downloaded, {reasons[0]} - load it again; if that does "
                "not help the registry's copy is damaged: submitting the study again makes a new version of it"
            )
        with contextlib.suppress(FileExistsError):  # another process was faster, with the same bytes
            Path(folder).rename(cache)
            Path(folder).mkdir()  # for the one that removes it
