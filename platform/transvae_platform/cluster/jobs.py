"""Submitting a study to a running cluster: a job of Ray's Jobs API whose driver sits on the cluster's head.

The job runs the same `transvae study submit` there. It has the study file and this machine's sources with it, and it
outlives the machine that submitted it.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import yaml

from transvae_platform.errors import SpecError, UnreachableError, UserError
from transvae_platform.lineage import write_code
from transvae_platform.study.spec import StudySpec

JOB_FILE = "submitted-study.yaml"
SOURCE_ROOTS = ("models", "platform", "dashboards")


def submit_job(
    spec: StudySpec,
    address: str,
    home: Path,
    tracking_uri: str | None,
    *,
    follow: bool,
) -> str:
    """Submit a study file as a job; returns the job's id and, if asked, follows its output to the end.

    Args:
        address: the Jobs API, e.g. `http://127.0.0.1:8265` behind `ray dashboard cluster.yaml`.
        home: the home folder on the cluster, an absolute path that all its nodes share.

    Raises:
        SpecError: the home is not absolute.
        UnreachableError: no Jobs API answers there.
        UserError: the job failed (when following).
    """
    if not home.is_absolute():
        raise SpecError(
            f"--home: {home} is relative, and a job's own folder is deleted with it - give the absolute path of a "
            "folder that all nodes of the cluster share, e.g. --home /shared/runs"
        )
    if _has_token():  # before Ray is imported: a cluster that asks for no token ignores it
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobStatus, JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
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
    server = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if server is None:
        _say(f"no MLflow server was named, so the job keeps a SQLite file in {home}: not safe on NFS for many writers")
    with tempfile.TemporaryDirectory() as folder:
        bundle = _bundle(Path(folder), spec)
        job = client.submit_job(
            entrypoint=shlex.join(
                ("python", "-m", "transvae_platform", "study", "submit", JOB_FILE, "--home", str(home))
            ),
            runtime_env={
                "working_dir": str(bundle),
                "env_vars": {
                    "PYTHONPATH": ":".join(SOURCE_ROOTS),
                    "RAY_ADDRESS": "auto",
                    "PYTHONUNBUFFERED": "1",
                    # by environment, not in the command line that every page of the cluster shows
                    **({"MLFLOW_TRACKING_URI": server} if server else {}),
                },
            },
            entrypoint_resources={"head": 0.001},  # never on a node that can be preempted
            metadata={"study": spec.study},
        )
    _say(f"job {job} at {address}; stop it with: ray job stop --address {address} {job}")
    _say("if it stays pending, no node of the cluster declares the resource `head` (see cluster.yaml)")
    if follow:
        try:
            asyncio.run(_print_output(client, job))
        except KeyboardInterrupt:
            _say(f"detached, the job runs on; follow it again with: ray job logs --follow --address {address} {job}")
            return job
        if (ended := client.get_job_status(job)) != JobStatus.SUCCEEDED:
            raise UserError(f"job {job} ended as {ended}: see its output above, or `ray job logs {job}`")
    else:
        print(job)
    return job


def _has_token() -> bool:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
    return "RAY_AUTH_TOKEN" in os.environ or Path(named).expanduser().is_file()


def _bundle(folder: Path, spec: StudySpec) -> Path:
    """The sources and the resolved study file: what the job needs and nothing else of this machine."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "models" / "transvae").is_dir():
        raise SpecError("--address: the job takes the sources of a checkout with it - run this command from one")
    for name in SOURCE_ROOTS:
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    write_code(folder)
    (folder / JOB_FILE).write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=False))
    return folder


def _say(text: str) -> None:
    print(text, file=sys.stderr)


async def _print_output(client: object, job: str) -> None:
    from ray.job_submission import JobSubmissionClient

    assert isinstance(client, JobSubmissionClient)
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)
