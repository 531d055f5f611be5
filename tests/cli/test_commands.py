"""What the commands print, what they leave alone, and how they end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.tracking.played import answering

from transvae.accounting import count_model
from transvae_platform.cluster import planning, schedule, submit
from transvae_platform.cluster.devices import local_devices
from transvae_platform.cluster.planning import prepare_elsewhere
from transvae_platform.errors import SpecError
from transvae_platform.study import lease
from transvae_platform.study.identity import refuse_changed_study
from transvae_platform.study.journal import Journal
from transvae_platform.study.lease import wait_for_lease
from transvae_platform.study.load import load_study, study_schema
from transvae_platform.study.plan import START_SECONDS
from transvae_platform.study.rates import rate_key
from transvae_platform.study.state import StudyState
from transvae_platform.tracking import rates
from transvae_platform.tracking.rates import METRIC

HEAVY = ("torch", "mlflow", "ray", "matplotlib", "pandas", "torchmetrics")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["study", "--help"],
        ["study", "submit", "--help"],
        ["registry", "--help"],
        ["doctor", "--help"],
        ["fit", "--help"],
        ["dashboard", "--help"],
    ],
)
def test_help_imports_nothing_heavy(arguments):
    program = (
        "import sys\n"
        "from transvae_platform.cli.main import main\n"
        f"sys.argv = ['transvae', *{arguments!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "Usage: transvae" in done.stdout
    assert done.stdout.endswith("loaded: []\n")


def test_the_plan_of_figure_5_needs_neither_torch_nor_counting(tmp_path):
    """As on a machine that never planned before, whose tracking server is down."""
    file = Path(__file__).parents[2] / "studies" / "figure5_scaling.yaml"
    arguments = ["study", "plan", str(file), "--gpus", "64", "--home", str(tmp_path / "runs")]
    program = (
        "import sys\n"
        "from transvae_platform.cli.main import main\n"
        f"sys.argv = ['transvae', *{arguments!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "XDG_CACHE_HOME": str(tmp_path)}
    environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"  # where nobody listens
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "20 trials, 20 left to run" in done.stdout
    assert "tracking: http://127.0.0.1:9 was asked for measured times" in done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
    assert not list(tmp_path.iterdir())  # what ships is enough


@pytest.mark.parametrize("name", ["figure6bc_f16d32", "off_manifold", "quickstart"])
def test_plans_of_studies_with_and_without_generators_are_printed(transvae, tmp_path, name):
    file = Path(__file__).parents[2] / "studies" / f"{name}.yaml"
    answer = transvae("study", "plan", file, "--gpus", "64", "--home", tmp_path / "runs")
    assert (answer.code, answer.err) == (0, "")
    assert "left to run" in answer.out


@pytest.mark.skipif(local_devices()[1] > 0, reason="this machine has a GPU")
def test_a_study_that_needs_gpus_is_planned_where_there_are_none(transvae, tmp_path):
    file = Path(__file__).parents[2] / "studies" / "figure5_scaling.yaml"
    answer = transvae("study", "plan", file, "--home", tmp_path / "runs")
    assert answer.code == 0
    assert "planned for as many elsewhere as the largest trial takes, 8; --gpus N" in answer.err
    assert "20 trials, 20 left to run" in answer.out


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_plan_shows_every_trial_and_writes_nothing(transvae, study_file, tmp_path, monkeypatch):
    monkeypatch.setattr(schedule.ray, "init", lambda *a, **k: pytest.fail("started Ray"))
    before = everything(tmp_path)
    answer = transvae("study", "plan", study_file, "--home", tmp_path / "runs")
    assert (answer.code, answer.err) == (0, "")
    for text in ("transvae-T", "vit-T", "tiny: Does it load?", "2 trials, 2 left to run", "1 x cpu", "queued"):
        assert text in answer.out
    assert everything(tmp_path) == before


def test_plan_takes_the_times_that_a_tracking_server_knows(transvae, study_file, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trial = prepare_elsewhere(load_study(study_file), tmp_path).trials[0]
    metric = {"key": METRIC, "value": 7.0, "timestamp": 1, "step": 0}
    tags = [{"key": "rate", "value": rate_key(trial)}, {"key": "device", "value": "another's"}]
    known = {
        "/api/2.0/mlflow/experiments/get-by-name": (200, {"experiment": {"experiment_id": "1"}}),
        "/api/2.0/mlflow/runs/search": (200, {"runs": [{"data": {"metrics": [metric], "tags": tags}}]}),
    }
    monkeypatch.setattr(rates, "ANSWER_SECONDS", 60.0)  # a busy machine has time
    with answering(known) as (uri, _):
        plan = ("study", "plan", study_file, "--home", tmp_path / "runs", "--tracking-uri", uri)
        answer = transvae(*plan)
        rows = json.loads(transvae(*plan, "--json").out)["trials"]
    assert (answer.code, answer.err) == (0, "")
    assert "times without ~ were measured on another's, 1 of them by other homes" in answer.out
    told = [(row["measured_on"], row["seconds"]) for row in rows if row["told_by_tracking"]]
    assert told == [("another's", 7.0 * trial.recipe.steps + START_SECONDS["cpu"])]


def test_plan_document_has_the_counted_numbers(transvae, study_file, tmp_path):
    answer = transvae("study", "plan", study_file, "recipe.steps=50", "--home", tmp_path / "runs", "--json")
    document = json.loads(answer.out)
    assert document["schema_version"] == 1
    rows = {row["model"]: row for row in document["trials"]}
    assert set(rows) == {"transvae-micro-T/f8d8", "vit-micro-T/f8d8"}
    for name, row in rows.items():
        cost = count_model(name, 32)
        assert (row["parameters"], row["steps"]) == (cost.parameters, 50)
        assert row["training_flops"] == cost.training_flops * 50 * 4
    assert document["disk_bytes"] == sum(row["disk_bytes"] for row in rows.values())


def test_status_and_plan_know_what_was_submitted(transvae, study_file, submitted):
    before = everything(submitted)
    answer = transvae("study", "status", "tiny", "--home", submitted)
    assert answer.code == 0
    for text in ("running", "20/40", "17.50", "failed", "out of [memory]"):
        assert text in answer.out
    document = json.loads(transvae("study", "status", study_file, "--home", submitted, "--json").out)
    states = {row["trial"].split("-")[0]: row for row in document["trials"]}
    assert (states["vit"]["state"], states["vit"]["reason"]) == ("failed", "out of [memory]")
    assert (states["transvae"]["state"], states["transvae"]["step"]) == ("running", 20)
    assert states["transvae"]["metrics"] == {"val/psnr": 17.5}
    assert everything(submitted) == before


def test_status_says_who_runs_the_study_and_what_is_wrong(transvae, submitted, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    folder = submitted / "studies" / "tiny"
    running = next(trial for trial in StudyState(folder).trials.values() if trial.state == "running")
    journal = Journal(running.folder / "journal.jsonl", steady=lambda: time.monotonic() + 60)
    journal.append("step", step=30, images=120, flops=1.0, metrics={"train/loss": 1.0}, seconds_per_step=2.0)
    journal.append("preempted", step=20)
    journal.append("alarm", message="no space left for checkpoints")
    document = json.loads(transvae("study", "status", "tiny", "--home", submitted, "--json").out)
    row = next(row for row in document["trials"] if row["state"] == "running")
    assert (row["preemptions"], row["alarm"]) == (1, "no space left for checkpoints")
    assert (document["lease"], document["seconds_left"], row["seconds_left"]) == (None, None, None)
    assert "no process runs this study" in transvae("study", "status", "tiny", "--home", submitted).out

    with wait_for_lease(folder, pytest.fail):
        document = json.loads(transvae("study", "status", "tiny", "--home", submitted, "--json").out)
        assert (document["lease"]["pid"], document["lease"]["beats"]) == (os.getpid(), True)
        row = next(row for row in document["trials"] if row["state"] == "running")
        assert 20 <= row["seconds_left"] == document["seconds_left"] < 30  # ten of forty steps, thirty took a minute
        out = transvae("study", "status", "tiny", "--home", submitted).out
        assert f"process {os.getpid()} on " in out
        assert "no space left for checkpoints" in out
        write = lease.Lease._write
        monkeypatch.setattr(lease.Lease, "_write", lambda self: None)  # it stands still from now on
        document = json.loads(transvae("study", "status", "tiny", "--home", submitted, "--json").out)
        assert (document["lease"]["alive"], document["lease"]["beats"]) == (True, False)
        assert document["seconds_left"] >= 20
        assert (
            "its counter stands still: is the home full?"
            in transvae("study", "status", "tiny", "--home", submitted).out
        )
    monkeypatch.setattr(lease.Lease, "_write", write)
    held = lease.Candidate(folder).attempt()
    held._end.set()
    held._thread.join()
    held._file.close()  # a holder on another node was killed
    document = json.loads(transvae("study", "status", "tiny", "--home", submitted, "--json").out)
    assert (document["lease"]["alive"], document["seconds_left"]) == (False, None)
    assert "shows no life" in transvae("study", "status", "tiny", "--home", submitted).out


def test_status_shows_why_attempts_failed(transvae, submitted):
    folder = next(submitted.glob("studies/tiny/trials/vit-*"))
    journal = Journal(folder / "journal.jsonl")
    for number in (1, 2):
        journal.append("attempt_failed", reason=f"OSError: {number}", charged=True, attempt=number, of=3, died=False)
    document = json.loads(transvae("study", "status", "tiny", "--home", submitted, "--json").out)
    (row,) = [row for row in document["trials"] if row["trial"].startswith("vit-")]
    assert [failure["attempt"] for failure in row["failed_attempts"]] == [1, 2]
    said = "".join(transvae("study", "status", "tiny", "--home", submitted).out.split())
    assert "attempt2of3failed:OSError:2" in said


def test_status_shows_what_a_running_trial_survives(transvae, submitted):
    state = StudyState(submitted / "studies" / "tiny")
    (running,) = state.in_state("running")
    journal = Journal(running.folder / "journal.jsonl")
    journal.append("alarm", step=20, message="disk [full]; training goes on")
    journal.close()
    answer = transvae("study", "status", "tiny", "--home", submitted)
    assert "disk [full]; training goes on" in " ".join(answer.out.split())
    document = json.loads(transvae("study", "status", "tiny", "--home", submitted, "--json").out)
    alarms = [row["alarm"] for row in document["trials"] if row["state"] == "running"]
    assert alarms == ["disk [full]; training goes on"]


def test_schema_is_printed_as_a_document(transvae):
    answer = transvae("study", "schema")
    assert answer.out == study_schema()
    assert json.loads(answer.out)["title"] == "StudySpec"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "plan", "{folder}/tini.yaml"], "no such study file - did you mean {folder}/tiny.yaml?"),
        (["study", "plan", "{file}", "recipe.stepz=3"], "recipe.stepz: unknown key - did you mean 'steps'?"),
        (["study", "submit", "{file}", "recipe.stepz=3"], "recipe.stepz: unknown key - did you mean 'steps'?"),
        (["study", "submit", "{file}", "resources.device=gpu"], "asks for 1 GPU, but this machine has 0"),
        (
            ["study", "plan", "{file}", "grid.families.cnn=[giant_printed]"],
            "the sizes of cnn-micro at f8d8 are T, B, L",
        ),
        (
            ["study", "plan", "{file}", "data.source=folder", "data.path={folder}/nowhere"],
            "{folder}/nowhere does not exist",
        ),
        (
            ["study", "plan", "{file}", "recipe.batch_size=64"],
            "13 training samples are fewer than one batch of 64",
        ),
        (
            ["study", "plan", "{file}", "data.holdout=[cofee]"],
            "no image is named 'cofee' - did you mean 'coffee'?",
        ),
        (["study", "status", "tinny", "--home", "{home}"], "holds no study 'tinny' - it has: tiny"),
        (["study", "report", "tinny", "--home", "{home}"], "holds no study 'tinny' - it has: tiny"),
        (["study", "resume", "tinny", "--home", "{home}"], "holds no study 'tinny' - it has: tiny"),
        (["study", "stop", "tinny", "--home", "{home}"], "holds no study 'tinny' - it has: tiny"),
        (["study", "logs", "tiny"], "--address: only jobs of a cluster have logs"),
        (["study", "status", "tiny", "--address", "http://127.0.0.1:9"], "--home: runs is relative"),
        (["study", "status", "tiny", "--home", "{folder}/elsewhere"], "holds no study 'tiny' - it has: none yet"),
        (["dashboard", "--home", "{home}", "--host", "0.0.0.0", "--no-open"], "ssh -N -L 8321:127.0.0.1:8321"),
    ],
)
def test_what_the_user_can_mend_is_one_message_and_exit_code_2(
    transvae, study_file, submitted, tmp_path, arguments, message, monkeypatch
):
    for module in (planning, submit):
        monkeypatch.setattr(module, "local_devices", lambda: (2, 0))
    names = {"file": study_file, "folder": tmp_path, "home": submitted}
    answer = transvae(*(argument.format(**names) for argument in arguments))
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert message.format(**names) in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "elsewhere").exists()


def test_home_that_cannot_be_written_is_exit_code_4(transvae, study_file, tmp_path):
    (tmp_path / "file").write_text("")
    answer = transvae("study", "submit", study_file, "--home", tmp_path / "file" / "runs")
    assert answer.code == 4
    assert f"error: --home: {tmp_path}/file/runs cannot be written" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "file:///tmp/x", "nonsense://x"])
def test_tracking_server_that_cannot_be_reached_is_exit_code_4(transvae, study_file, tmp_path, monkeypatch, uri):
    monkeypatch.setattr(submit, "ray_session", lambda address: pytest.fail("started Ray"))
    for module in (planning, submit):
        monkeypatch.setattr(module, "local_devices", lambda: (2, 0))
    for command in (
        ["study", "submit", study_file, "--home", tmp_path / "runs", "--tracking-uri", uri],
        ["registry", "list", "--home", tmp_path / "runs", "--tracking-uri", uri],
    ):
        answer = transvae(*command)
        assert answer.code == 4
        assert "error: tracking: " in answer.err
        assert uri in answer.err
        assert "Traceback" not in answer.err


def test_interrupt_says_how_to_go_on(transvae, study_file, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(planning, "prepare", interrupted)
    answer = transvae("study", "plan", study_file)
    assert answer.code == 130
    assert answer.err == "interrupted - the same command continues where this one stopped\n"


def test_wrong_usage_is_exit_code_2(transvae):
    assert transvae("study", "plann").code == 2
    assert transvae("study", "plan").code == 2


def fingerprint(state):
    (trial, *_) = state.trials.values()
    return trial.trial.data_fingerprint


def test_changed_study_under_the_same_name_is_refused_field_by_field(study_file, submitted):
    state = StudyState(submitted / "studies" / "tiny")
    refuse_changed_study(state, load_study(study_file), fingerprint(state))
    changed = load_study(
        study_file, ("recipe.learning_rate=0.5", "grid.families.cnn=[B]", "recipe.overrides.vit-*.steps=9")
    )
    with pytest.raises(SpecError) as caught:
        refuse_changed_study(state, changed, fingerprint(state))
    first, *fields, last = str(caught.value).splitlines()
    assert first.startswith("study 'tiny' exists in ")
    assert [field.strip().split(":")[0] for field in fields] == [
        "grid.families.cnn", "recipe.learning_rate", "recipe.overrides.vit-*",
    ]  # fmt: skip
    assert fields[1].strip() == "recipe.learning_rate: 0.001 -> 0.5"
    assert "give the changed study a new name" in last


def test_other_resources_are_no_other_study(study_file, submitted):
    state = StudyState(submitted / "studies" / "tiny")
    moved = load_study(
        study_file, ("resources.workers=2", "resources.checkpoints=s3://bucket/place", "evaluation.keep_best=2")
    )
    refuse_changed_study(state, moved, fingerprint(state))


def test_other_photographs_are_another_study(study_file, submitted):
    state = StudyState(submitted / "studies" / "tiny")
    with pytest.raises(SpecError, match=f"the images: fingerprint {fingerprint(state)} -> other"):
        refuse_changed_study(state, load_study(study_file), "other")


def test_first_submission_has_nothing_to_differ_from(study_file, tmp_path):
    refuse_changed_study(StudyState(tmp_path / "none"), load_study(study_file), "any")
