"""MLflow holds what the journals hold: every point once, whatever was killed, repeated or unreachable in between."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow.entities import Metric, ViewType
from mlflow.exceptions import MlflowException

from transvae_platform.study.journal import read_journal
from transvae_platform.study.record import line_of
from transvae_platform.tracking import runs
from transvae_platform.tracking.runs import Tracker, log_page


class Flaky:
    """A server that answers only as often as it is told to; every call beyond raises."""

    def __init__(self, server, answers=10**9):
        self.server, self.uri, self.answers = server, server.uri, answers

        self.after = lambda name: None

    def client(self):
        return self

    def __getattr__(self, name):
        attribute = getattr(self.server.client(), name)
        if not callable(attribute):
            return attribute

        def call(*arguments, **options):
            if self.answers <= 0:
                raise MlflowException("connection refused")
            self.answers -= 1
            answer = attribute(*arguments, **options)
            self.after(name)
            return answer

        return call


def expected(state, trial):
    """What the journal says of a trial, as `points` gives it."""
    found = {}
    known = state.trials[trial.id]
    for records in (known.train, known.validation):
        for step, record in records.items():
            values = {**record["metrics"], "images": record["images"], "training_flops": record["flops"]}
            for key, value in values.items():
                if value is not None:
                    found.setdefault(key, {})[step] = value
    return {key: sorted(values.items()) for key, values in found.items()}


def superseded(client, tracker):
    """Runs that hold what the journal does not, in MLflow's trash."""
    found = client.search_runs([tracker.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert all(run.data.tags["superseded"] for run in found)
    return [run.info.run_id for run in found]


def follow(tracker, state):
    tracker.take(state.refresh())
    return tracker.send(now=True)


def test_run_holds_the_journal(client, server, study, points):
    trial = study.trials[0]
    study.train(trial, 20.0)
    state = study.state()
    tracker = Tracker(server, state, study.home)
    assert tracker.send(now=True)
    run = client.get_run(tracker.run_id(state.trials[trial.id]))
    assert points(run.info.run_id) == expected(state, trial)
    assert run.info.status == "FINISHED"
    assert run.info.end_time == int(study.now * 1000)
    assert run.info.run_name == trial.id
    tags = run.data.tags
    assert (tags["trial_id"], tags["family"], tags["size"], tags["seed"]) == (trial.id, "vit", "T", "0")
    assert (tags["device"], tags["lineage.code"], tags["trial.state"]) == ("cpu", "0.1.0+gaaaa", "finished")
    assert tags["mlflow.parentRunId"] == tracker.study_run
    assert [file.path for file in client.list_artifacts(run.info.run_id, "pictures")] == ["pictures/step_40.png"]


def test_parameters_say_what_was_trained(client, server, study):
    study.start(study.trials[1])
    state = study.state()
    tracker = Tracker(server, state, study.home)
    tracker.send(now=True)
    params = client.get_run(tracker.run_id(state.trials[study.trials[1].id])).data.params
    assert params["model"] == "vit-micro-T/f8d8"
    assert params["recipe.learning_rate"] == "0.001"
    assert params["recipe.losses.kl"] == "1e-08"
    assert params["model.encoder.position"] == "rope"
    assert params["data_fingerprint"] == "d" * 16
    assert int(float(params["cost.parameters"])) == state.trials[study.trials[1].id].cost["parameters"]


def test_one_experiment_per_study_and_one_run_per_trial(client, server, study):
    for trial in study.trials:
        study.start(trial)
    first = Tracker(server, study.state(), study.home)
    first.send(now=True)
    for trial in study.trials:
        study.step(trial, 10)
    second = Tracker(server, study.state(), study.home)
    second.send(now=True)
    assert first.experiment_id == second.experiment_id
    assert first.study_run == second.study_run
    assert len(client.search_runs([first.experiment_id])) == 1 + len(study.trials)
    assert client.get_experiment(first.experiment_id).name == study.spec.study


def test_repeated_steps_after_a_resume_are_there_once(client, server, study, points):
    trial = study.trials[0]
    study.start(trial)
    for step in (10, 20):
        study.step(trial, step)
    study.validate(trial, 20, 17.0)
    study.step(trial, 30)
    state = study.state()
    tracker = Tracker(server, state, study.home)
    follow(tracker, state)
    study.start(trial, resumed_from=20)
    for step in (30, 40):
        study.step(trial, step)
    follow(tracker, state)
    study.validate(trial, 40, 18.0)
    study.finish(trial)
    follow(tracker, state)
    run_id = tracker.run_id(state.trials[trial.id])
    assert points(run_id) == expected(state, trial)
    # a later submission goes through the whole journal and adds nothing
    again = Tracker(server, study.state(), study.home)
    ended = client.get_run(run_id).info.end_time
    assert again.send(now=True)
    assert points(run_id) == expected(state, trial)
    assert client.get_run(run_id).info.end_time == ended
    assert len(client.list_artifacts(run_id, "pictures")) == 2


def test_validation_that_follows_a_sent_step_is_not_lost(client, server, study, points):
    # the training record of a step is written seconds before the validation of the same step
    trial = study.trials[0]
    study.start(trial)
    study.step(trial, 20)
    state = study.state()
    tracker = Tracker(server, state, study.home)
    follow(tracker, state)
    study.validate(trial, 20, 17.0)
    follow(tracker, state)
    found = points(tracker.run_id(state.trials[trial.id]))
    assert found["val/psnr"] == [(20, 17.0)]
    assert found == expected(state, trial)


def test_missing_values_are_left_out(client, server, study, points):
    trial = study.trials[0]
    study.start(trial)
    study.step(trial, 10, loss=float("nan"), norm=2.0)
    state = study.state()
    tracker = Tracker(server, state, study.home)
    follow(tracker, state)
    found = points(tracker.run_id(state.trials[trial.id]))
    assert found["train/norm"] == [(10, 2.0)]
    assert "train/loss" not in found


@pytest.mark.parametrize("answers", range(0, 22, 3))
def test_outage_at_any_call_loses_nothing(client, server, study, points, answers, monkeypatch):
    monkeypatch.setattr(runs, "METRICS_PER_CALL", 4)  # several calls per trial
    state = study.state()
    flaky = Flaky(server)
    tracker = Tracker(flaky, state, study.home)
    for trial in study.trials:
        study.train(trial, 20.0)
    flaky.answers = answers
    assert not follow(tracker, state)
    assert tracker.problem.startswith("MLflow does not answer, ")
    assert "connection refused" in tracker.problem
    study.own[study.trials[0].id].append("queued")  # the journal goes on meanwhile
    assert not follow(tracker, state)
    flaky.answers = 10**9
    assert follow(tracker, state)
    assert tracker.problem is None
    for trial in study.trials:
        assert points(tracker.run_id(state.trials[trial.id])) == expected(state, trial)
    assert len(client.search_runs([tracker.experiment_id])) == 1 + len(study.trials)


def test_outage_to_the_end_is_made_good_by_the_next_submission(client, server, study, points):
    state = study.state()
    flaky = Flaky(server)
    tracker = Tracker(flaky, state, study.home)
    trial = study.trials[0]
    study.start(trial)
    study.step(trial, 10)
    follow(tracker, state)
    flaky.answers = 0
    study.step(trial, 20)
    study.validate(trial, 20, 17.0)
    study.finish(trial)
    assert not follow(tracker, state)
    later = study.state()
    again = Tracker(server, later, study.home)
    assert again.send(now=True)
    assert points(again.run_id(later.trials[trial.id])) == expected(later, trial)


def test_sending_waits_its_time_unless_told(client, server, study):
    state = study.state()
    tracker = Tracker(server, state, study.home)
    assert tracker.send(now=True)
    study.start(study.trials[0])
    tracker.take(state.refresh())
    assert not tracker.send()
    assert tracker.problem is None
    assert tracker.send(now=True)


def test_failed_trial_is_a_failed_run_with_its_reason(client, server, study):
    trial = study.trials[0]
    study.start(trial)
    study.own[trial.id].append("failed", reason="the training loss is not finite")
    state = study.state()
    tracker = Tracker(server, state, study.home)
    tracker.send(now=True)
    run = client.get_run(tracker.run_id(state.trials[trial.id]))
    assert (run.info.status, run.data.tags["trial.reason"]) == ("FAILED", "the training loss is not finite")
    study.own[trial.id].append("queued")
    study.start(trial)
    follow(tracker, state)
    run = client.get_run(run.info.run_id)
    assert (run.info.status, run.data.tags["trial.reason"]) == ("RUNNING", "")


def test_the_page_is_attached_to_the_run_of_the_study(client, server, study, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<html>")
    log_page(server.uri, study.home, study.state(), page)
    tracker = Tracker(server, study.state(), study.home)
    assert [file.path for file in client.list_artifacts(tracker.study_run)] == ["report.html"]
    assert client.get_run(tracker.study_run).info.status == "FINISHED"


def test_a_batch_that_was_carried_out_without_an_answer_is_not_sent_again(client, server, study, points):
    trial, state = study.trials[0], study.state()
    flaky = Flaky(server)
    tracker = Tracker(flaky, state, study.home)
    study.start(trial)
    study.step(trial, 10)
    assert follow(tracker, state)

    def lost(name):
        if name == "log_batch":
            raise MlflowException("read timed out")

    flaky.after = lost
    study.step(trial, 20)
    assert not follow(tracker, state)
    flaky.after = lambda name: None
    study.start(trial, resumed_from=10)  # the step is taken again, at another time, before the server is back
    study.step(trial, 20)
    study.step(trial, 30)
    assert follow(tracker, state)
    assert points(tracker.run_id(state.trials[trial.id])) == expected(state, trial)
    assert not superseded(client, tracker)


def test_gaps_of_a_half_committed_batch_are_filled(client, server, study, points):
    trial, state = study.trials[0], study.state()
    study.start(trial)
    study.step(trial, 10)
    tracker = Tracker(server, state, study.home)
    assert follow(tracker, state)
    run_id = tracker.run_id(state.trials[trial.id])
    study.step(trial, 20)
    study.step(trial, 30)
    client.log_metric(run_id, "train/loss", 1 / 30, int(study.now * 1000), 30)  # step 20 is missing below it
    later = study.state()
    again = Tracker(server, later, study.home)
    assert again.send(now=True)
    assert points(run_id) == expected(later, trial)


def test_a_step_taken_again_with_another_value_wins(client, server, study, points):
    trial, state = study.trials[0], study.state()
    tracker = Tracker(server, state, study.home)
    study.start(trial)
    study.validate(trial, 20, 17.0)
    study.step(trial, 30, loss=9.0)
    assert follow(tracker, state)
    before = tracker.run_id(state.trials[trial.id])
    study.own[trial.id].append("rewound", **{"from": 35}, to=20, rewinds=1, reason="a spike")
    assert follow(tracker, state)
    assert tracker.run_id(state.trials[trial.id]) == before, "nothing contradicts yet"
    study.step(trial, 30, loss=0.5)
    assert follow(tracker, state)
    after = tracker.run_id(state.trials[trial.id])
    assert superseded(client, tracker) == [before]
    assert points(after) == expected(state, trial)
    assert points(after)["train/loss"] == [(30, 0.5)]
    assert points(before)["train/loss"] == [(30, 9.0)], "the old points can still be looked at"
    tags = client.get_run(after).data.tags
    assert (tags["trial.rewinds"], client.get_run(before).data.tags["superseded"]) == (
        "1", "it held another train/loss at step 30 than the journal"
    )  # fmt: skip
    assert [file.path for file in client.list_artifacts(after, "pictures")] == ["pictures/step_20.png"]


def test_steps_that_were_taken_back_are_gone_when_the_trial_has_ended(client, server, study, points):
    trial, state = study.trials[0], study.state()
    tracker = Tracker(server, state, study.home)
    study.start(trial)
    study.validate(trial, 20, 17.0)
    study.step(trial, 30, loss=9.0)
    assert follow(tracker, state)
    study.own[trial.id].append("rewound", **{"from": 35}, to=20, rewinds=1, reason="a spike")
    study.own[trial.id].append("failed", reason="no better")
    assert follow(tracker, state)
    run_id = tracker.run_id(state.trials[trial.id])
    assert points(run_id) == expected(state, trial)
    assert "train/loss" not in points(run_id)


def test_points_that_arrive_late_are_found_when_the_trial_ends(client, server, study, points):
    trial, state = study.trials[0], study.state()
    tracker = Tracker(server, state, study.home)
    study.start(trial)
    study.step(trial, 10)
    assert follow(tracker, state)
    late = tracker.run_id(state.trials[trial.id])
    client.log_batch(late, metrics=[Metric("train/loss", 0.1, 1, 10)])  # a request that the server had kept waiting
    study.validate(trial, 40, 18.0)
    study.finish(trial)
    assert follow(tracker, state)
    run_id = tracker.run_id(state.trials[trial.id])
    assert superseded(client, tracker) == [late]
    assert points(run_id) == expected(state, trial)


def test_a_server_that_changes_what_it_is_given_is_told_not_fought(client, server, study, monkeypatch):
    trial, state = study.trials[0], study.state()
    tracker = Tracker(server, state, study.home)
    study.train(trial, 18.0)
    monkeypatch.setattr(runs.points, "held", lambda client, run_id: {("train/loss", 10): 0.25})
    for _ in range(6):
        assert not follow(tracker, state)
    assert "is not kept as it was sent" in tracker.problem
    assert len(superseded(client, tracker)) == runs.MOST_REMADE


def test_an_ended_trial_is_compared_once(client, server, study):
    for trial in study.trials:
        study.train(trial, 20.0)
    assert Tracker(server, study.state(), study.home).send(now=True)
    asked = []
    flaky = Flaky(server)
    flaky.after = asked.append
    assert Tracker(flaky, study.state(), study.home).send(now=True)
    assert "get_metric_history" not in asked
    assert "log_batch" not in asked


def test_studies_of_one_name_do_not_share_runs(client, server, study, points, tmp_path):
    other = type(study)(tmp_path, study.spec.study)
    other.now += 1e6
    study.start(study.trials[0])
    study.step(study.trials[0], 10, loss=1.0)
    other.journal.append("queued", trial=other.trials[0].model_dump(mode="json"), cost={})
    records = read_journal(other.folder / "journal.jsonl")
    records[0]["tracking"] = "http://elsewhere:5000"
    (other.folder / "journal.jsonl").write_bytes(b"".join(map(line_of, records)))
    other.start(other.trials[0])
    other.step(other.trials[0], 10, loss=2.0)
    found = []
    for one in (study, other):
        state = one.state()
        tracker = Tracker(server, state, one.home)
        assert tracker.send(now=True)
        found.append(tracker.run_id(state.trials[one.trials[0].id]))
    assert [points(run_id)["train/loss"] for run_id in found] == [[(10, 1.0)], [(10, 2.0)]]
    assert not superseded(client, tracker)


def test_a_server_that_hangs_holds_nobody_up(server, study):
    trial, state = study.trials[0], study.state()
    flaky, back = Flaky(server), threading.Event()
    flaky.after = lambda name: back.wait(60)
    tracker = Tracker(flaky, state, study.home)
    study.start(trial)
    tracker.take(state.refresh())
    began = time.monotonic()
    for _ in range(3):
        assert not tracker.send()
        study.step(trial, 10)
        tracker.take(state.refresh())
    assert time.monotonic() - began < 5  # the server's answer takes a minute
    back.set()
    assert tracker.send(now=True)


@pytest.mark.parametrize(
    ("verb", "without"),
    [
        ("status", "sys.modules['mlflow'] = None\n"),  # importing it raises
        ("report", ""),  # it asks for the registry's part
    ],
)
def test_looking_at_a_study_never_sends(client, study, verb, without):
    study.train(study.trials[0], 20.0)
    before = {experiment.name for experiment in client.search_experiments()}
    assert study.spec.study not in before
    program = (
        f"import sys\n{without}"
        "from transvae_platform.cli.main import main\n"
        f"sys.argv = ['transvae', 'study', {verb!r}, {study.spec.study!r}, '--home', {str(study.home)!r}]\n"
        "main()"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {experiment.name for experiment in client.search_experiments()} == before


def test_study_file_and_lineage_are_artifacts_of_the_study(client, server, study):
    (study.folder / "lineage" / "abc.diff").write_text("--- a\n+++ b\n")
    tracker = Tracker(server, study.state(), study.home)
    assert tracker.send(now=True)
    assert Tracker(server, study.state(), study.home).send(now=True)
    names = {file.path for file in client.list_artifacts(tracker.study_run, "lineage")}
    assert names == {"lineage/abc.diff", f"lineage/{study.lineage['environment']}.txt"}
    assert (
        f'"study": "{study.spec.study}"' in Path(client.download_artifacts(tracker.study_run, "study.json")).read_text()
    )
