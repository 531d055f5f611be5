"""Commands on a running cluster: jobs of Ray's Jobs API whose drivers sit on the cluster's head.

The job runs the same command of `transvae` there. It has this machine's sources with it, and files that the command
reads, and it outlives the machine that submitted it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from transvae_platform.errors import SpecError, UnreachableError, UserError
from transvae_platform.lineage import write_code
from transvae_platform.study.spec import StudySpec

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

JOB_FILE = "submitted-study.yaml"
HEAD_SECONDS = 60.0  # that a head which has just started may take before it takes jobs (assumption)
PAUSE_SECONDS = 2.0
SOURCE_ROOTS = ("models", "platform", "dashboards")
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # variables that Ray's client prefers to the address it is given


@dataclass(frozen=True)
class Job:
    """A command as it runs on the cluster."""

    command: tuple[str, ...]
    """After `transvae`, without `--home`."""
    about: Mapping[str, str]
    """What the cluster's pages say of it."""
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
    text = yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False)
    job = Job(("study", "submit", JOB_FILE), {"study": spec.study}, tracking_uri, {JOB_FILE: text})
    if job.server is not None:
        return job
    note = f"no MLflow server was named, so the job keeps a SQLite file in {home}: not safe on NFS for many writers"
    return replace(job, note=note)


def check_shared(option: str, reference: str) -> None:
    """Raises SpecError if this is a path that means nothing to a job: it starts in a folder of its own."""
    if "://" not in reference and not reference.startswith("models:/") and not Path(reference).is_absolute():
        raise SpecError(
            f"{option}: {reference} is relative, and a job starts in a folder of its own, which is deleted with it - "
            "give the absolute path of a folder that all nodes of the cluster share, e.g. /shared/..., or a URI"
        )


def submit_job(job: Job, address: str, home: Path, *, follow: bool) -> str:
    """Submit a command as a job; returns the job's id and, if asked, follows its output to the end.

    Args:
        address: the Jobs API, e.g. `http://127.0.0.1:8265` behind `ray dashboard cluster.yaml`; on the head `auto`.
        home: the home folder on the cluster, an absolute path that all its nodes share.

    Raises:
        SpecError: the home is not absolute, or the address is of no Jobs API.
        UnreachableError: no Jobs API answers there.
        UserError: the job failed (when following).
    """
    check_shared("--home", str(home))
    client = _connect(address)
    if job.note:
        _say(job.note)
    from ray.job_submission import JobStatus

    group, verb, *rest = job.command
    command = ("python", "-m", "transvae_platform", group, verb, "--home", str(home), *rest)
    with tempfile.TemporaryDirectory() as folder:
        identity = _submit(
            client,
            address,
            entrypoint=shlex.join(command),
            runtime_env={
                "working_dir": str(_bundle(Path(folder), job.files)),
                "env_vars": {
                    "PYTHONPATH": ":".join(SOURCE_ROOTS),
                    "RAY_ADDRESS": "auto",
                    "PYTHONUNBUFFERED": "1",
                    # by environment, not in the command line that every page of the cluster shows
                    **({"MLFLOW_TRACKING_URI": job.server} if job.server else {}),
                },
            },
            entrypoint_resources={"head": 0.001},  # never on a node that can be preempted
            metadata=dict(job.about),
        )
    _say(f"job {identity} at {address}; stop it with: ray job stop --address {address} {identity}")
    _say("if it stays pending, no node of the cluster declares the resource `head` (see cluster.yaml)")
    if not follow:
        print(identity)
        return identity
    try:
        asyncio.run(_print_output(client, identity))
    except KeyboardInterrupt:
        _say(f"detached, the job runs on; follow it again with: ray job logs --follow --address {address} {identity}")
        return identity
    if (ended := client.get_job_status(identity)) != JobStatus.SUCCEEDED:
        raise UserError(f"job {identity} ended as {ended}: see its output above, or `ray job logs {identity}`")
    return identity


def _submit(client: JobSubmissionClient, address: str, **job: Any) -> str:
    """Hand a job over; the head of a cluster that has just started takes none for some seconds."""
    end = time.monotonic() + HEAD_SECONDS
    while True:
        try:
            return client.submit_job(**job)
        except RuntimeError as error:  # Ray's client tells every refusal of the head by this type
            if "No available agent" not in str(error) or time.monotonic() > end:
                raise UnreachableError(
                    f"--address: the head at {address} does not take the job ({error}) - does its dashboard agent run? "
                    "See dashboard_agent.log on the head; two clusters on one machine need different values of "
                    "--dashboard-agent-listen-port"
                ) from None
        time.sleep(PAUSE_SECONDS)


def _connect(address: str) -> JobSubmissionClient:
    if not re.match(r"(https?://.|auto$)", address):
        raise SpecError(
            f"--address: {address!r} is no Jobs API - give its URL, e.g. http://127.0.0.1:8265 behind "
            "`ray dashboard cluster.yaml`, or `auto` on the cluster's head; a driver in this process (ray://...) would "
            "not survive this machine"
        )
    if _has_token():  # before Ray is imported: a cluster that asks for no token ignores it
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    for name in OVERRIDING:
        os.environ.pop(name, None)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError:
        raise UnreachableError(
            f"--address: the cluster at {address} wants a token - copy the head's ~/.ray/auth_token to this machine, "
            "or set RAY_AUTH_TOKEN"
        ) from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UnreachableError(
            f"--address: no Ray Jobs API answers at {address} ({error}) - open a tunnel with "
            "`ray dashboard cluster.yaml` and use http://127.0.0.1:8265"
        ) from None


def _has_token() -> bool:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
    return "RAY_AUTH_TOKEN" in os.environ or Path(named).expanduser().is_file()


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


async def _print_output(client: JobSubmissionClient, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)
