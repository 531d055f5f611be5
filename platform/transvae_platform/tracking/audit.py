"""What MLflow lacks of a study: reads both sides, writes to neither."""

from __future__ import annotations

from mlflow.tracking import MlflowClient

from transvae_platform.study.state import StudyState, TrialState


def missing_points(client: MlflowClient, state: StudyState) -> dict[str, int]:
    """How many (metric, step) of each trial's journal MLflow lacks, by trial id; complete trials are left out.

    Raises:
        MlflowException: the server fails.
    """
    experiment = client.get_experiment_by_name(state.name)
    missing = {}
    for trial in state.trials.values():
        expected = _points(trial)
        if experiment is not None:
            expected -= _sent(client, experiment.experiment_id, trial.trial.id)
        if expected:
            missing[trial.trial.id] = len(expected)
    return missing


def _points(trial: TrialState) -> set[tuple[str, int]]:
    return {
        (key, step)
        for records in (trial.train, trial.validation)
        for step, record in records.items()
        for key, value in record["metrics"].items()
        if value is not None
    }


def _sent(client: MlflowClient, experiment_id: str, trial_id: str) -> set[tuple[str, int]]:
    found = client.search_runs([experiment_id], f"tags.kind = 'trial' and tags.trial_id = '{trial_id}'", max_results=1)
    if not found:
        return set()
    run = found[0]
    return {(key, point.step) for key in run.data.metrics for point in client.get_metric_history(run.info.run_id, key)}
