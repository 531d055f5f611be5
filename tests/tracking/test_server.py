"""Which MLflow server is meant, whether it answers, and which one may be waited for."""

import resource
import time

import pytest

from transvae_platform.errors import UnreachableError
from transvae_platform.study.journal import Journal
from transvae_platform.tracking.runs import Tracker
from transvae_platform.tracking.server import Server, connect, default_tracking_uri, reach


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:9", "the MLflow server at http://127.0.0.1:9 does not answer"),
        ("file:///tmp/mlruns", "'file:///tmp/mlruns' is no MLflow server - use http"),
        ("mlruns", "'mlruns' is no MLflow server - use http"),
        ("nonsense://host", "the MLflow server at nonsense://host does not answer"),
        ("nodriver+x://host/db", "does not answer"),
    ],
)
def test_address_that_cannot_serve_is_refused(address, message, tmp_path):
    with pytest.raises(UnreachableError) as caught:
        connect(address, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "notes.db").write_text("this is not a database, and it is long enough to be read as one" * 20)
    with pytest.raises(UnreachableError, match=r"notes.db is no database, or is damaged .* - move the file away"):
        connect(f"sqlite:///{tmp_path / 'notes.db'}", tmp_path)


def test_default_store_lies_in_the_home(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert default_tracking_uri(tmp_path) == "http://tracking:5000"


def test_a_server_that_is_down_is_waited_for_if_it_ever_served_this_home(tmp_path, study):
    with pytest.raises(UnreachableError, match=r"127.0.0.1:9 does not answer .* or correct"):
        reach("http://127.0.0.1:9", tmp_path)
    folder = tmp_path / "studies" / "earlier"
    Journal(folder / "journal.jsonl").append("submitted", tracking="http://127.0.0.1:9")
    down = reach("http://bob:s3cret@127.0.0.1:9", tmp_path)
    assert "does not answer" in down.silent
    state = study.state()
    tracker = Tracker(down, state, tmp_path)
    study.start(study.trials[0])
    tracker.take(state.refresh())
    assert not tracker.send(now=True)
    assert tracker.problem.startswith("MLflow does not answer, news of 1 trials wait: ")
    with pytest.raises(UnreachableError):
        reach("http://127.0.0.1:99", tmp_path)


def test_a_database_that_does_not_answer_is_told_at_once(tmp_path):
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="does not answer"):
        connect(f"sqlite:///{tmp_path}/no/such/folder/mlflow.db?mode=ro&uri=true", tmp_path)
    assert time.monotonic() - began < 30  # MLflow alone tries for 100 seconds


def test_a_full_home_is_told_in_one_line(tmp_path, study, capsys):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    state = study.state()
    tracker = Tracker(Server(uri, tmp_path), state, tmp_path)
    assert tracker.send(now=True)
    study.start(study.trials[0])
    tracker.take(state.refresh())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        assert not tracker.send(now=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert tracker.problem.startswith("MLflow does not answer, news of 1 trials wait: (sqlite3.OperationalError) ")
    assert "Traceback" not in capsys.readouterr().err
    assert tracker.send(now=True)
