"""The command line in this process: arguments in, exit code and both streams out."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from transvae_platform.cli.main import main
from transvae_platform.cluster import schedule
from transvae_platform.data.listing.bundled import bundled_files
from transvae_platform.data.making import on_ray
from transvae_platform.data.making.work import run_locally
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.load import load_study

TEXT = """\
study: tiny
question: Does it load?
expected: {outcome: It does., source: assumption}
grid: {ladder: micro, code: f8d8, families: {transvae: [T], vit: [T]}}
data: {source: bundled, resolution: 32}
recipe: {steps: 40, batch_size: 4, learning_rate: 0.001, warmup_steps: 4}
evaluation: {every: 20}
"""


@dataclass
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def transvae(capsys, monkeypatch) -> Callable[..., Answer]:
    """Run `transvae ...` as the entry point does."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["transvae", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return Answer(code if isinstance(code, int) else 0, said.out, said.err)

    return run


@pytest.fixture
def study_file(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def submitted(tmp_path, study_file) -> Path:
    """A home in which the study was submitted: one trial validated at step 20, the other failed."""
    home = tmp_path / "runs"
    spec = load_study(study_file)
    folder = home / "studies" / "tiny"
    journal = Journal(folder / "journal.jsonl")
    journal.append("submitted", spec=spec.model_dump(mode="json"), lineage={"code": "a"})
    for trial in build_grid(spec, "d" * 16):
        journal.append("queued", trial=trial.model_dump(mode="json"), cost={"parameters": 7.0})
        own = Journal(folder / "trials" / trial.id / "journal.jsonl")
        own.append("started", step=0, resumed_from=0, world=1, device="cpu", attention="sdpa", lineage={"code": "a"})
        if trial.family == "vit":
            own.append("failed", reason="out of [memory]")
        else:
            own.append("validated", step=20, images=80, flops=1.0, metrics={"val/psnr": 17.5})
        own.close()
    journal.close()
    return home


@pytest.fixture
def images(tmp_path) -> Path:
    """Class folders with real photographs."""
    folder = tmp_path / "images"
    for index, (name, path) in enumerate(bundled_files()[:6]):
        (folder / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "ab"[index % 2] / name.rpartition("/")[2])
    (folder / "a" / "phone.heic").write_bytes(b"?")
    return folder


@pytest.fixture
def starts(monkeypatch) -> list[str | None]:
    """The address of every session of Ray that was asked for; none is started."""
    asked: list[str | None] = []
    monkeypatch.setattr(schedule, "ray_session", lambda address: asked.append(address) or contextlib.nullcontext())
    return asked


@pytest.fixture
def data(transvae, starts, tmp_path, monkeypatch) -> Callable[..., Answer]:
    """Run `transvae data ...` in a home of its own, with the work done in this process."""
    monkeypatch.setattr(on_ray, "run_on_ray", lambda function, work, actors, gpus: run_locally(function, work))
    monkeypatch.setenv("TRANSVAE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRANSVAE_CACHE", str(tmp_path / "cache"))
    return lambda *arguments: transvae("data", *arguments)


@pytest.fixture
def made(data, images) -> Answer:
    answer = data("ingest", images, "--name", "mine", "--resolution", "64", "--holdout", "0.3")
    assert answer.code == 0, answer.err
    return answer
