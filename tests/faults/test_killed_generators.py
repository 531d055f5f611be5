"""SIGKILL at every boundary between an autoencoder and its generator, then the same command: the same weights.

The training is real, in the submitting process; Ray and MLflow are played (`toys.py`).
"""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from tests.faults.toys import Submission
from tests.training.twins import assert_same, last_state

from transvae_platform.cli import fit_files
from transvae_platform.cluster import downstream, submit
from transvae_platform.cluster.worker import train_one
from transvae_platform.data.making.work import run_locally
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.training.manifest import sha256_of
from transvae_platform.world import World

pytestmark = pytest.mark.fault

SPEC = {
    "study": "down",
    "question": "Does it survive?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}},
    "data": {
        "source": "bundled", "resolution": 32, "holdout": ["coffee"],
        "view": {"kind": "crops", "per_photograph": 4, "scales": [0.25]},
    },
    "recipe": {"steps": 8, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2},
    "evaluation": {"every": 4, "images": 4, "pictures": 2},
    "downstream": {
        "generators": ["micro-S/2"], "classes": 1, "sampler": {"times": 3},
        "recipe": {"steps": 12, "batch_size": 4, "learning_rate": 1e-3},
        "evaluation": {"every": 4, "images": 4, "pictures": 2},
    },
}  # fmt: skip


def train_here(trials, agenda, study_folder, fence, lineage, places, until=None):
    """In place of `run_trials`: one trial after the other, really trained, in this process."""
    torch.set_num_threads(1)
    for trial in trials:
        folder = study_folder / "trials" / trial.id
        journal = Journal(folder / "journal.jsonl", fence)
        job = {"folder": str(folder), "lineage": lineage, "until": until, **places(trial)}
        train_one(job, trial, World(), journal)
        journal.close()
    return []


def keep(client, experiment, run, trial):
    """In place of the registry: the best checkpoint of a trial in the home, as `local_model` finds it."""
    best = trial.checkpoints[max(trial.checkpoints)]["best_step"]
    source = trial.folder / "checkpoints" / f"step_{best:09d}" / "ema"
    weights = sha256_of(source / "model.safetensors")
    home = trial.folder.parents[3]
    shutil.copytree(source, home / "models" / weights, dirs_exist_ok=True)
    name = f"{trial.trial.study}-{trial.trial.label}"
    (home / f"{name}.json").write_text(json.dumps(weights))
    return {"name": name, "version": 1, "uri": f"models:/{name}/1", "sha256": weights}


def find(uri, home, tracking_uri=None):
    name = uri.removeprefix("models:/").partition("/")[0]
    weights = json.loads((Path(home) / f"{name}.json").read_text())
    return Path(home) / "models" / weights, weights


@pytest.fixture
def command(tmp_path, _played, monkeypatch):
    """Submit the study in a home; with `kill`, the process ends when a journal is told of the event the n-th time."""
    monkeypatch.setattr(fit_files, "keep_fits", lambda *_: None)
    monkeypatch.setattr(submit, "run_trials", train_here)
    monkeypatch.setattr(submit, "register_best", keep)
    monkeypatch.setattr(downstream, "local_model", find)
    monkeypatch.setattr(downstream, "run_on_ray", lambda function, work, **_: run_locally(function, work))
    monkeypatch.setattr(downstream, "cluster_devices", lambda: (2, 0))
    file = tmp_path / "down.yaml"
    file.write_text(yaml.safe_dump(SPEC))

    def run(name, kill=None):
        def prepare():
            append, seen = Journal.append, []

            def killed(self, event, **fields):
                seen.append(event)
                if kill and seen.count(kill[0]) == kill[1] and event == kill[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                append(self, event, **fields)

            Journal.append = killed

        home = tmp_path / name
        home.mkdir(exist_ok=True)
        code = Submission(file, home, (), prepare).end()
        return home / "studies" / "down", code

    return run


BOUNDARIES = {
    "the autoencoder has finished": ("finished", 1),
    "it is registered": ("registered", 1),
    "its latents are made": ("latents", 1),
    "the generator begins": ("started", 2),
    "in the generator": ("checkpoint", 4),
    "the generator has finished": ("finished", 2),
}


def test_killed_at_every_boundary_it_comes_to_the_same_weights(command):
    whole, code = command("whole")
    assert code == 0
    trials = sorted(path.name for path in (whole / "trials").iterdir())
    assert [name.partition("-")[0] for name in trials] == ["dit", "vit"]
    for name, kill in BOUNDARIES.items():
        folder, code = command(name.replace(" ", "-"), kill)
        assert code == -signal.SIGKILL, name
        again, code = command(folder.parents[1].name)
        assert code == 0, name
        for trial in trials:
            assert_same(last_state(again / "trials" / trial), last_state(whole / "trials" / trial))
        latents = [record for record in read_journal(again / "journal.jsonl") if record["event"] == "latents"]
        assert len(latents) == 1, name
        made = [path.name for path in (again.parents[1] / "data").iterdir() if not path.name.startswith((".", "made"))]
        assert sorted(made) == sorted(
            path.name for path in (whole.parents[1] / "data").iterdir() if not path.name.startswith((".", "made"))
        )


def test_the_generator_of_a_failed_autoencoder_fails_with_it_and_is_tried_again(command, monkeypatch):
    def failing(trials, agenda, study_folder, fence, *rest):
        for trial in trials:
            journal = Journal(study_folder / "trials" / trial.id / "journal.jsonl", fence)
            journal.append("failed", reason="as it was told to")
            journal.close()
        return []

    with monkeypatch.context() as patch:
        patch.setattr(submit, "run_trials", failing)
        folder, code = command("failing")
    assert code == 3
    (generator,) = (folder / "trials").glob("dit-*")
    (failed,) = [record for record in read_journal(generator / "journal.jsonl") if record["event"] == "failed"]
    assert failed["reason"] == "its autoencoder vit-T failed: as it was told to"
    _, code = command("failing")
    assert code == 0
    assert read_journal(generator / "journal.jsonl")[-1]["event"] == "finished"
