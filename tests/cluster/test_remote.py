"""The verbs of a study on a cluster, through Ray's own client, against a server that plays the Jobs API."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray

from transvae_platform.cluster import jobs_api, remote
from transvae_platform.cluster.jobs import Job, submit_job
from transvae_platform.cluster.remote import ask_there, decode_page, encode_page, fetch_page, show_output, stop_there
from transvae_platform.errors import SpecError, UnreachableError, UserError

HOME = Path("/shared/runs")


class Server(ThreadingHTTPServer):
    """Jobs that end at once with `said`; how it behaves is set by tests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ray_version, self.token, self.drops_uploads = ray.__version__, None, False
        self.said, self.ends, self.jobs, self.stopped = "", "SUCCEEDED", {}, []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, **job):
        self.jobs[job["submission_id"]] = {
            "type": "SUBMISSION", "entrypoint": "", "status": "RUNNING", "start_time": len(self.jobs), **job,
        }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, body, status=200):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _refused(self):
        told = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.token in (None, told):
            return False
        self._answer({"error": "Unauthorized"}, 403 if told else 401)
        return True

    def do_GET(self):
        jobs = self.server.jobs
        if self._refused():
            return
        if self.path == "/api/version":
            self._answer({"version": "4", "ray_version": self.server.ray_version, "ray_commit": ""})
        elif self.path == "/api/jobs/":
            self._answer(list(jobs.values()))
        elif self.path.endswith("/logs"):
            self._answer({"logs": self.server.said})
        elif self.path.startswith("/api/jobs/"):
            self._answer(jobs[self.path.rpartition("/")[2]])
        else:
            self._answer({}, 404)  # a package that is not there yet

    def do_PUT(self):
        if self.server.drops_uploads:
            self.rfile.read(1000)
            self.connection.close()
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({})

    def do_POST(self):
        told = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/stop"):
            job = self.path.split("/")[-2]
            self.server.stopped.append(job)
            self.server.jobs[job]["status"] = "STOPPED"
            self._answer({"stopped": True})
            return
        sent = json.loads(told)
        identity = sent.get("submission_id") or f"raysubmit_{len(self.server.jobs)}"
        self.server.add(
            submission_id=identity, entrypoint=sent["entrypoint"], metadata=sent["metadata"], status=self.server.ends
        )
        self._answer({"job_id": identity, "submission_id": identity})


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(jobs_api, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.01)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_question_is_a_short_job_of_the_same_command(server):
    server.said = "2 trials\n"
    assert ask_there(("study", "status", "mine"), server.address, HOME) == "2 trials\n"
    (job,) = server.jobs.values()
    assert job["entrypoint"] == "python -m transvae_platform study status --home /shared/runs mine"
    assert "study" not in job["metadata"], "it is no job that runs the study"


def test_a_question_that_fails_there_is_told_as_it_was_there(server):
    server.ends, server.said = "FAILED", "noise\nerror: /shared/runs holds no study 'mine' - it has: yours\n"
    with pytest.raises(UserError, match=r"`transvae study status mine` at http.*: /shared/runs holds no study 'mine'"):
        ask_there(("study", "status", "mine"), server.address, HOME)


def test_logs_are_those_of_the_newest_job_of_the_name(server, capsys):
    for number, study in enumerate(("mine", "mine", "yours")):
        server.add(submission_id=f"{study}-{number}", metadata={"study": study}, status="SUCCEEDED")
    server.said, shown = "what it said\n", []
    show_output("mine", server.address, follow=False, write=shown.append)
    assert shown == ["what it said\n"]
    with pytest.raises(SpecError, match=r"no job of http.* ran study 'nobodys'"):
        show_output("nobodys", server.address, follow=False, write=shown.append)


def test_stop_asks_the_study_and_waits_for_its_job(server):
    server.add(submission_id="mine-1", metadata={"study": "mine"})

    def pause(seconds):
        server.jobs["mine-1"]["status"] = "FAILED"  # with exit code 3: something is left to do

    assert "job mine-1 has ended; its trials are saved" in stop_there("mine", server.address, HOME, 60, pause)
    asked = [job["entrypoint"] for job in server.jobs.values()][1]
    assert asked.endswith("study stop --home /shared/runs mine --no-wait")
    assert server.stopped == []
    with pytest.raises(SpecError, match="study 'mine' runs in no job of"):
        stop_there("mine", server.address, HOME, 60, pause)


def test_a_job_that_does_not_stop_in_time_is_ended(server):
    server.add(submission_id="mine-1", metadata={"study": "mine"})
    said = stop_there("mine", server.address, HOME, 0.0, lambda seconds: None)
    assert "was ended after 0 s" in said
    assert server.stopped == ["mine-1"]


def test_a_job_that_runs_no_study_yet_is_ended_at_once(server):
    server.add(submission_id="mine-1", metadata={"study": "mine"}, status="PENDING")
    server.ends, server.said = "FAILED", "error: no process runs study 'mine': there is nothing to stop\n"
    said = stop_there("mine", server.address, HOME, 60, lambda seconds: None)
    assert "job mine-1 was ended" in said
    assert "no process runs study 'mine'" in said
    assert server.stopped == ["mine-1"]


def test_a_page_comes_whole_or_not_at_all(server, tmp_path):
    page = bytes(range(256)) * 50
    server.said = f"a warning\n{encode_page(page)}\nanother\n"
    target = fetch_page("mine", server.address, HOME, tmp_path / "new" / "mine.html")
    assert target.read_bytes() == page
    whole, cut = server.said, server.said.index("-----\n") + 20
    server.said = whole[:cut] + ("B" if whole[cut] == "A" else "A") + whole[cut + 1 :]
    with pytest.raises(UserError, match="the page did not arrive whole"):
        fetch_page("mine", server.address, HOME, tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_nothing_is_no_page():
    with pytest.raises(UserError, match="did not arrive whole"):
        decode_page("")


def test_another_version_of_ray_is_refused_before_anything_is_sent(server):
    server.ray_version = "2.41.0"
    with pytest.raises(
        SpecError, match=rf"runs Ray 2\.41\.0, this machine Ray {ray.__version__}, and .* start the cluster"
    ):
        submit_job(Job(("study", "resume", "mine"), {"study": "mine"}), server.address, HOME, follow=False)
    assert server.jobs == {}


def test_a_cluster_that_wants_a_token_is_named_with_the_way_out(server, monkeypatch):
    server.token = "right"
    with pytest.raises(UnreachableError, match=r"wants a token - copy the head's ~/\.ray/auth_token to this machine"):
        ask_there(("study", "status", "mine"), server.address, HOME)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(UnreachableError, match="does not take this machine's token"):
        ask_there(("study", "status", "mine"), server.address, HOME)


def test_an_upload_that_breaks_off_submits_nothing(server):
    server.drops_uploads = True
    with pytest.raises(UnreachableError, match=r"the upload to http.* broke off .* the same command sends it again"):
        submit_job(Job(("study", "resume", "mine"), {"study": "mine"}), server.address, HOME, follow=False)
    assert server.jobs == {}
    server.drops_uploads = False
    assert (
        submit_job(Job(("study", "resume", "mine"), {"study": "mine"}), server.address, HOME, follow=False) == "mine-1"
    )
