"""A study as a user runs it: own photographs, a damaged file among them, killed in the middle, continued, loaded."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from transvae_platform.data.listing.bundled import bundled_files
from transvae_platform.study.journal import read_journal
from transvae_platform.study.state import StudyState

DEADLINE_SECONDS = 600  # far above what two busy cores need; ends a hang, judges no speed


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(folder, study file): two small trials on a folder of photographs with one damaged file."""
    folder = tmp_path_factory.mktemp("study")
    images = folder / "photographs" / "nested"
    images.mkdir(parents=True)
    for name, path in bundled_files()[:6]:
        shutil.copy(path, images / Path(name).name)
    (images / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no photograph")
    spec = {
        "study": "flow",
        "question": "Does the whole line hold?",
        "expected": {"outcome": "It does.", "source": "assumption"},
        "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"], "transvae": ["T"]}},
        "data": {
            "source": "folder",
            "path": "photographs",
            "resolution": 32,
            "view": {"kind": "crops", "per_photograph": 32},
            "holdout": ["brick"],
        },
        "recipe": {"steps": 120, "batch_size": 8, "learning_rate": 0.002, "warmup_steps": 10},
        "evaluation": {"every": 20, "images": 32, "pictures": 4},
    }
    file = folder / "flow.yaml"
    file.write_text(yaml.safe_dump(spec))
    return folder, file


def transvae(*arguments, home):
    return subprocess.Popen(
        [sys.executable, "-m", "transvae_platform", *map(str, arguments), "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | {"FLOW_HOME": str(home)},
    )


def left_over(home):
    """Whether a process that a command of this home started, at any depth, still lives."""
    mark = f"FLOW_HOME={home}".encode()

    def carries_mark(environ):
        try:
            return mark in environ.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has just ended, or is not ours
            return False

    return any(carries_mark(environ) for environ in Path("/proc").glob("[0-9]*/environ"))


def finish(process):
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, err
    return out


def wait_for(condition):
    end = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)
    return found


def events(home, event):
    journals = sorted((home / "studies" / "flow" / "trials").glob("*/journal.jsonl"))
    return {path.parent.name: [r for r in read_journal(path) if r["event"] == event] for path in journals}


def test_killed_and_continued_study_ends_as_if_nothing_had_happened(study):
    folder, file = study
    home = folder / "runs"

    first = transvae("study", "submit", file, home=home)
    wait_for(lambda: first.poll() is None and any(events(home, "checkpoint").values()))
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    wait_for(lambda: not left_over(home))  # its workers write into the journals until they notice
    before = {trial: len(records) for trial, records in events(home, "started").items()}
    finished_before = {trial for trial, records in events(home, "finished").items() if records}
    status = json.loads(finish(transvae("study", "status", "flow", "--json", home=home)))
    assert {trial["state"] for trial in status["trials"]} <= {"queued", "running", "finished"}

    out = finish(transvae("study", "submit", file, home=home))
    state = StudyState(home / "studies" / "flow")
    assert {trial.state for trial in state.trials.values()} == {"finished"}
    assert len(state.submissions) == 2
    started = events(home, "started")
    resumed = 0
    for trial, records in started.items():
        expected = before.get(trial, 0) + (0 if trial in finished_before else 1)
        assert len(records) == expected, trial
        resumed += records[-1]["resumed_from"] > 0
    assert resumed or finished_before, "the killed submission's work was used"

    # the damaged file was named once, and the page shows it
    assert [skip["name"] for skip in state.data["skipped"]] == ["nested/damaged.jpg"]
    page = home / "studies" / "flow" / "report.html"
    assert page.as_uri() in out
    assert "damaged.jpg" in page.read_text()

    # MLflow holds every step once, equal to the journal
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("flow")
    for trial in state.trials.values():
        (run,) = client.search_runs([experiment.experiment_id], f"tags.trial_id = '{trial.trial.id}'")
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "val/psnr")
        assert [point.step for point in history] == sorted(trial.validation)
        for point in history:
            assert point.value == pytest.approx(trial.validation[point.step]["metrics"]["val/psnr"])

    # the registry gives the best checkpoint back
    from transvae_platform import load_model

    vae = load_model("models:/flow-transvae-T@best", home=home)
    assert vae.encode(torch.zeros(1, 3, 32, 32)).shape == (1, 8, 4, 4)
    printed: dict = {}
    exec(re.search(r"load: +(.+)", out)[1], printed)  # the line that the terminal shows
    assert printed["vae"].encode(torch.zeros(1, 3, 32, 32)).shape == (1, 8, 4, 4)

    # a finished study runs nothing again
    finish(transvae("study", "submit", file, home=home))
    assert events(home, "started") == started


def test_a_changed_study_is_refused_field_by_field(study):
    folder, file = study
    process = transvae("study", "submit", file, "recipe.steps=130", home=folder / "runs")
    _, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 2
    assert "recipe.steps: 120 -> 130" in err
    assert "Traceback" not in err
