"""The watcher of spot notices against an HTTP server that plays the cloud's metadata server."""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ray.exceptions import RpcError

from transvae_platform.cluster import spot_watch
from transvae_platform.cluster.spot_watch import Aws, Gcp, Interruption, Raylet, detect, find_raylet, main, watch
from transvae_platform.errors import UnreachableError, UserError

TOKEN = "a-token"
NOISE = 999
INSTANCE = "/computeMetadata/v1/instance"
ACTION = "/latest/meta-data/spot/instance-action"
TERMINATE = json.dumps({"action": "terminate", "time": "2026-11-22T08:22:00Z"})
TERMINATE_AT = 1795335720.0


class Metadata(ThreadingHTTPServer):
    """`pages` of an instance by path; `delay` seconds before every answer."""

    def __init__(self):
        self.pages, self.delay, self.google, self.flavour = {}, 0.0, False, "Google"
        super().__init__(("127.0.0.1", 0), Answers)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def play_aws(self):
        self.google, self.pages = False, {"/latest/meta-data/events/recommendations/rebalance": '{"noticeTime": "now"}'}

    def play_gcp(self):
        self.google, self.pages = True, {f"{INSTANCE}/preempted": "FALSE", f"{INSTANCE}/maintenance-event": "NONE"}


class Answers(BaseHTTPRequestHandler):
    def do_PUT(self):
        known = not self.server.google and self.path == "/latest/api/token"
        known = known and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self.answer(TOKEN if known else None)

    def do_GET(self):
        allowed = (
            self.headers.get("Metadata-Flavor") == "Google"
            if self.server.google
            else self.headers.get("X-aws-ec2-metadata-token") == TOKEN
        )
        self.answer(self.server.pages.get(self.path) if allowed else 403)

    def answer(self, page):
        time.sleep(self.server.delay)
        status = page if isinstance(page, int) else 404 if page is None else 200
        if status == NOISE:
            self.wfile.write(b"no HTTP at all\r\n\r\n")
            return
        self.send_response(status)
        if self.server.google:
            self.send_header("Metadata-Flavor", self.server.flavour)
        self.end_headers()
        self.wfile.write(page.encode() if status == 200 else b"")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def metadata(monkeypatch):
    monkeypatch.setattr(spot_watch, "ANSWER_SECONDS", 0.5)
    server = Metadata()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def raylet(tmp_path):
    """A process that looks like a raylet's."""
    process = tmp_path / "4711"
    process.mkdir()
    (process / "cmdline").write_bytes(b"/x/raylet\0--node_id=abc\0--gcs-address=10.0.0.1:6379\0")
    return Raylet(process, "abc", "10.0.0.1:6379")


def test_aws_says_nothing_then_when(metadata):
    metadata.play_aws()
    cloud = Aws(metadata.address)
    assert cloud.notice() is None, "a rebalance recommendation is no notice"
    metadata.pages[ACTION] = TERMINATE
    assert cloud.notice() == Interruption("spot instance: terminate", TERMINATE_AT)


@pytest.mark.parametrize(
    "page", [500, NOISE, "not json", "[]", '{"action": "stop"}', '{"action": "stop", "time": "soon"}']
)
def test_an_answer_that_is_none_is_not_taken_for_one(metadata, page):
    metadata.play_aws()
    metadata.pages[ACTION] = page
    with pytest.raises((OSError, ValueError)):
        Aws(metadata.address).notice()


def test_gcp_says_false_then_true(metadata):
    metadata.play_gcp()
    cloud = Gcp(metadata.address, clock=lambda: 1000.0)
    assert cloud.notice() is None
    metadata.pages[f"{INSTANCE}/maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"  # it lives on elsewhere
    assert cloud.notice() is None
    metadata.pages[f"{INSTANCE}/maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
    assert cloud.notice() == Interruption("host maintenance", 1058.0)
    metadata.pages[f"{INSTANCE}/preempted"] = "TRUE"
    assert cloud.notice() == Interruption("spot VM: preempted", 1028.0)


def test_the_cloud_is_found_by_its_answers(metadata):
    metadata.play_aws()
    assert detect(metadata.address).name == "AWS"
    metadata.play_gcp()
    assert detect(metadata.address).name == "GCP"


def test_on_no_cloud_it_ends_with_a_sentence(metadata):
    metadata.play_gcp()
    metadata.flavour = "none"  # a web server that knows every path
    with pytest.raises(UnreachableError, match="answers neither as AWS nor as GCP does"):
        detect(metadata.address, patience=0.0)
    metadata.server_close()
    with pytest.raises(UnreachableError, match="no spot notices here"):
        detect(metadata.address, patience=0.0)


def run(metadata, raylet, events, drain=None):
    """Watch AWS, with `events[i]` called in the i-th pause; returns what was drained."""
    drained, left = [], iter(events)

    def sleep(_):
        next(left)()

    watch(Aws(metadata.address), raylet, drain or (lambda *what: drained.append(what)), sleep)
    return drained


def test_the_node_is_drained_once_with_the_clouds_deadline(metadata, raylet, caplog):
    metadata.play_aws()
    caplog.set_level("INFO")
    drained = run(metadata, raylet, [lambda: None, lambda: metadata.pages.update({ACTION: TERMINATE})])
    assert drained == [(raylet, Interruption("spot instance: terminate", TERMINATE_AT))]
    said = [record.message for record in caplog.records]
    assert said[0] == "watching AWS for node abc"
    assert said[1].startswith("notice: spot instance: terminate, in ")
    assert said[2:] == ["drained node abc"]


def test_a_server_that_fails_or_hangs_is_asked_again_and_named_once(metadata, raylet, caplog):
    metadata.play_aws()
    caplog.set_level("INFO")

    def fail():
        metadata.pages[ACTION] = 500

    def hang():
        metadata.pages.pop(ACTION)
        metadata.delay = 1.0

    def recover():
        metadata.delay = 0.0

    def notify():
        metadata.pages[ACTION] = TERMINATE

    assert len(run(metadata, raylet, [fail, lambda: None, hang, lambda: None, recover, notify])) == 1
    said = [record.message for record in caplog.records][1:-2]
    assert said == ["trying on: HTTP Error 500: Internal Server Error", "trying on: timed out", "all is well again"]


def test_a_head_that_does_not_answer_is_asked_again(metadata, raylet, caplog):
    metadata.play_aws()
    metadata.pages[ACTION] = TERMINATE
    caplog.set_level("INFO")
    tried = []

    def drain(raylet, coming):
        tried.append(coming)
        if len(tried) < 3:
            raise UnreachableError("the head does not answer")

    run(metadata, raylet, [lambda: None] * 2, drain)
    assert len(tried) == 3
    assert [record.message for record in caplog.records].count("trying on: the head does not answer") == 1


def test_it_ends_with_its_raylet(metadata, raylet):
    metadata.play_aws()
    assert run(metadata, raylet, [lambda: None, lambda: (raylet.process / "cmdline").write_bytes(b"")]) == []


def test_the_raylet_of_this_machine_is_found_by_its_command_line(raylet, tmp_path):
    for number, command in (("1", b"/sbin/init\0"), ("2", b""), ("3", b"python\0raylet.py\0--node_id=x\0")):
        (tmp_path / number).mkdir()
        (tmp_path / number / "cmdline").write_bytes(command)
    assert find_raylet(processes=tmp_path) == raylet
    second = tmp_path / "4712"
    second.mkdir()
    (second / "cmdline").write_bytes(b"raylet\0--node_id=def\0--gcs-address=10.0.0.1:6379\0")
    assert find_raylet("def", tmp_path).node == "def"
    with pytest.raises(UserError, match="2 raylets match"):
        find_raylet(processes=tmp_path)
    with pytest.raises(UserError, match=r"0 raylets match.*name the node"):
        find_raylet("xyz", tmp_path)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [((False, "not alive"), r"refuses to drain the node \(not alive\)"), (None, "does not answer")],
)
def test_a_head_that_refuses_or_is_silent_is_named(raylet, monkeypatch, answer, sentence):
    asked = []

    class Head:
        def __init__(self, address):
            asked.append(address)

        def drain_node(self, *what):
            asked.append(what)
            if answer is None:
                raise RpcError("timed out")  # the real one takes 40 s to say so
            return answer

    monkeypatch.setattr(spot_watch, "GcsClient", Head)
    with pytest.raises(UnreachableError, match=sentence):
        spot_watch.drain(raylet, Interruption("test", TERMINATE_AT))
    assert asked == ["10.0.0.1:6379", ("abc", 2, "test", int(TERMINATE_AT * 1000))]


def test_it_says_what_is_missing(caplog):
    assert main(["--node", "no-such-node"]) == UserError.exit_code
    assert "0 raylets match" in caplog.text


def test_who_is_told_to_leave_drains_at_once(raylet, monkeypatch):
    asked = []
    monkeypatch.setattr(spot_watch, "find_raylet", lambda node: raylet)
    monkeypatch.setattr(spot_watch, "watch", lambda cloud, which: watch(cloud, which, lambda *what: asked.append(what)))
    before = time.time()
    assert main(["--leaving", "100"]) == 0
    ((node, coming),) = asked
    assert node == raylet
    assert before + 100 <= coming.deadline <= time.time() + 100


def test_it_is_light():
    loaded = "import sys, transvae_platform.cluster.spot_watch; print({'torch', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
