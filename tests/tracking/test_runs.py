"""MLflow holds what the journals hold: every point once, whatever was killed, repeated or unreachable in between."""

import pytest
from mlflow.exceptions import MlflowException

from transvae_platform.errors import UnreachableError
from transvae_platform.tracking import runs
from transvae_platform.tracking.runs import Tracker, log_page
from transvae_platform.tracking.server import connect, default_tracking_uri, existing_tracking_uri, reach


class Flaky:
    """A server that answers only as often as it is told to; every call beyond raises."""

    def __init__(self, server, answers=10**9):
        self.server, self.uri, self.answers = server, server.uri, answers

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
            return attribute(*arguments, **options)

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
    with pytest.raises(UnreachableError, match="does not answer"):
        connect(f"sqlite:///{tmp_path / 'notes.db'}", tmp_path)


def test_default_store_lies_in_the_home(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert default_tracking_uri(tmp_path) == "http://tracking:5000"
