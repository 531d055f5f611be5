"""Which MLflow server a command means, whether it answers, and which one may be waited for."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from transvae_platform.errors import SpecError, UnreachableError
from transvae_platform.redaction import without_password
from transvae_platform.study.folders import store_of
from transvae_platform.study.journal import read_journal
from transvae_platform.tracking.moved import follow_move

SQLALCHEMY_ASIDE = "(raised as a result of Query-invoked autoflush"
"""Begins a line of advice to SQLAlchemy's users, before the reason."""

NO_DATABASE = "(sqlite3.DatabaseError)"
"""What SQLite says of a file's bytes; what it says of locks, rights and full disks has names of its own."""


class Server:
    """A tracking server by its address; it need not answer yet, the client is made when it does."""

    def __init__(self, uri: str, home: Path) -> None:
        self.uri = uri
        self.silent: str | None = None
        """Why it did not answer when the submission began, if it did not."""
        self._home = home
        self._client: MlflowClient | None = None

    def client(self) -> MlflowClient:
        """The client, after the first call that found the server answering.

        Raises:
            UnreachableError: it has not answered yet.
        """
        if self._client is None:
            self._client = connect(self.uri, self._home)
        return self._client


def reach(uri: str, home: Path) -> Server:
    """The server of a submission: one that answers now, or one that is down but has served this home before.

    An outage must stop no study, and a mistyped address must be told before anything runs. The journals tell the two
    apart: an address under which a study of this home was submitted did answer once.

    Raises:
        UnreachableError: it does not answer, and no study of this home was ever submitted to it.
    """
    server = Server(uri, home)
    try:
        with _alone(home):
            server.client()
    except UnreachableError as error:
        if not _served(uri, home):
            raise
        server.silent = str(error)
    return server


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One process of this home at a time: two that make the tables of a new store at once fail."""
    with (home / ".connecting.lock").open("w") as file:
        with suppress(OSError):  # a file system without flock: as good as it gets
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _served(uri: str, home: Path) -> bool:
    journals = home.glob("studies/*/journal.jsonl")
    shown = without_password(uri)
    return any(record.get("tracking") == shown for journal in journals for record in read_journal(journal))


def default_tracking_uri(home: Path) -> str:
    """`MLFLOW_TRACKING_URI` if set, else a SQLite file in the home folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or store_of(home)


def existing_tracking_uri(home: Path) -> str:
    """The default store for reading only: a mistyped home is an error, not a new and empty store.

    Raises:
        SpecError: neither `MLFLOW_TRACKING_URI` nor a store in the home.
    """
    uri = default_tracking_uri(home)
    if "MLFLOW_TRACKING_URI" not in os.environ and not (home / "mlflow.db").exists():
        raise SpecError(f"--home: {home} holds no MLflow store - give the folder that studies were run in, or a server")
    return uri


def connect(uri: str, home: Path) -> MlflowClient:
    """A client whose server answers; the own store of a home that was moved follows it (`tracking/moved.py`).

    Raises:
        UnreachableError: it does not.
    """
    if uri.startswith("file:") or "://" not in uri:
        raise UnreachableError(
            f"tracking: {uri!r} is no MLflow server - use http(s)://host:port, postgresql://... or sqlite:///file.db"
        )
    # retries with growing pauses would hang for minutes on a wrong address; the outbox does its own retrying
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for library in ("mlflow", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)  # no lines about creating tables
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # an outage is told in one place: by `problem`
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # and a full disk without its traceback
    named = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    # MLflow also writes the address into the environment, where the next default would find it
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if named is not None:
        os.environ["MLFLOW_TRACKING_URI"] = named
    try:
        _try_database(uri)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, OSError, SQLAlchemyError, ImportError) as error:  # ImportError: no driver for a database
        shown = without_password(uri)
        reason = first_line(error).replace(uri, shown)
        if NO_DATABASE in str(error):
            raise UnreachableError(
                f"tracking: {shown} is no database, or is damaged ({reason}) - move the file away and submit the "
                "studies of this home again: their journals fill a new one, but for aliases that people gave, and no "
                "finished trial is run"
            ) from None
        if isinstance(error, ImportError):
            reason += "; install the database's driver, for PostgreSQL the extra `postgres`"
        raise UnreachableError(
            f"tracking: the MLflow server at {shown} does not answer ({reason}) - start it, or correct "
            "MLFLOW_TRACKING_URI / --tracking-uri"
        ) from None
    if uri == store_of(home):
        follow_move(home)
    return client


def _try_database(uri: str) -> None:
    """One attempt: MLflow itself tries a database that does not answer, or is locked, ten times over 100 seconds."""
    if not uri.startswith(("http://", "https://")):
        engine = sqlalchemy.create_engine(uri)
        sqlalchemy.inspect(engine).has_table("experiments")
        engine.dispose()


@contextmanager
def answering(client: MlflowClient) -> Iterator[None]:
    """For work that needs the server to the end: its errors become UnreachableError."""
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        raise UnreachableError(
            f"tracking: MLflow at {without_password(client.tracking_uri)} failed ({first_line(error)}) - what is in "
            "the study's journal is safe; mend the server and submit the same study again"
        ) from None


def first_line(error: BaseException) -> str:
    """The first line of an error that says something: servers answer with pages of them."""
    lines = [line for line in str(error).strip().splitlines() if not line.startswith(SQLALCHEMY_ASIDE)]
    return (lines or [type(error).__name__])[0][:200]
