"""A real MLflow server that is killed, locked or lies under a toy run: nothing waits, and every point arrives once.

No Ray: a thread writes the journal as a trial would, a loop reads and sends it as a submission does.
"""

import http.client
import json
import sqlite3
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow.entities import ViewType
from tests.faults.mlflow_server import Mlflow, wait_for

from transvae_platform.errors import UnreachableError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.tracking import runs
from transvae_platform.tracking.runs import Tracker
from transvae_platform.tracking.server import Server, reach

pytestmark = pytest.mark.fault
STEPS, EVERY = 60, 0.05
OUTAGE_SECONDS = 60.0


class Toy:
    """A study of one trial whose journal a thread writes in real time, a resume from step 20 in the middle."""

    def __init__(self, home, uri):
        self.home = home
        spec = StudySpec.model_validate(
            {
                "study": home.name,  # pytest names it after the test: the tests share a server
                "question": "Is it tracked?",
                "expected": {"outcome": "It is.", "source": "assumption"},
                "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}},
                "data": {"source": "bundled", "resolution": 32},
                "recipe": {"steps": STEPS, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 4},
                "evaluation": {"every": 20},
            }
        )
        (self.trial,) = build_grid(spec, "d" * 16)
        folder = home / "studies" / home.name
        journal = Journal(folder / "journal.jsonl")
        journal.append("submitted", spec=spec.model_dump(mode="json"), lineage={"code": "a"}, tracking=uri)
        journal.append("queued", trial=self.trial.model_dump(mode="json"), cost={"parameters": 7.0})
        self.own = Journal(folder / "trials" / self.trial.id / "journal.jsonl")
        self.state = StudyState(folder)
        self.writer = threading.Thread(target=self._write)
        self.slowest_step = 0.0

    def _write(self):
        for first, last in ((0, 30), (20, STEPS)):
            self.own.append(
                "started", step=first, resumed_from=first, world=1, device="cpu", attention="sdpa", lineage={}
            )
            for step in range(first + 1, last + 1):
                began = time.monotonic()
                values = {"train/loss": 1 / step, "train/norm": float(step)}
                self.own.append("step", step=step, images=8 * step, flops=9.0 * step, metrics=values)
                if step % 20 == 0:
                    values = {"val/psnr": step / 3}
                    self.own.append("validated", step=step, images=8 * step, flops=9.0 * step, metrics=values)
                self.slowest_step = max(self.slowest_step, time.monotonic() - began)
                time.sleep(EVERY)
        self.own.append("finished", step=STEPS, metrics={})

    def expected(self):
        known, found = self.state.trials[self.trial.id], {}
        for records in (known.train, known.validation):
            for step, record in records.items():
                values = {**record["metrics"], "images": record["images"], "training_flops": record["flops"]}
                found |= {(key, step): value for key, value in values.items()}
        return found

    def follow(self, tracker, while_running=lambda: None):
        """What the follower of a submission does; the longest that one round took."""
        slowest = 0.0
        self.writer.start()
        while self.writer.is_alive():
            while_running()
            began = time.monotonic()
            tracker.take(self.state.refresh())
            tracker.send()
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.1)
        tracker.take(self.state.refresh())
        return slowest

    def held(self, server, tracker):
        """Every point of every run of the trial, as MLflow gives it back: a list, so that repeats show."""
        (run,) = server.client().search_runs([tracker.experiment_id], "tags.kind = 'trial'")
        history = server.client().get_metric_history
        return [((key, point.step), point.value) for key in run.data.metrics for point in history(run.info.run_id, key)]


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    server = Mlflow(tmp_path_factory.mktemp("server")).start()
    wait_for(server.answers)
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short pauses and timeouts, so that an outage is many failures long."""
    monkeypatch.setattr(runs, "SEND_EVERY_SECONDS", 0.3)
    monkeypatch.setattr(runs, "METRICS_PER_CALL", 25)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


def compared(toy, server, tracker, slowest):
    wait_for(lambda: tracker.send(now=True))
    assert tracker.problem is None
    held = toy.held(server, tracker)
    assert len(held) == len(dict(held)), "a step is there twice"
    assert dict(held) == toy.expected()
    assert slowest < 2.5, "progress waited for the server"  # less than one request's timeout
    assert toy.slowest_step < 2.5, "training waited for the server"


def test_a_killed_server_costs_no_point(mlflow_server, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "EVERY", 1.2)  # the trial outlives the outage
    toy = Toy(tmp_path, mlflow_server.uri)
    server = reach(mlflow_server.uri, tmp_path)
    tracker = Tracker(server, toy.state, tmp_path)
    began, seen = time.monotonic(), []

    def fault():
        seen.append(tracker.problem)
        if time.monotonic() - began > 4 and not killed:
            mlflow_server.kill()
            killed.append(time.monotonic())
        if killed and len(killed) == 1 and time.monotonic() - killed[0] > OUTAGE_SECONDS:
            mlflow_server.start()
            killed.append(time.monotonic())

    killed: list[float] = []
    slowest = toy.follow(tracker, fault)
    assert len(killed) == 2
    assert any(problem and "does not answer" in problem for problem in seen), "the alarm was shown"
    wait_for(mlflow_server.answers)
    compared(toy, server, tracker, slowest)


def test_a_server_that_is_down_at_the_start_costs_no_point(mlflow_server, tmp_path):
    mlflow_server.kill()
    try:
        with pytest.raises(UnreachableError):
            reach(mlflow_server.uri, tmp_path)  # an address that never served this home
        toy = Toy(tmp_path, mlflow_server.uri)
        server = reach(mlflow_server.uri, tmp_path)
        assert "does not answer" in server.silent
        tracker = Tracker(server, toy.state, tmp_path)
        slowest = toy.follow(tracker)
        assert not tracker.send(now=True)
    finally:
        mlflow_server.start()
        wait_for(mlflow_server.answers)
    compared(toy, server, tracker, slowest)


class Lying(BaseHTTPRequestHandler):
    """A proxy: what is logged reaches the server, and every third answer to it is lost, or late, or an error."""

    port, logged = 0, 0
    protocol_version = "HTTP/1.1"

    def received(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        body = self.received()
        onward = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": self.headers.get("Content-Type", ""), "Host": f"127.0.0.1:{self.port}"}
        onward.request(self.command, self.path, body or None, headers)
        answer = onward.getresponse()
        content, status = answer.read(), answer.status
        if self.path.endswith("runs/create") and not Lying.logged:
            Lying.logged += 1
            time.sleep(4)  # the client's HTTP library asks again, and the server makes a second run
        if "log-batch" in self.path:
            Lying.logged += 1
            match Lying.logged % 9:
                case 2:
                    self.close_connection = True
                    return
                case 5:
                    time.sleep(4)  # beyond the client's timeout
                case 8:
                    status, content = 500, b'{"error_code": "INTERNAL_ERROR", "message": "lost"}'
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@contextmanager
def proxied(server, kind):
    """The address of a proxy before the server."""
    kind.port, Lying.logged = server.port, 0
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{proxy.server_address[1]}"
    proxy.shutdown()


def test_a_server_that_commits_and_does_not_say_so_gets_no_point_twice(mlflow_server, tmp_path):
    with proxied(mlflow_server, Lying) as uri:
        toy = Toy(tmp_path, uri)
        server = Server(uri, tmp_path)
        tracker = Tracker(server, toy.state, tmp_path)
        compared(toy, server, tracker, toy.follow(tracker))
    assert Lying.logged > 9, "every kind of lie was told"


class Forgetful(Lying):
    """A proxy whose server keeps every point that it is sent: each batch gets times of its own.

    MLflow takes a point once whose step, value and time are equal, and would hide a sender that sends twice.
    """

    def received(self):
        body = super().received()
        if "log-batch" not in self.path or not (batch := json.loads(body)).get("metrics"):
            return body
        for metric in batch["metrics"]:
            metric["timestamp"] += Lying.logged
        return json.dumps(batch).encode()


def test_a_lost_answer_makes_no_second_point_even_where_the_server_would_keep_it(mlflow_server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # who sends again is the tracker, not the HTTP library
    with proxied(mlflow_server, Forgetful) as uri:
        toy = Toy(tmp_path, uri)
        server = Server(uri, tmp_path)
        tracker = Tracker(server, toy.state, tmp_path)
        compared(toy, server, tracker, toy.follow(tracker))
        thrown_away = server.client().search_runs([tracker.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert [run.data.tags["superseded"] for run in thrown_away if "superseded" in run.data.tags] == []
    assert Lying.logged > 9, "every kind of lie was told"


def test_a_locked_store_is_an_outage(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    toy = Toy(tmp_path, uri)
    server = reach(uri, tmp_path)
    tracker = Tracker(server, toy.state, tmp_path)
    assert tracker.send(now=True)
    other = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    slowest = toy.follow(tracker)
    wait_for(lambda: tracker.problem is not None)
    assert "locked" in tracker.problem
    began = time.monotonic()
    assert "locked" in reach(uri, tmp_path).silent
    assert time.monotonic() - began < 60  # MLflow alone tries a locked file ten times
    other.execute("ROLLBACK")
    compared(toy, server, tracker, slowest)
