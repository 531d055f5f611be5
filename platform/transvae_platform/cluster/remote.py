"""The verbs of a study that runs on a cluster, from a laptop: how it stands, its output, its page, its end.

What reads or writes the home runs there as a short job of the same command; the study's own jobs are found by its name,
which they bear in their metadata.
"""

from __future__ import annotations

import base64
import hashlib
import re
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from transvae_platform.cluster.jobs import Job, check_shared, follow_job, send
from transvae_platform.cluster.jobs_api import PAUSE_SECONDS, JobsApi, is_over, running
from transvae_platform.errors import SpecError, UnreachableError, UserError

BEGIN, END = "-----BEGIN PAGE {}-----", "-----END PAGE-----"
CUT = 100  # characters per line of an encoded page


def ask_there(command: tuple[str, ...], address: str, home: Path, sleep: Callable[[float], None] = time.sleep) -> str:
    """What a short command prints on the cluster's head.

    Raises:
        SpecError, UnreachableError: as `submit_job`.
        UserError: it failed there; with what it said.
    """
    check_shared("--home", str(home))
    api = JobsApi(address)
    identity = send(api, Job(command, {"asks": " ".join(command)}), home)
    while not is_over(ended := api.status(identity)):
        sleep(PAUSE_SECONDS)
    said = api.output(identity)
    if ended != "SUCCEEDED":
        raise UserError(f"`transvae {' '.join(command)}` at {address}: {_complaint(said) or ended}")
    return said


def show_output(study: str, address: str, *, follow: bool, write: Callable[[str], object]) -> None:
    """The output of a study's newest job: all that is there, or until it ends.

    Raises:
        SpecError: no job of this cluster ran it.
        UserError: the job failed (when following).
    """
    api = JobsApi(address)
    newest = _newest(api, study)
    if follow:
        follow_job(api, newest, f"follow it again with: transvae study logs {study} --address {address}")
    else:
        write(api.output(newest))


def stop_there(
    study: str, address: str, home: Path, patience: float, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Let a study's trials save and end; after `patience` seconds its job is ended all the same. Returns what came.

    Raises:
        SpecError: no job of this cluster runs it.
    """
    api = JobsApi(address)
    found = running(api.of_study(study))
    if found is None:
        raise SpecError(f"study {study!r} runs in no job of {address}: there is nothing to stop")
    job = str(found.submission_id)
    try:
        ask_there(("study", "stop", study, "--no-wait"), address, home, sleep)
    except (SpecError, UnreachableError):
        raise
    except UserError as error:  # it has not begun, or its process died: there is nothing to save
        api.stop(job)
        return f"job {job} was ended ({error})"
    end = time.monotonic() + patience
    while not is_over(api.status(job)):
        if time.monotonic() > end:
            api.stop(job)
            return f"job {job} was ended after {patience:.0f} s; what had not saved goes on from its newest checkpoint"
        sleep(PAUSE_SECONDS)
    return f"job {job} has ended; its trials are saved"


def fetch_page(study: str, address: str, home: Path, target: Path, options: Sequence[str] = ()) -> Path:
    """Draw a study's page on the cluster, and bring it here.

    Args:
        options: further ones of `study report`.

    Raises:
        UserError: it did not arrive whole.
    """
    text = ask_there(("study", "report", study, "--encoded", *options), address, home)
    page = decode_page(text)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(page)
    return target


def encode_page(page: bytes) -> str:
    """A page as text that comes through a job's output, between lines that name its SHA-256."""
    lines = textwrap.wrap(base64.b64encode(page).decode(), CUT)
    return "\n".join([BEGIN.format(hashlib.sha256(page).hexdigest()), *lines, END])


def decode_page(text: str) -> bytes:
    """The page in a job's output. Raises UserError where it is not whole."""
    found = re.search(r"-----BEGIN PAGE ([0-9a-f]{64})-----\n([A-Za-z0-9+/=\n]*)\n-----END PAGE-----", text)
    page = base64.b64decode(found[2]) if found else b""
    if found is None or hashlib.sha256(page).hexdigest() != found[1]:
        raise UserError("the page did not arrive whole - the same command tries again")
    return page


def _newest(api: JobsApi, study: str) -> str:
    jobs = api.of_study(study)
    if not jobs:
        raise SpecError(f"no job of {api.address} ran study {study!r} since its head started - submit or resume it")
    return str(jobs[0].submission_id)


def _complaint(said: str) -> str:
    """The error in a command's output: from its line on."""
    return said[said.rindex("error: ") + len("error: ") :].strip() if "error: " in said else said.strip()[-500:]
