"""A cluster's Jobs API: Ray's own client, with errors that a user can act on, and output that survives a lost line."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transvae_platform.errors import SpecError, UnreachableError

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

HEAD_SECONDS = 60.0  # that a head which has just started may take before it takes jobs (assumption)
PAUSE_SECONDS = 2.0
RECONNECTS = 30  # one after the other without a word of the job: a minute (assumption)
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # variables that Ray's client prefers to the address it is given
TUNNEL = "open a tunnel with `ray dashboard cluster.yaml` and use http://127.0.0.1:8265"


class JobsApi:
    """The jobs of one cluster.

    Raises, here and in every method:
        SpecError: the address is of no Jobs API, or the cluster runs another version of Ray.
        UnreachableError: nothing answers there, it wants a token, or it refuses.
    """

    def __init__(self, address: str) -> None:
        """Args: address: e.g. `http://127.0.0.1:8265` behind `ray dashboard cluster.yaml`; on the head `auto`."""
        self.address = address
        if not re.match(r"(https?://.|auto$)", address):
            raise SpecError(
                f"--address: {address!r} is no Jobs API - give its URL, e.g. http://127.0.0.1:8265 behind "
                "`ray dashboard cluster.yaml`, or `auto` on the cluster's head; a driver in this process (ray://...) "
                "would not survive this machine"
            )
        if _has_token():  # before Ray is imported: a cluster that asks for no token ignores it
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        for name in OVERRIDING:
            os.environ.pop(name, None)
        import ray.job_submission

        with self._answering("no Ray Jobs API answers"):
            self._client: JobSubmissionClient = ray.job_submission.JobSubmissionClient(address)
        self._refuse_other_ray()

    def submit(self, *, patience: float = HEAD_SECONDS, **job: Any) -> str:
        """Hand a job over; the head of a cluster that has just started takes none for some seconds."""
        from ray.exceptions import AuthenticationError

        end = time.monotonic() + patience
        while True:
            try:
                return str(self._client.submit_job(**job))
            except AuthenticationError as error:
                raise self._unauthorised(error) from None
            except RuntimeError as error:  # Ray's client tells every refusal of the head by this type
                if "No available agent" not in str(error) or time.monotonic() > end:
                    raise UnreachableError(
                        f"--address: the head at {self.address} does not take the job ({error}) - does its dashboard "
                        "agent run? See dashboard_agent.log on the head; two clusters on one machine need different "
                        "values of --dashboard-agent-listen-port"
                    ) from None
            except OSError as error:  # requests' own errors are of this type
                raise UnreachableError(
                    f"--address: the upload to {self.address} broke off ({_first(error)}) - the same command sends it "
                    "again, or follows the job if it has arrived"
                ) from None
            time.sleep(PAUSE_SECONDS)

    def of_study(self, study: str) -> list[JobDetails]:
        """All jobs that ran or run a study, the newest first."""
        with self._answering("the Jobs API does not answer"):
            jobs = [job for job in self._client.list_jobs() if (job.metadata or {}).get("study") == study]
        return sorted(jobs, key=lambda job: job.start_time or 0, reverse=True)

    def status(self, job: str) -> str:
        """Ray's word for how a job stands."""
        with self._answering("the Jobs API does not answer"):
            return str(self._client.get_job_status(job).value)

    def stop(self, job: str) -> None:
        """End a job's process."""
        with self._answering("the Jobs API does not answer"):
            self._client.stop_job(job)

    def output(self, job: str) -> str:
        """What a job has printed so far."""
        with self._answering("the Jobs API does not answer"):
            return str(self._client.get_job_logs(job))

    def follow(self, job: str, write: Callable[[str], object], sleep: Callable[[float], None] = time.sleep) -> str:
        """Hand on a job's output until it ends, through lost connections; returns how it ended.

        Every character comes once: a new connection begins at the beginning, and what was handed on is left out.
        """
        output, silent = _Output(write), 0
        while True:
            before = output.told
            try:
                asyncio.run(self._tail(job, output))
                if is_over(ended := self.status(job)):
                    return ended
            except UnreachableError:
                if silent == RECONNECTS:
                    raise
            except (RuntimeError, OSError) as error:
                if silent == RECONNECTS:
                    raise UnreachableError(
                        f"--address: the output of job {job} at {self.address} broke off ({_first(error)}); the job "
                        f"runs on as far as anyone knows - {TUNNEL}, and the same command follows it again"
                    ) from None
            silent = 0 if output.told > before else silent + 1
            sleep(PAUSE_SECONDS)

    async def _tail(self, job: str, output: _Output) -> None:
        output.again()
        async for lines in self._client.tail_job_logs(job):
            output.hear(lines)

    def _refuse_other_ray(self) -> None:
        import ray

        there = getattr(self._client, "_server_ray_version", None)  # no public method tells it
        if there is not None and there != ray.__version__:
            raise SpecError(
                f"--address: the cluster at {self.address} runs Ray {there}, this machine Ray {ray.__version__}, and "
                "the job would take this machine's sources with it - start the cluster from this checkout "
                "(`ray up cluster.yaml`), or submit from an environment of its version (constraints.txt)"
            )

    @contextmanager
    def _answering(self, what: str) -> Iterator[None]:
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise self._unauthorised(error) from None
        except (OSError, RuntimeError, ValueError) as error:
            raise UnreachableError(f"--address: {what} at {self.address} ({_first(error)}) - {TUNNEL}") from None

    def _unauthorised(self, error: Exception) -> UnreachableError:
        has = "does not take this machine's token" if _has_token() else "wants a token"
        return UnreachableError(
            f"--address: the cluster at {self.address} {has} - copy the head's ~/.ray/auth_token to this machine, "
            f"or set RAY_AUTH_TOKEN ({_first(error)})"
        )


class _Output:
    """Hands on what comes, each character once, however often it begins again."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self._seen, self.told = write, 0, 0

    def again(self) -> None:
        self._seen = 0

    def hear(self, lines: str) -> None:
        if new := lines[max(0, self.told - self._seen) :]:
            self._write(new)
        self._seen += len(lines)
        self.told = max(self.told, self._seen)


def is_over(status: str) -> bool:
    """Whether a job in this status has ended."""
    return status in ("SUCCEEDED", "FAILED", "STOPPED")


def running(jobs: Sequence[JobDetails]) -> JobDetails | None:
    """The newest of them that has not ended."""
    return next((job for job in jobs if not is_over(str(job.status.value))), None)


def _has_token() -> bool:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
    return "RAY_AUTH_TOKEN" in os.environ or Path(named).expanduser().is_file()


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
