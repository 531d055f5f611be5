"""What trials measured travels from home to home through the tracking server, and no plan waits for a server."""

import time

import pytest
from mlflow.entities import ViewType
from tests.faults.mlflow_server import Mlflow, wait_for
from tests.tracking.played import answering

from transvae_platform.study.folders import artifacts_of
from transvae_platform.study.rates import Rate, rate_key
from transvae_platform.tracking.rates import EXPERIMENT, METRIC, Asked, RateRuns
from transvae_platform.tracking.runs import Tracker


def pages(client, device):
    """What a server over the client's store would answer, if it knew that device alone."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id], f"tags.device = '{device}'")
    found = {"experiment": {"experiment_id": experiment.experiment_id}}
    return {
        "/api/2.0/mlflow/experiments/get-by-name": (200, found),
        "/api/2.0/mlflow/runs/search": (200, {"runs": [as_json(client, run) for run in runs]}),
    }


def as_json(client, run):
    points = client.get_metric_history(run.info.run_id, METRIC)
    newest = max(points, key=lambda point: point.timestamp)
    return {
        "info": {"run_id": run.info.run_id},
        "data": {
            "metrics": [{"key": METRIC, "value": newest.value, "timestamp": newest.timestamp, "step": 0}],
            "tags": [{"key": key, "value": value} for key, value in run.data.tags.items()],
        },
    }


def kept(client, trial, device="cpu"):
    """The runs of the rates of a trial's work."""
    found = client.get_experiment_by_name(EXPERIMENT)
    asked = f"tags.rate = '{rate_key(trial)}' and tags.device = '{device}'"
    return client.search_runs([found.experiment_id], asked) if found else []


def run_whole(study, trial, seconds, device="cpu"):
    study.start(trial, device=device)
    study.now += seconds - 2  # the clock ticks with each of the two records
    study.step(trial, 40)
    study.finish(trial)


def test_a_trial_that_ended_in_one_piece_leaves_its_rate_and_another_home_finds_it(client, server, study, tmp_path):
    trial, seed = study.trials
    run_whole(study, trial, 20.0, device="NVIDIA H100")
    state = study.state()
    assert Tracker(server, state, study.home).send(now=True)
    (run,) = kept(client, trial, "NVIDIA H100")
    assert run.data.metrics == {METRIC: 0.5}
    told = run.data.tags
    assert (told["device"], told["model"], run.info.status) == ("NVIDIA H100", trial.model, "FINISHED")

    run_whole(study, seed, 8.0, device="NVIDIA H100")  # the same work: another seed
    run_again = study.state()
    assert Tracker(server, run_again, study.home).send(now=True)
    (run,) = kept(client, trial, "NVIDIA H100")
    assert run.data.metrics == {METRIC: pytest.approx(0.2)}, "the newest counts"
    with answering(pages(client, "NVIDIA H100")) as (uri, _):
        assert Asked(uri, tmp_path, 60.0).rates()[rate_key(trial)] == Rate(pytest.approx(0.2), "NVIDIA H100", told=True)


def test_a_trial_that_was_interrupted_leaves_none(client, server, study):
    trial = study.trials[0]
    before = len(kept(client, trial))
    study.start(trial)
    study.start(trial)
    study.finish(trial)
    assert Tracker(server, study.state(), study.home).send(now=True)
    assert len(kept(client, trial)) == before


def test_rates_that_were_thrown_away_are_begun_again(client, server, study):
    trial = study.trials[0]
    run_whole(study, trial, 20.0, device="A100")
    ended = study.state().trials[trial.id]
    RateRuns(server, study.home).keep(ended)
    client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    RateRuns(server, study.home).keep(ended)
    restored = client.get_experiment_by_name(EXPERIMENT)
    assert restored.lifecycle_stage == "active"
    runs = client.search_runs([restored.experiment_id], "tags.device = 'A100'", run_view_type=ViewType.ACTIVE_ONLY)
    assert len(runs) == 1
    assert len(client.get_metric_history(runs[0].info.run_id, METRIC)) == 1, "the same point twice is one"


def test_in_a_homes_own_store_the_rates_lie_where_studies_do(client, server, study):
    run_whole(study, study.trials[0], 20.0)
    RateRuns(server, study.home).keep(study.state().trials[study.trials[0].id])
    place = client.get_experiment_by_name(EXPERIMENT).artifact_location
    assert place.startswith(artifacts_of(study.home)), "so they follow a home that is moved"


KNOWN = {
    "/api/2.0/mlflow/experiments/get-by-name": (200, {"experiment": {"experiment_id": "7"}}),
    "/api/2.0/mlflow/runs/search": (
        200,
        {
            "runs": [
                {
                    "data": {
                        "metrics": [{"key": METRIC, "value": value, "timestamp": at, "step": "0"}],
                        "tags": [{"key": "rate", "value": "k"}, {"key": "device", "value": device}],
                    }
                }
                for value, at, device in ((0.5, "1000", "A100"), (0.25, "3000", "H100"), (9.0, "2000", "V100"))
            ]
        },
    ),
}
ANSWER = {"k": Rate(0.25, "H100", told=True)}


def test_the_device_that_measured_last_counts_and_the_password_is_not_repeated(tmp_path):
    with answering(KNOWN) as (uri, asked):
        found = Asked(uri.replace("//", "//me:se%2Fcret@"), tmp_path, 60.0)
        assert found.rates() == ANSWER
    assert {headers["Authorization"] for _, headers in asked} == {"Basic bWU6c2UvY3JldA=="}  # me:se/cret
    silent = Asked(uri.replace("//", "//me:se%2Fcret@"), tmp_path, 60.0)
    assert silent.rates() == ANSWER, "kept"
    assert "cret" not in silent.problem
    assert "what it last said counts" in silent.problem


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"/api/2.0/mlflow/experiments/get-by-name": (401, "")}, "Unauthorized"),
        ({"/api/2.0/mlflow/experiments/get-by-name": (200, "<html>")}, "none of MLflow's"),
        ({"/api/2.0/mlflow/experiments/get-by-name": (200, {"experiment": 7})}, "none of MLflow's"),
    ],
)
def test_an_answer_that_is_of_no_use_is_told_and_costs_nothing_else(given, said, tmp_path):
    with answering(given) as (uri, _):
        found = Asked(uri, tmp_path, 60.0)
        assert found.rates() == {}
    assert said in found.problem


def test_a_server_without_rates_is_no_problem(tmp_path):
    nothing = {"/api/2.0/mlflow/experiments/get-by-name": (404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})}
    with answering(nothing) as (uri, _):
        found = Asked(uri, tmp_path, 60.0)
        assert (found.rates(), found.problem) == ({}, None)


def test_a_server_that_does_not_answer_is_not_waited_for(tmp_path):
    with answering(KNOWN) as (uri, _):
        assert Asked(uri, tmp_path, 60.0).rates() == ANSWER
    with answering(KNOWN, seconds=30.0) as (slow, _):
        start = time.monotonic()
        found = Asked(slow, tmp_path, 0.2)
        assert found.rates() == {}
        assert time.monotonic() - start < 10  # far from the server's 30 s
        assert "no answer within 0.2 s" in found.problem


@pytest.mark.parametrize("uri", [None, "sqlite:////somewhere/mlflow.db", "postgresql://host/mlflow"])
def test_only_servers_are_asked(uri, tmp_path):
    found = Asked(uri, tmp_path)
    assert (found.rates(), found.problem) == ({}, None)


@pytest.mark.slow
def test_a_real_server_tells_another_home(server, home, study, tmp_path):
    trial = study.trials[0]
    run_whole(study, trial, 20.0, device="B200")
    study.now += 10**6  # after whatever other tests measured
    ended = study.state().trials[trial.id]
    ended.at = study.now
    RateRuns(server, study.home).keep(ended)
    process = Mlflow(home).start()
    try:
        wait_for(process.answers)
        found = Asked(process.uri, tmp_path, 60.0)
        assert found.rates()[rate_key(trial)] == Rate(0.5, "B200", told=True), found.problem
    finally:
        process.kill()
