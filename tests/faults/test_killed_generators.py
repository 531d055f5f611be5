"""SIGKILL at every boundary between an autoencoder and its generator, then the same command: the same weights.

The training is real, in the submitting process, and so is the queue; Ray and MLflow are played (`toys.py`).
"""

import dataclasses
import functools
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from tests.faults.toys import Submission
from tests.training.twins import assert_same, last_state

from transvae_platform.cli import running
from transvae_platform.cluster import downstream, registering, submit
from transvae_platform.cluster.queue import StudyQueue
from transvae_platform.cluster.worker import WELL, ended, train_one
from transvae_platform.data.making.work import run_locally
from transvae_platform.study.journal import Journal, read_journal
from transvae_platform.training.manifest import sha256_of
from transvae_platform.world import World

pytestmark = pytest.mark.fault

SPEC = {
    "study": "down",
    "question": "Does it survive?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T", "B"]}},
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


def train_here(
    trials, agenda, study_folder, fence, lineage, places, until=None, errands=None, lost=None, fails=(), backwards=False
):
    """In place of `run_trials`: what the queue gives, really trained, one after the other, in this process.

    `fails` begins the labels of trials that fail; `backwards` takes the trials in the order that no policy would.
    """
    torch.set_num_threads(1)
    known = {trial.id: trial for trial in trials}
    if backwards:
        agenda = dataclasses.replace(agenda, order=tuple(reversed(agenda.order)))
    queue = StudyQueue(
        agenda.only({*known, *errands}),
        lambda name: ended(study_folder / "trials" / name, outcomes=WELL),
        errands=errands,
        details=lambda name: {"places": places(known[name])},
        lost=lambda name: lost(known[name]),
    )
    while (told := queue.suggest("one")) != queue.FINISHED:
        if told is None:
            time.sleep(0.01)
            continue
        trial = known[told["trial"]]
        folder = study_folder / "trials" / trial.id
        journal = Journal(folder / "journal.jsonl", fence)
        if trial.label.startswith(tuple(fails)):
            journal.append("failed", reason="as it was told to")
        else:
            job = {"folder": str(folder), "lineage": lineage, "until": until, **told["places"]}
            train_one(job, trial, World(), journal)
        journal.close()
        queue.on_trial_complete("one")
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


def commands(spec, tmp_path, monkeypatch):
    """What submits a study in a home; `kill`: (event, whose, n) of the journals' record at which it is killed."""
    monkeypatch.setattr(running, "keep_fits", lambda *_: None)
    monkeypatch.setattr(submit, "run_trials", train_here)
    monkeypatch.setattr(registering, "register_best", keep)
    monkeypatch.setattr(downstream, "local_model", find)
    monkeypatch.setattr(downstream, "run_on_ray", lambda function, work, **_: run_locally(function, work))
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(spec))

    def run(name, kill=None):
        def prepare():
            append, seen = Journal.append, []

            def killed(self, event, **fields):
                seen.append((event, self._path.parent.name.partition("-")[0]))
                if kill and seen[-1] == kill[:2] and seen.count(kill[:2]) == kill[2]:
                    os.kill(os.getpid(), signal.SIGKILL)
                append(self, event, **fields)

            Journal.append = killed

        home = tmp_path / name
        home.mkdir(exist_ok=True)
        code = Submission(file, home, (), prepare).end()
        return home / "studies" / spec["study"], code

    return run


@pytest.fixture
def command(tmp_path, _played, monkeypatch):
    return commands(SPEC, tmp_path, monkeypatch)


@pytest.fixture
def played(command, monkeypatch):
    """The same command with options of `train_here`."""

    def run(name, **options):
        with monkeypatch.context() as patch:
            patch.setattr(submit, "run_trials", functools.partial(train_here, **options))
            return command(name)

    return run


BOUNDARIES = {
    "the first autoencoder has finished": ("finished", "vit", 1),
    "it is registered": ("registered", "down", 1),
    "its latents are made": ("latents", "down", 1),
    "the first generator begins": ("started", "dit", 1),
    "in a generator": ("checkpoint", "dit", 2),
    "the first generator has finished": ("finished", "dit", 1),
    "the last autoencoder has finished": ("finished", "vit", 2),
    "its latents are made, too": ("latents", "down", 2),
    "the last generator has finished": ("finished", "dit", 2),
}


def trials_of(folder):
    return {path.name.rpartition("-")[0]: path for path in (folder / "trials").iterdir()}


def last(trial):
    return read_journal(trial / "journal.jsonl")[-1]


def test_killed_at_every_boundary_it_comes_to_the_same_weights(command):
    whole, code = command("whole")
    assert code == 0
    names = ["dit-micro-S-2-on-vit-B-s0", "dit-micro-S-2-on-vit-T-s0", "vit-B-s0", "vit-T-s0"]
    assert sorted(trials_of(whole)) == names
    kill_and_compare(command, whole, BOUNDARIES, latents=2)


def kill_and_compare(command, whole, boundaries, latents):
    """Kill the same study at every boundary, submit it again, and compare it with the whole one."""
    for name, kill in boundaries.items():
        folder, code = command(name.replace(" ", "-"), kill)
        assert code == -signal.SIGKILL, name
        again, code = command(folder.parents[1].name)
        assert code == 0, name
        for trial in trials_of(whole).values():
            assert_same(last_state(again / "trials" / trial.name), last_state(trial))
        told = [record["model"] for record in read_journal(again / "journal.jsonl") if record["event"] == "latents"]
        assert len(told) == len(set(told)) == latents, name
        assert made_in(again) == made_in(whole)


def made_in(folder):
    made = (folder.parents[1] / "data").iterdir()
    return sorted(path.name for path in made if not path.name.startswith((".", "made")))


def test_what_is_learned_does_not_depend_on_who_came_first(command, played):
    folder, code = command("first")
    assert code == 0
    other, code = played("backwards", backwards=True)
    assert code == 0
    ends = [min(trials_of(home), key=lambda name: last(trials_of(home)[name])["at"]) for home in (folder, other)]
    assert ends[0] != ends[1]
    for name, trial in trials_of(folder).items():
        assert_same(last_state(trials_of(other)[name]), last_state(trial))


def test_a_failed_autoencoder_fails_its_own_generators_alone_and_is_tried_again(command, played):
    folder, code = played("failing", fails=("vit-T",))
    assert code == 3
    trials = trials_of(folder)
    assert last(trials["dit-micro-S-2-on-vit-T-s0"])["reason"] == "its autoencoder vit-T failed: as it was told to"
    assert {last(trials[name])["event"] for name in ("vit-B-s0", "dit-micro-S-2-on-vit-B-s0")} == {"finished"}
    _, code = command("failing")
    assert code == 0
    assert {last(trial)["event"] for trial in trials.values()} == {"finished"}
