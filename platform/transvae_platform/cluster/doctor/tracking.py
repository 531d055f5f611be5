"""The MLflow store: does it answer, and does it have what the journals say."""

from __future__ import annotations

from pathlib import Path

from transvae_platform.cluster.doctor.finding import Finding
from transvae_platform.errors import SpecError, UnreachableError
from transvae_platform.redaction import without_password
from transvae_platform.study.folders import store_of
from transvae_platform.study.state import StudyState
from transvae_platform.tracking.audit import missing_points
from transvae_platform.tracking.moved import earlier_homes
from transvae_platform.tracking.server import answering, connect, existing_tracking_uri


def check_tracking(home: Path, tracking_uri: str | None, state: StudyState | None) -> list[Finding]:
    """Findings about the server, and about a study's curves there."""
    try:
        uri = tracking_uri or existing_tracking_uri(home)
    except SpecError:  # reading only: a store is made by the first submission
        return [Finding("mlflow", "ok", "no store in the home yet: the first submission makes one")]
    if uri == store_of(home) and (earlier := earlier_homes(home)):
        what = f"{home} was {' and '.join(earlier)} when its store was used"
        way_out = "none is needed: whoever uses it next, a submission or load_model, takes its addresses along"
        return [Finding("mlflow", "warn", what, way_out)]
    try:
        client = connect(uri, home)
        findings = [Finding("mlflow", "ok", f"{without_password(uri)} answers")]
        with answering(client):
            missing = missing_points(client, state) if state else {}
    except UnreachableError as error:
        return [Finding("mlflow", "wrong", str(error))]
    for trial, count in missing.items():
        way_out = "submit the study again: what is missing is sent from the journal, finished trials are not run"
        findings.append(Finding("mlflow", "warn", f"{trial}: {count} points of the journal are not in MLflow", way_out))
    return findings
