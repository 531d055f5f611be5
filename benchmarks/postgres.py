"""An MLflow server on a PostgreSQL of its own, both started here from Debian's package and ended with the benchmark.

PostgreSQL refuses to run as root: then it runs as the user `postgres`, whom the package makes.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
START_SECONDS = 300.0  # on a busy machine: imports, and MLflow's tables


@contextmanager
def mlflow_on_postgres(folder: Path, workers: int = 4) -> Iterator[str]:
    """Yields the MLflow server's address. Needs `pip install 'psycopg[binary]'` (the extra `postgres`)."""
    database, port = folder / "postgres", free_port()
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    database.mkdir(parents=True)
    if as_user:
        shutil.chown(database, "postgres")
        for above in (folder, *folder.parents):  # it must be able to come there
            if above.stat().st_uid == 0 and above != Path("/") and not above.stat().st_mode & 1:
                above.chmod(above.stat().st_mode | 0o111)
    run = {"check": True, "stdout": subprocess.DEVNULL, "cwd": database}
    subprocess.run([*as_user, PROGRAMS / "initdb", "-D", database / "data", "-A", "trust", "-U", "mlflow"], **run)
    options = f"-p {port} -k {database} -c listen_addresses=127.0.0.1"
    control = [*as_user, PROGRAMS / "pg_ctl", "-D", database / "data", "-w"]
    subprocess.run([*control, "-o", options, "-l", database / "log", "start"], **run)
    try:
        subprocess.run(
            [*as_user, PROGRAMS / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"], **run
        )
        store = f"postgresql+psycopg://mlflow@127.0.0.1:{port}/mlflow"
        with _server(store, folder, workers) as address:
            yield address
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **run)


@contextmanager
def _server(store: str, folder: Path, workers: int) -> Iterator[str]:
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--artifacts-destination",
        str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers),
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "mlflow.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the MLflow server does not answer: {(folder / 'mlflow.log').read_text()[-2000:]}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(60)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
