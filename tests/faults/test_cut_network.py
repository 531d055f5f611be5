"""The cable to a real MLflow server is pulled for a minute while a study runs: packets are lost and nobody is told.

Other than a server that was killed, which refuses at once, this one leaves every request to its own time-out.
"""

import json
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
import yaml
from tests.faults.hosts import ROOT, cable, hosts, missing
from tests.faults.nodes import events, steps_of, until

from transvae_platform.study.state import StudyState

WHY_NOT = missing()
pytestmark = [pytest.mark.fault, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]
CUT_SECONDS = 60.0
FOLDER = Path("/tmp/cut-network")
STEPS = 100_000  # more than it gets to: the study is stopped when the points of the cut have arrived
SPEC = {
    "study": "cut",
    "question": "Is it tracked?",
    "expected": {"outcome": "It is.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}},
    "data": {"source": "bundled", "resolution": 32, "view": {"kind": "crops", "per_photograph": 8}},
    "recipe": {"steps": STEPS, "batch_size": 8, "learning_rate": 0.001, "warmup_steps": 2},
    "evaluation": {"every": 500, "log_every": 5, "images": 8, "pictures": 2},
}


@pytest.fixture
def network():
    shutil.rmtree(FOLDER, ignore_errors=True)
    with hosts(FOLDER, ["trainer", "server"], shared="/runs") as made:
        yield made
    shutil.rmtree(FOLDER, ignore_errors=True)


def test_a_minute_without_packets_costs_no_step_and_no_point(network, tmp_path):
    trainer, server = network["trainer"], network["server"]
    roots = ":".join(str(ROOT / name) for name in ("models", "platform", "dashboards"))
    known = {"PYTHONPATH": roots, "OMP_NUM_THREADS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server.start(
        "mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1", "--backend-store-uri",
        "sqlite:////runs/tracking.db", "--artifacts-destination", "/artifacts", "--allowed-hosts", "*",
        log=tmp_path / "server.log", environment=known,
    )  # fmt: skip
    until(lambda: "startup complete" in (tmp_path / "server.log").read_text())
    trainer.write("/study.yaml", yaml.safe_dump(SPEC))
    log = tmp_path / "study.log"
    known["MLFLOW_TRACKING_URI"] = f"http://{server.address}:5000"
    study = trainer.start("transvae", "study", "submit", "/study.yaml", "--home", "/runs", log=log, environment=known)

    def journal():
        assert study.poll() is None, log.read_text()
        return next((FOLDER / "shared" / "studies" / "cut" / "trials").glob("*/journal.jsonl"), None)

    folder = until(journal).parent
    database = FOLDER / "shared" / "tracking.db"
    until(lambda: points(database))

    cable(server, plugged=False)
    began, before = time.monotonic(), newest(folder)
    while time.monotonic() < began + CUT_SECONDS:
        assert study.poll() is None, log.read_text()
        time.sleep(1)
    within, held = newest(folder), points(database)
    assert within > before, "training went on"
    assert max(step for _, step in held) <= within
    alarm = trainer.run("transvae", "study", "status", "cut", "--home", "/runs", environment=known)
    cable(server, plugged=True)
    until(lambda: max(step for _, step in points(database)) > within)

    trainer.run("transvae", "study", "stop", "cut", "--home", "/runs", environment=known, seconds=600)
    study.wait(600)
    state = StudyState(folder.parents[1])
    (trial,) = state.trials.values()
    assert len(events(folder, "started")) == 1, "the cut cost no attempt"
    assert not events(folder, "failed")
    steps = [record["step"] for record in steps_of(folder, attempt=1)]
    assert steps == sorted(set(steps))
    held = points(database)
    assert len(held) == len(set(held)), "a point is there twice"
    wanted = {(key, record["step"]) for record in steps_of(folder, 1) for key in record["metrics"]}
    assert wanted <= set(held)
    print(json.dumps({"steps_during_cut": within - before, "said": alarm[-500:], "stopped_at": trial.step}))


def newest(folder):
    return max((record["step"] for record in steps_of(folder, 1)), default=0)


def points(database):
    """(metric, step) of every point that the server keeps, repeats included."""
    if not database.exists():
        return []
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return [(key, step) for key, step in connection.execute("SELECT key, step FROM metrics")]
