"""One small study file, changed line by line, and the objects that are made from it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transvae_platform.errors import SpecError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.load import load_study
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.trial import Trial

TEXT = """\
study: tiny
question: Does it load?
expected:
  outcome: It does.
  source: assumption
grid:
  ladder: micro
  code: f8d8
  families:
    transvae: [T, B]
    cnn: [T]
data:
  source: bundled
  resolution: 32
  view: {kind: crops, per_photograph: 4}
recipe:
  steps: 40
  batch_size: 8
  learning_rate: 0.001
  warmup_steps: 4
  overrides:
    cnn-*: {steps: 60}
resources:
  workers: 1
evaluation:
  every: 20
"""
VALUES: dict[str, Any] = {
    "study": "tiny",
    "question": "Does it load?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"transvae": ["T", "B"], "cnn": ["T"]}},
    "data": {"source": "bundled", "resolution": 32},
    "recipe": {"steps": 40, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 4},
    "evaluation": {"every": 20},
}
LINEAGE = {"code": "0.1.0+gaaaa", "python": "3.11.9", "host": "bench"}


@pytest.fixture
def text() -> str:
    return TEXT


@pytest.fixture
def refusal(tmp_path) -> Callable[..., str]:
    """The message with which the study file is refused after replacing `old` by `new`, without the folder."""

    def refuse(*changes: tuple[str, str], overrides: tuple[str, ...] = ()) -> str:
        changed = TEXT
        for old, new in changes:
            assert old in changed
            changed = changed.replace(old, new)
        path = tmp_path / "tiny.yaml"
        path.write_text(changed)
        with pytest.raises(SpecError) as caught:
            load_study(path, overrides)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refuse


@pytest.fixture
def spec() -> Callable[..., StudySpec]:
    """The small study with changes such as `recipe__steps=10`."""

    def build(**changes: Any) -> StudySpec:
        values = copy.deepcopy(VALUES)
        for path, value in changes.items():
            section = values
            *parents, last = path.split("__")
            for part in parents:
                section = section.setdefault(part, {})
            section[last] = value
        return StudySpec.model_validate(values)

    return build


@pytest.fixture
def grid(spec) -> Callable[..., tuple[Trial, ...]]:
    return lambda **changes: build_grid(spec(**changes), "d" * 16)


class Writer:
    """Writes the journals of a study in a home; `now` is set by hand, and the clock may be `wrong`."""

    def __init__(self, home: Path, spec: StudySpec) -> None:
        self.now, self.wrong = 1000.0, 0.0
        self.spec = spec
        self.trials = build_grid(spec, "d" * 16)
        self.folder = home / "studies" / spec.study
        self.study = Journal(self.folder / "journal.jsonl", clock=self.clock, steady=self.steady)

    def clock(self) -> float:
        return self.now + self.wrong

    def steady(self) -> float:
        return self.now

    def submit(self, code: str = "a") -> None:
        self.study.append("submitted", spec=self.spec.model_dump(mode="json"), lineage={**LINEAGE, "code": code})

    def queue(self, trial: Trial) -> Journal:
        """Queue a trial; returns its journal."""
        self.study.append("queued", trial=trial.model_dump(mode="json"), cost={"parameters": 7.0})
        return Journal(self.folder / "trials" / trial.id / "journal.jsonl", clock=self.clock, steady=self.steady)


@pytest.fixture
def writer(tmp_path, spec) -> Callable[..., Writer]:
    return lambda **changes: Writer(tmp_path, spec(**changes))
