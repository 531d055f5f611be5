"""Promotion: moving an alias of a registered model, which a model must deserve.

Protocol
1. An alias (`best`, `champion`, ...) is moved by `promote` only, from the command line as after a study.
2. It goes to a version of which all this is true, by the registry's own bytes and by the run in MLflow, which equals
   the trial's journal: the trial finished (one that the guard gave up, which fits leave out, has failed); the
   checkpoint's own validation is there, finite and what the version says; the weights are the registered bytes and
   every value of them is finite; the lineage names the commit, what the sources differed by (or that they did not),
   the data, the environment and the seed, and the texts it names are kept. One error names everything that is not.
3. The alias is set, then the move is recorded as a tag of the registered model, `promoted.<alias>.<time>`: version,
   version before, by whom and how, and whether a person allowed code that nothing names (`--allow-unknown-code`), where
   that was needed. Records are never changed. A move that a kill left unrecorded is recorded when it is
   asked for again.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import math
import platform
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from transvae.generation.config import FAMILY as DIT
from transvae.generation.text_config import FAMILY as TEXT_DIT
from transvae_platform.errors import SpecError, UserError
from transvae_platform.lineage import CLEAN, UNKNOWN
from transvae_platform.study.trial import PIXELLESS, QUALITY, Rank
from transvae_platform.tracking.runs import LINEAGE

FAMILIES = (DIT, TEXT_DIT)
"""How the names of generators begin."""
WEIGHTS = "model.safetensors"
HASHES = {WEIGHTS: "weights_sha256", "config.json": "config_sha256"}
"""Files of a model, and the tags that hold their SHA-256."""
FACTS = {
    "trial_id": "trial",
    "seed": "seed",
    "data_fingerprint": "data fingerprint",
    "lineage.code": "code version",
    "lineage.environment": "environment",
    "lineage.python": "Python version",
}
"""Tags that every version needs, and what they say."""
AGREE = 1e-9  # relative: tags are decimal texts of 12 digits


@dataclass(frozen=True)
class Candidate:
    """All that decides whether a version may be promoted."""

    tags: Mapping[str, str]
    """The version's: what was known at its registration."""
    folder: Path
    """Its files, as the registry gives them."""
    ended: Mapping[str, str]
    """The tags of the trial's run: how it ended. Empty if there is no such run."""
    validated: Mapping[str, float | None]
    """The run's validation metrics at the version's step; None where it has no such point."""
    texts: frozenset[str]
    """Names of the lineage's texts that are kept."""


@dataclass(frozen=True)
class Promotion:
    """One recorded move of an alias."""

    alias: str
    at: str
    version: str
    previous: str
    """The version that had the alias before; empty for the first."""
    by: str
    how: str
    """`command` (a person chose) or `registration` (the best one after a study)."""
    unknown_code: bool = False
    """Whether its code is not known, and a person allowed that."""


def promote(
    client: MlflowClient, version: ModelVersion, alias: str, how: str, *, allow_unknown_code: bool = False
) -> Promotion:
    """Move an alias to a version that deserves it, and record the move.

    Raises:
        UserError: it does not, with every reason.
        SpecError: the alias cannot be one.
    """
    if alias == "latest" or re.fullmatch(r"v\d+", alias) or not re.fullmatch(r"[\w-]+", alias):
        raise SpecError(f"--alias: {alias!r} is reserved by MLflow, or no word - use one such as best or champion")
    uri = f"models:/{version.name}/{version.version}"
    with tempfile.TemporaryDirectory() as folder:
        reasons = list(refusals(_candidate(client, version, Path(folder)), allow_unknown_code=allow_unknown_code))
    if reasons:
        raise UserError(f"{uri} may not become @{alias}:\n" + "\n".join(f"  {reason}" for reason in reasons))
    aliases = client.get_registered_model(version.name).aliases
    before = str(aliases.get(alias, ""))
    past = promotions(client, version.name, alias)
    if before == str(version.version) and past and past[-1].version == before:
        return past[-1]
    client.set_registered_model_alias(version.name, alias, str(version.version))
    if before == str(version.version):  # set by a promotion that was killed before it was recorded
        before = past[-1].version if past else ""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    by = f"{getpass.getuser()}@{platform.node()}"
    move = Promotion(alias, now, str(version.version), before, by, how, unknown_code(version.tags))
    record = {key: value for key, value in asdict(move).items() if key not in ("alias", "at")}
    client.set_registered_model_tag(version.name, f"promoted.{alias}.{now}", json.dumps(record))
    return move


def promotions(client: MlflowClient, name: str, alias: str | None = None) -> list[Promotion]:
    """The recorded moves of a model's alias, or of all its aliases, oldest first."""
    found = []
    for key, value in client.get_registered_model(name).tags.items():
        if match := re.fullmatch(r"promoted\.([\w-]+)\.(\S+)", key):
            found.append(Promotion(match[1], match[2], **json.loads(value)))
    return sorted((move for move in found if alias in (None, move.alias)), key=lambda move: move.at)


def ranked_by(tags: Mapping[str, str]) -> Rank:
    """What versions of this kind of model are compared by."""
    model = tags.get("model", "")
    if model.startswith(PIXELLESS):
        return QUALITY["semantic" if "val.semantic" in tags else "semantic_random"]
    return QUALITY["generator" if model.startswith(FAMILIES) else "autoencoder"]


def refusals(candidate: Candidate, *, allow_unknown_code: bool = False) -> Iterator[str]:
    """Every reason why a version may not be promoted, each with the way out."""
    yield from _of_trial(candidate.ended)
    yield from _of_metrics(candidate)
    for reason in of_bytes(candidate.folder, candidate.tags):
        yield f"{reason} - submit the study again: its checkpoint becomes a new version"
    yield from of_values(candidate.folder / WEIGHTS)
    yield from _of_lineage(candidate, allow_unknown_code)


def of_bytes(folder: Path, tags: Mapping[str, str]) -> Iterator[str]:
    """Files that are not the registered ones (versions of earlier releases name no SHA-256 of config.json)."""
    for name, tag in HASHES.items():
        if not (folder / name).is_file():
            yield f"files: {name} is missing"
        elif (tag in tags or name == WEIGHTS) and sha256(folder / name) != tags.get(tag):
            yield f"files: {name} differs from the registered SHA-256"


def of_values(weights: Path) -> Iterator[str]:
    """The weights' values, where they are not finite numbers."""
    import torch
    from safetensors import SafetensorError, safe_open

    if not weights.is_file():
        return
    try:
        with safe_open(weights, framework="pt") as file:
            bad = [name for name in file.keys() if not torch.isfinite(file.get_tensor(name)).all()]  # noqa: SIM118
    except SafetensorError as error:
        yield f"weights: {weights.name} cannot be read ({error})"
        return
    if bad:
        more = f" and {len(bad) - 3} more tensors" if len(bad) > 3 else ""
        yield f"weights: not finite in {', '.join(bad[:3])}{more} - lower the learning rate or clip, and train it again"


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_trial(ended: Mapping[str, str]) -> Iterator[str]:
    if not ended:
        yield "trial: its run is not in MLflow - submit the study again, it sends the journal"
    elif (state := ended.get("trial.state", UNKNOWN)) != "finished":
        reason = f" ({ended['trial.reason']})" if ended.get("trial.reason") else ""
        yield f"trial: it is {state}{reason}, not finished - submit the study again"


def _of_metrics(candidate: Candidate) -> Iterator[str]:
    step = candidate.tags.get("step", "unknown")
    metric = ranked_by(candidate.tags).metric
    if metric not in candidate.validated:
        yield f"evaluation: its run holds no validation ({metric}) of step {step} - submit the study again"
    for key, value in sorted(candidate.validated.items()):
        said = _number(candidate.tags.get(key.replace("/", ".")))
        if value is None or not math.isfinite(value):
            shown = "missing" if value is None else value
            yield f"evaluation: {key} at step {step} is {shown} - submit the study again"
        elif said is None or not math.isclose(said, value, rel_tol=AGREE):
            yield f"evaluation: {key} at step {step} is {value:.6g}, but the version says {said} - register it again"


def _of_lineage(candidate: Candidate, allow_unknown_code: bool) -> Iterator[str]:
    tags = candidate.tags
    for tag, what in FACTS.items():
        if tags.get(tag, UNKNOWN) in ("", UNKNOWN):
            yield f"lineage: the {what} is not recorded (tag {tag}) - train it again with this version of the project"
    if unknown_code(tags) and not allow_unknown_code:
        yield (
            "lineage: no commit is known, or not what the sources differed by - run studies from a git checkout, or "
            "promote it with --allow-unknown-code"
        )
    difference = tags.get("lineage.difference", UNKNOWN)
    named = {f"{difference}.diff"} if difference not in (CLEAN, UNKNOWN) else set()
    if environment := tags.get("lineage.environment"):
        named.add(f"{environment}.txt")
    for name in sorted(named - candidate.texts):
        yield f"lineage: {name} is not among the {LINEAGE} files of the study's run - submit the study again"


def unknown_code(tags: Mapping[str, str]) -> bool:
    """Whether nothing names the code that a version was trained with: its commit, and what the sources differed by."""
    return UNKNOWN in (tags.get("lineage.commit", UNKNOWN), tags.get("lineage.difference", UNKNOWN))


def _candidate(client: MlflowClient, version: ModelVersion, folder: Path) -> Candidate:
    try:
        files = Path(download_artifacts(version.source, dst_path=str(folder), tracking_uri=client.tracking_uri))
    except (MlflowException, OSError):
        files = folder  # with nothing in it
    run = _run_of(client, version)
    if run is None:
        return Candidate(version.tags, files, {}, {}, frozenset())
    parent = run.data.tags.get(MLFLOW_PARENT_RUN_ID, "")
    texts = client.list_artifacts(parent, LINEAGE) if parent else []
    validated = _validated(client, run, version.tags.get("step", ""))
    return Candidate(version.tags, files, run.data.tags, validated, frozenset(Path(text.path).name for text in texts))


def _run_of(client: MlflowClient, version: ModelVersion) -> Run | None:
    """The trial's run as it is now: the one that the version was made of may have been superseded."""
    try:
        made = client.get_run(version.run_id)
    except MlflowException:
        return None
    key = " and ".join(f"tags.{tag} = '{made.data.tags.get(tag, '')}'" for tag in ("kind", "trial_id", "journal"))
    return next(iter(client.search_runs([made.info.experiment_id], key, max_results=1)), None)


def _validated(client: MlflowClient, run: Run, step: str) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for key in run.data.metrics:
        if key.startswith("val/"):
            at = {str(point.step): point.value for point in client.get_metric_history(run.info.run_id, key)}
            found[key] = at.get(step)
    return found


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
