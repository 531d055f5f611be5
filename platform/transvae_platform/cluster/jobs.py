"""Commands on a running cluster: jobs of Ray's Jobs API whose drivers sit on the cluster's head.

The job runs the same command of `transvae` there. It has this machine's sources with it, and files that the command
reads, and it outlives the machine that submitted it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from transvae_platform.cluster.jobs_api import JobsApi, running
from transvae_platform.cluster.versions import versions
from transvae_platform.errors import SpecError, UnreachableError, UserError
from transvae_platform.lineage import write_code
from transvae_platform.redaction import refuse_password
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.trial import stable_hash
from transvae_platform.version import SUBMITTED_WITH

JOB_FILE = "submitted-study.yaml"
SOURCE_ROOTS = ("models", "platform", "dashboards")
WIDTH = "160"  # of tables that a job prints: it has no terminal to ask (assumption: a laptop's has so many columns)


@dataclass(frozen=True)
class Job:
    """A command as it runs on the cluster."""

    command: tuple[str, ...]
    """After `transvae`, without `--home`."""
    about: Mapping[str, str]
    """What the cluster's pages say of it. With `study`, jobs of one study and one cluster do not run side by side."""
    tracking_uri: str | None = None
    """The MLflow server; default `MLFLOW_TRACKING_URI` of this machine, if it is set."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts by the names under which the command finds them in the folder that it starts in."""
    note: str | None = None
    """What is said when it is submitted."""

    @property
    def server(self) -> str | None:
        """The MLflow server that travels with the job."""
        return self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")


def study_job(spec: StudySpec, home: Path, tracking_uri: str | None) -> Job:
    """A study, with its resolved file."""
    values = spec.model_dump(mode="json", exclude_none=True)
    about = {"study": spec.study, "specification": stable_hash(values)}
    text = yaml.safe_dump(values, sort_keys=False)
    job = Job(("study", "submit", JOB_FILE), about, tracking_uri, {JOB_FILE: text})
    if job.server is not None:
        return job
    note = f"no MLflow server was named, so the job keeps a SQLite file in {home}: not safe on NFS for many writers"
    return replace(job, note=note)


def check_shared(option: str, reference: str) -> None:
    """Raises SpecError if this is a path that means nothing to a job: it starts in a folder of its own.

    Or if it carries a password: a job's command line is shown to all who look at the cluster.
    """
    refuse_password(option, reference)
    if "://" not in reference and not reference.startswith("models:/") and not Path(reference).is_absolute():
        raise SpecError(
            f"{option}: {reference} is relative, and a job starts in a folder of its own, which is deleted with it - "
            "give the absolute path of a folder that all nodes of the cluster share, e.g. /shared/..., or a URI"
        )


def submit_job(job: Job, address: str, home: Path, *, follow: bool) -> str:
    """Submit a command as a job; returns the job's id and, if asked, follows its output to the end.

    A study that runs as a job already is not submitted again, but followed.

    Args:
        address: see `JobsApi`.
        home: the home folder on the cluster, an absolute path that all its nodes share.

    Raises:
        SpecError: the home is not absolute, the address is of no Jobs API, or the study runs with another file.
        UnreachableError: as `JobsApi`.
        UserError: the job failed (when following).
    """
    check_shared("--home", str(home))
    api = JobsApi(address)
    identity = _runs_already(api, job)
    if identity is None:
        if job.note:
            _say(job.note)
        identity = send(api, job, home)
        _say(f"job {identity} at {address}; {_ways(job, address, home, identity)}")
        _say("if it stays pending, no node of the cluster declares the resource `head` (see cluster.yaml)")
    if not follow:
        print(identity)
        return identity
    follow_job(api, identity, f"follow it again with: {_follower(job, address, identity)}")
    return identity


def send(api: JobsApi, job: Job, home: Path) -> str:
    """Hand a job over; returns its id.

    The id of a study's job is the study's name and a number: of two machines that submit at once, one is refused and
    follows the other's job.
    """
    group, *rest = job.command
    command = ("python", "-m", "transvae_platform", group, *rest[:1], "--home", str(home), *rest[1:])
    study = job.about.get("study")
    identity = f"{study}-{len(api.of_study(study)) + 1}" if study else None
    with tempfile.TemporaryDirectory() as folder:
        try:
            return api.submit(
                submission_id=identity,
                entrypoint=shlex.join(command),
                runtime_env={
                    "working_dir": str(_bundle(Path(folder), job.files)),
                    "env_vars": _variables(job),
                },
                entrypoint_resources={"head": 0.001},  # never on a node that can be preempted
                metadata=dict(job.about),
            )
        except UnreachableError:
            if (other := _runs_already(api, job)) is not None:
                return other
            raise


def follow_job(api: JobsApi, identity: str, again: str) -> None:
    """Print a job's output until it ends; Ctrl-C ends the printing only, and says how to follow it again.

    Raises:
        UnreachableError: as `JobsApi.follow`.
        UserError: the job failed.
    """
    try:
        ended = api.follow(identity, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        _say(f"detached, the job runs on; {again}")
        return
    if ended != "SUCCEEDED":
        raise UserError(f"job {identity} ended as {ended}: see its output above, or `ray job logs {identity}`")


def _runs_already(api: JobsApi, job: Job) -> str | None:
    """The id of the job in which this study runs; None if it runs in none.

    Raises:
        SpecError: it runs with another file.
    """
    study = job.about.get("study")
    found = running(api.of_study(study)) if study else None
    if found is None:
        return None
    known, asked = (about.get("specification") for about in (found.metadata or {}, job.about))
    if known and asked and known != asked:
        raise SpecError(
            f"study {study!r} runs as job {found.submission_id} with another file - stop it "
            f"(`transvae study stop {study} --address ...`), or give the changed study a new name (`study:`)"
        )
    _say(f"study {study!r} runs already, as job {found.submission_id}")
    return str(found.submission_id)


def _variables(job: Job) -> dict[str, str]:
    return {
        "PYTHONPATH": ":".join(SOURCE_ROOTS),
        "RAY_ADDRESS": "auto",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": WIDTH,
        SUBMITTED_WITH: json.dumps(versions()),
        # by environment, not in the command line that every page of the cluster shows
        **({"MLFLOW_TRACKING_URI": job.server} if job.server else {}),
    }


def _ways(job: Job, address: str, home: Path, identity: str) -> str:
    if study := job.about.get("study"):
        return f"stop it with: transvae study stop {study} --address {address} --home {home}"
    return f"stop it with: ray job stop --address {address} {identity}"


def _follower(job: Job, address: str, identity: str) -> str:
    if study := job.about.get("study"):
        return f"transvae study logs {study} --address {address}"
    return f"ray job logs --follow --address {address} {identity}"


def _bundle(folder: Path, files: Mapping[str, str]) -> Path:
    """The sources and the command's files: what the job needs and nothing else of this machine."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "models" / "transvae").is_dir():
        raise SpecError("--address: the job takes the sources of a checkout with it - run this command from one")
    for name in SOURCE_ROOTS:
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    write_code(folder)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def _say(text: str) -> None:
    print(text, file=sys.stderr)
