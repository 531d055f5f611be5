"""`transvae doctor` finds what was broken on purpose, names the way out and changes nothing."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from transvae_platform.cluster.doctor import data, machine
from transvae_platform.cluster.doctor import home as home_module
from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.study import lease
from transvae_platform.study.journal import Journal
from transvae_platform.study.lease import Candidate, wait_for_lease
from transvae_platform.study.load import load_study
from transvae_platform.study.state import StudyState
from transvae_platform.tracking.runs import Tracker
from transvae_platform.tracking.server import Server, connect
from transvae_platform.training import checkpoint
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.ranks import Ranks
from transvae_platform.training.saver import save_checkpoint


@dataclass
class Weights:
    """A checkpoint of one small file."""

    step: int
    trial: str

    def write(self, folder, ranks):
        (folder / "state.json").write_text(json.dumps({"step": self.step, "trial": self.trial}))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(machine, "code", lambda: SimpleNamespace(name="a"))


@pytest.fixture
def diagnose(transvae):
    """Run the doctor; returns (exit code, the findings that are not ok as {check: [what and way out]})."""

    def run(*arguments):
        answer = transvae("doctor", *arguments, "--json")
        found: dict[str, list[str]] = {}
        for finding in json.loads(answer.out)["findings"]:
            if finding["verdict"] != "ok":
                text = f"{finding['verdict']}: {finding['what']} - {finding['way_out']}"
                found.setdefault(finding["check"], []).append(text)
        return answer.code, found

    return run


@pytest.fixture
def healthy(submitted):
    """The submitted study with both trials at their end and a checkpoint each."""
    for trial in StudyState(submitted / "studies" / "tiny").trials.values():
        journal = Journal(trial.folder / "journal.jsonl")
        store = CheckpointStore(trial.folder / "checkpoints", keep=3)
        journal.append("queued")
        journal.append("started", step=0, resumed_from=0, world=1, device="cpu", attention="", lineage={"code": "a"})
        for step in (20, 40):
            save_checkpoint(store, Weights(step, trial.trial.id), Ranks())
            journal.append("validated", step=step, images=80, flops=1.0, metrics={"val/psnr": 17.5})
            journal.append("checkpoint", step=step, sha256="", best_step=20)
        journal.append("finished", step=40, metrics={})
        journal.close()
    return submitted


@pytest.fixture
def trials(healthy):
    return list(StudyState(healthy / "studies" / "tiny").trials.values())


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_nothing_is_wrong_and_nothing_is_changed(transvae, diagnose, healthy):
    before = everything(healthy)
    assert diagnose("tiny", "--home", healthy) == (0, {})
    answer = transvae("doctor", "tiny", "--home", healthy)
    assert answer.code == 0
    for line in ("ok    lease", "ok    checkpoints  4 equal their manifests", "ok    trials       2 finished"):
        assert line in answer.out
    changed = {path for path, at in everything(healthy).items() if before.get(path) != at}
    assert changed <= {healthy}, "a probe came and went in the home itself"


def test_home_that_is_not_there(diagnose, tmp_path):
    code, found = diagnose("--home", tmp_path / "none")
    assert code == 1
    assert "is no folder - give --home" in found["home"][0]
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_home_that_cannot_be_written(diagnose, tmp_path):
    tmp_path.chmod(0o500)
    code, found = diagnose("--home", tmp_path)
    tmp_path.chmod(0o700)
    assert code == 1
    assert "cannot be written" in found["home"][0]


def test_file_system_without_flock_is_a_warning_without_fsync_a_fault(diagnose, healthy, monkeypatch):
    monkeypatch.setattr(home_module, "_has_flock", lambda path: False)
    code, found = diagnose("--home", healthy)
    assert code == 0
    assert "has no flock" in found["home"][0]

    def unsupported(descriptor):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", unsupported)
    code, found = diagnose("--home", healthy)
    assert code == 1
    assert found["home"][1].startswith("wrong: fsync does not work")


def test_disk_too_small_for_what_is_left_to_run(diagnose, study_file, healthy, monkeypatch):
    usage = shutil.disk_usage(healthy)
    monkeypatch.setattr(home_module.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    code, found = diagnose(study_file, "--home", healthy.parent / "runs")
    assert (code, found["disk"][0].split(":")[0]) == (0, "warn")  # all is finished
    empty = healthy.parent / "empty"
    empty.mkdir()
    code, found = diagnose(study_file, "--home", empty)  # not submitted there: both trials are to be written
    assert code == 1
    assert found["disk"][0].startswith("wrong: 0.0 GB free")


def test_damaged_checkpoint_quarantine_and_leftovers(diagnose, healthy, trials):
    folder = trials[0].folder / "checkpoints"
    (folder / "step_000000040" / "state.json").write_bytes(b"{}")
    (trials[1].folder / "checkpoints" / "bad_step_000000010").mkdir()
    (trials[1].folder / "checkpoints" / ".writing_000000060").mkdir()
    (healthy / "studies" / "tiny" / "ray").mkdir()
    code, found = diagnose("tiny", "--home", healthy)
    assert code == 1
    damaged, *others = sorted(found["checkpoints"], reverse=True)
    assert damaged.startswith("wrong: ")
    assert "state.json differs from its SHA-256" in damaged
    assert "bad_step_000000010" in " ".join(others)
    assert "1 unfinished" in " ".join(others)
    assert "Ray's own files" in found["leftovers"][0]


def test_checkpoint_that_the_platform_would_reject_or_cannot_read(diagnose, healthy, trials, monkeypatch):
    for trial in trials:
        (trial.folder / "checkpoints" / "step_000000040").rename(trial.folder / "checkpoints" / "step_000000060")
    _, found = diagnose("tiny", "--home", healthy)
    assert [text.split(": ")[-1] for text in found["checkpoints"]] == [
        "state.json is that of step 40 - an older one is taken on the next start, and of the best one its second copy "
        "is registered"
    ] * 2
    for trial in trials:
        (trial.folder / "checkpoints" / "step_000000060").rename(trial.folder / "checkpoints" / "step_000000040")
        journal = Journal(trial.folder / "journal.jsonl")
        journal.append("checkpoint", step=40, sha256="another", best_step=20)
    _, found = diagnose("tiny", "--home", healthy)
    assert "not the one that the trial's journal tells of" in found["checkpoints"][0]

    def fail(folder):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoint, "READ_PAUSES", (0.0,))
    monkeypatch.setattr(checkpoint, "fault", fail)
    code, found = diagnose("tiny", "--home", healthy)
    assert code == 1
    assert "the checkpoint cannot be read (Input/output error)" in found["checkpoints"][0]


def test_second_copy_that_is_damaged_is_a_warning_until_the_trial_is_registered(diagnose, healthy, trials):
    trial = trials[0]
    store = CheckpointStore(trial.folder / "checkpoints", keep=3)
    spare = store.keep_spare(20, lambda folder: Weights(20, trial.trial.id).write(folder, Ranks()))
    Journal(trial.folder / "journal.jsonl").append("checkpoint", step=20, sha256="", best_step=20, spare=spare)
    assert diagnose("tiny", "--home", healthy) == (0, {})
    (trial.folder / "checkpoints" / "spare_000000020" / "state.json").write_text("{}")
    code, found = diagnose("tiny", "--home", healthy)
    assert code == 0
    assert "second copy of the best weights: " in found["checkpoints"][0]
    journal = Journal(healthy / "studies" / "tiny" / "journal.jsonl")
    journal.append("registered", trial=trial.trial.id, name="a", version=1, uri="models:/a/1", psnr=17.5, sha256="")
    assert "checkpoints" not in diagnose("tiny", "--home", healthy)[1]


def test_failed_trial_and_killed_submission(diagnose, submitted):
    folder = submitted / "studies" / "tiny"
    held = Candidate(folder).attempt()
    held._end.set()
    held._thread.join()
    path = folder / "lease.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "started": "1"}))  # that process is gone
    code, found = diagnose("tiny", "--home", submitted)
    assert code == 1
    assert "was killed - submit the study again" in found["lease"][0]
    assert sorted(text.split(":")[0] for text in found["trials"]) == ["warn", "wrong"]
    assert any(
        "nobody runs what is marked running or queued: tiny" in text or "transvae-T" in text for text in found["trials"]
    )
    assert any("out of [memory]" in text for text in found["trials"])
    held._file.close()


def test_living_holder_is_no_finding_and_a_stopped_one_is(diagnose, submitted):
    folder = submitted / "studies" / "tiny"
    with wait_for_lease(folder, pytest.fail):
        _, found = diagnose("tiny", "--home", submitted)
        assert "lease" not in found
        assert not any("nobody runs" in text for text in found["trials"])
    lease_held = Candidate(folder).attempt()
    lease_held._end.set()
    _, found = diagnose("tiny", "--home", submitted)
    assert f"kill -CONT {os.getpid()}" in found["lease"][0]
    lease_held.release()


def test_torn_journal(diagnose, healthy, trials):
    with (trials[0].folder / "journal.jsonl").open("a") as file:
        file.write('{"at":1,"event":"st')
    code, found = diagnose("tiny", "--home", healthy)
    assert code == 0
    assert f"last line torn: trials/{trials[0].trial.id}/journal.jsonl" in found["journal"][0]


def test_damaged_record_is_named_by_doctor_and_status(transvae, diagnose, healthy, trials):
    path = trials[0].folder / "journal.jsonl"
    lines = path.read_text().splitlines()
    number = 1 + next(n for n, line in enumerate(lines) if '"step":20' in line)
    path.write_text(path.read_text().replace('"step":20', '"step":30', 1))
    code, found = diagnose("tiny", "--home", healthy)
    assert code == 0
    assert (
        f"{path}, line {number}: records are damaged or missing, and passed over - look at the disk"
        in found["journal"][0]
    )
    shown = transvae("study", "status", "tiny", "--home", healthy).out
    assert f"{path},line{number}" in "".join(shown.split())  # wrapped anywhere, by the path
    document = json.loads(transvae("study", "status", "tiny", "--home", healthy, "--json").out)
    assert document["damaged"] == [f"{path}, line {number}"]


def test_journal_of_another_version(diagnose, healthy):
    Journal(healthy / "studies" / "tiny" / "journal.jsonl").append("queued", trial={"id": "x"}, cost={})
    code, found = diagnose("tiny", "--home", healthy)
    assert code == 1
    assert "written by another version" in found["journal"][0]


def test_data_set_with_a_damaged_shard(transvae, diagnose, healthy, study_file, monkeypatch):
    manifest = ingest(list_bundled(), load_study(study_file).data, healthy, run_locally)
    location = healthy / "data" / manifest.fingerprint
    journal = Journal(healthy / "studies" / "tiny" / "journal.jsonl")
    before = f"/before/the/home/moved/data/{manifest.fingerprint}"
    journal.append("ingested", fingerprint=manifest.fingerprint, locations=[before], skipped=[])
    assert diagnose("tiny", "--home", healthy) == (0, {})
    shard = location / manifest.shards[0].file
    shard.write_bytes(shard.read_bytes()[:-10])
    for arguments in (["tiny"], []):
        code, found = diagnose(*arguments, "--home", healthy)
        assert code == 1
        assert f"missing or of a wrong size: {shard.name}" in found["data"][0]
    shard.write_bytes(bytes(manifest.shards[0].bytes))
    assert f"is damaged: {shard.name}: its SHA-256 is" in diagnose("tiny", "--home", healthy)[1]["data"][0]
    monkeypatch.setattr(data, "READ_BYTES", 0)
    assert "verify` reads them" in transvae("doctor", "tiny", "--home", healthy).out, "it says that it did not"
    (healthy / "data" / "bad" / "0123456789abcdef").mkdir(parents=True)
    assert "set aside" in diagnose("tiny", "--home", healthy)[1]["data"][0]
    shutil.rmtree(location)
    assert "no data set" in diagnose("tiny", "--home", healthy)[1]["data"][0]


def test_points_that_mlflow_lacks(diagnose, healthy, trials):
    uri = f"sqlite:///{healthy / 'mlflow.db'}"
    connect(uri, healthy)  # makes the store
    _, found = diagnose("tiny", "--home", healthy)
    assert len(found["mlflow"]) == 2, "no trial was sent"
    tracker = Tracker(Server(uri, healthy), StudyState(healthy / "studies" / "tiny"), healthy)
    assert tracker.send(now=True), tracker.problem
    assert diagnose("tiny", "--home", healthy) == (0, {})
    journal = Journal(trials[0].folder / "journal.jsonl")
    journal.append("validated", step=40, images=80, flops=1.0, metrics={"val/psnr": 17.5, "val/l1": 1.0})
    _, found = diagnose("tiny", "--home", healthy)
    assert found["mlflow"][0].startswith(f"warn: {trials[0].trial.id}: 1 points of the journal are not in MLflow")


def test_home_that_was_moved_is_told_and_left_to_whoever_uses_it(diagnose, healthy):
    (healthy / "mlartifacts" / "tiny").mkdir(parents=True)
    with closing(sqlite3.connect(healthy / "mlflow.db")) as store, store:
        store.execute("CREATE TABLE experiments (artifact_location)")
        store.execute("INSERT INTO experiments VALUES ('file:///before/mlartifacts/tiny')")
    before = (healthy / "mlflow.db").read_bytes()
    code, found = diagnose("tiny", "--home", healthy)
    assert code == 0
    assert found["mlflow"] == [
        f"warn: {healthy} was /before when its store was used - none is needed: whoever uses it next, a submission or "
        "load_model, takes its addresses along"
    ]
    assert (healthy / "mlflow.db").read_bytes() == before


def test_mlflow_and_cluster_that_do_not_answer(diagnose, healthy, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    code, found = diagnose("tiny", "--home", healthy, "--tracking-uri", "http://127.0.0.1:9")
    assert code == 1
    assert "the MLflow server at http://127.0.0.1:9 does not answer" in found["mlflow"][0]
    assert "no Ray cluster answers at 127.0.0.1:9" in found["cluster"][0]


def test_other_versions_than_the_study_ran_under(diagnose, healthy):
    journal = Journal(healthy / "studies" / "tiny" / "journal.jsonl")
    spec = StudyState(healthy / "studies" / "tiny").spec
    journal.append("submitted", spec=spec, lineage={"code": "b", "torch": "1.0"})
    code, found = diagnose("tiny", "--home", healthy)
    assert code == 0
    assert "torch 1.0 -> " in found["machine"][0]
    assert "code b -> a" in found["machine"][0]


def test_unknown_study_is_a_wrong_argument(transvae, healthy):
    answer = transvae("doctor", "tinny", "--home", healthy)
    assert answer.code == 2
    assert "holds no study 'tinny' - it has: tiny" in answer.err
