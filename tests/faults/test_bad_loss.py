"""A study in which one trial's loss breaks for good: it fails with its reason, the grid goes on, the fits say so."""

import os
import re
from pathlib import Path

import pytest
import yaml
from tests.faults.commands import submit
from tests.faults.intrusion import intruded

from transvae_dashboards.laws import fit_study
from transvae_platform.study.journal import read_journal
from transvae_platform.study.state import StudyState

pytestmark = pytest.mark.fault
DEADLINE_SECONDS = 1200  # 400 were too few with 40 processes on two cores; ends a hang, judges no speed
BROKEN_FROM = 27  # behind the checkpoint of step 20, between the log steps 20 and 30

POISON = f"""\
def intrude(loop):
    from transvae_platform.training.criterion import Criterion

    step, forward, state = loop.train_step, Criterion.generator, {{}}

    def train_step(weights, *rest):
        state["bad"] = weights.trial.family == "vit" and weights.step + 1 >= {BROKEN_FROM}
        return step(weights, *rest)

    def poisoned(self, *arguments):
        total, judged, terms = forward(self, *arguments)
        factor = float("nan") if state["bad"] else 1.0
        return total * factor, judged * factor, terms

    loop.train_step, Criterion.generator = train_step, poisoned
"""
"""Every loss of ViT trials from BROKEN_FROM on is poisoned."""


def write_study(folder: Path) -> Path:
    spec = {
        "study": "poisoned",
        "question": "Does one bad trial spoil the others?",
        "expected": {"outcome": "It does not.", "source": "assumption"},
        "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"], "transvae": ["T"]}},
        "data": {"source": "bundled", "resolution": 32, "view": {"kind": "crops", "per_photograph": 8}},
        "recipe": {"steps": 60, "batch_size": 8, "learning_rate": 0.002, "warmup_steps": 10},
        "evaluation": {"every": 20, "log_every": 10, "images": 16, "pictures": 4},
    }
    file = folder / "poisoned.yaml"
    file.write_text(yaml.safe_dump(spec))
    return file


def test_a_trial_that_diverges_fails_alone_and_is_neither_kept_nor_registered_nor_fitted(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment = intruded(tmp_path / "first", "transvae_platform.training.loop", POISON, environment)
    done = submit(write_study(tmp_path), tmp_path / "runs", environment, DEADLINE_SECONDS)
    assert done.returncode == 3, done.stderr
    state = StudyState(tmp_path / "runs" / "studies" / "poisoned")
    trials = {trial.trial.family: trial for trial in state.trials.values()}
    bad, good = trials["vit"], trials["transvae"]

    reason = r"\d+ bad steps in a row by step 40: the training loss is not finite \(nan\).* after 2 rewinds"
    assert bad.state == "failed"
    assert re.search(reason, bad.reason)
    assert bad.attempts == 1  # no retry would end differently
    records = read_journal(bad.folder / "journal.jsonl")
    assert [(record["from"], record["to"]) for record in records if record["event"] == "rewound"] == [(40, 20)] * 2
    assert [record["step"] for record in records if record["event"] in ("validated", "checkpoint")] == [20, 20]
    assert [path.name for path in sorted((bad.folder / "checkpoints").iterdir())] == [
        "spare_000000020", "step_000000020",
    ]  # fmt: skip
    assert bad.registered is None

    assert good.state == "finished"
    assert good.registered is not None
    for report in fit_study(state).values():
        (excluded,) = report.excluded
        assert excluded.point.family == "vit"
        assert re.search(reason, excluded.reason)
    page = (state.folder / "report.html").read_text()
    assert "Trials that are not fitted" in page
    assert "after 2 rewinds" in page
