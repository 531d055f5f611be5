"""The points of a curve: what the journal wants in an MLflow run, what the run holds, and whether the two agree."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from transvae_platform.study.record import Record
from transvae_platform.study.state import TrialState

Point = tuple[str, int]
"""(metric, step)"""
SAME = 1e-12  # relative: databases keep 15 digits of a double at least


def records_of(trial: TrialState) -> list[Record]:
    """The records that carry points, training before validation; a copy that a growing state does not disturb."""
    return [*dict(trial.train).values(), *dict(trial.validation).values()]


def wanted(records: Iterable[Record]) -> dict[Point, Metric]:
    """Every point of the records, once; values that are missing (NaN in the loop) are left out."""
    points: dict[Point, Metric] = {}
    for record in records:
        at, step = int(record["at"] * 1000), record["step"]
        values = {**record["metrics"], "images": record["images"], "training_flops": record["flops"]}
        for key, value in values.items():
            if value is not None and (key, step) not in points:
                points[key, step] = Metric(key, float(value), at, step)
    return points


def held(client: MlflowClient, run_id: str) -> dict[Point, float]:
    """Every point of a run; NaN stands for a point that the run holds with two values, or twice."""
    points: dict[Point, float] = {}
    for key in client.get_run(run_id).data.metrics:
        for point in client.get_metric_history(run_id, key):
            points[key, point.step] = math.nan if (key, point.step) in points else point.value
    return points


def contradicts(has: Mapping[Point, float], wants: Mapping[Point, Metric]) -> Point | None:
    """A point that the run holds twice, or with another value than the journal; None if there is none."""
    for point, metric in wants.items():
        if point in has and not math.isclose(has[point], metric.value, rel_tol=SAME):
            return point
    return None


def surplus(has: Mapping[Point, float], wants: Mapping[Point, Metric]) -> Point | None:
    """A point that the run holds and the journal does not: of steps that were taken back."""
    return next((point for point in has if point not in wants), None)


def digest(points: Mapping[Point, Metric]) -> str:
    """SHA-256 of all points and values, in no particular order: equal only for equal curves."""
    rows = sorted([key, step, repr(metric.value)] for (key, step), metric in points.items())
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
