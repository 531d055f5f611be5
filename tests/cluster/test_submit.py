"""What a submission writes into journals before and after its trials run."""

from pathlib import Path

import pytest

from transvae_platform.cluster.submit import _note_ends, _queue
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.lease import wait_for_lease
from transvae_platform.study.load import load_study
from transvae_platform.study.state import StudyState

STUDIES = Path(__file__).parents[2] / "studies"


def attempt(path, resumed_from, steps=()):
    journal = Journal(path)
    journal.append("started", step=resumed_from, resumed_from=resumed_from, world=1, device="cpu", lineage={})
    for step in steps:
        journal.append("step", step=step, images=step * 8, flops=1.0, metrics={})
    journal.append("finished", step=40, metrics={"val/psnr": 17.0})
    journal.close()


def test_a_trial_whose_whole_journal_is_anothers_is_told_again_once(tmp_path):
    spec = load_study(STUDIES / "quickstart.yaml")
    trial, folder = build_grid(spec, "d" * 16)[0], tmp_path / "studies" / spec.study
    path = folder / "trials" / trial.id / "journal.jsonl"
    with wait_for_lease(folder, pytest.fail) as fence:
        study = Journal(folder / "journal.jsonl", fence)
        study.append("submitted", spec=spec.model_dump(mode="json"), lineage={"code": "a"})
        state = StudyState(folder)
        _queue([trial], study, state, fence)
        attempt(path, 0, range(10, 41, 10))
        state.refresh()
        _note_ends(state, study)
        path.write_bytes(path.read_bytes().replace(b'"own":"', b'"own":"0'))  # as if they were another trial's
        state = StudyState(folder)
        assert state.trials[trial.id].doubtful
        _queue([trial], study, state, fence)
        attempt(path, 40)  # from its checkpoint, in fewer records
        state.refresh()
        _note_ends(state, study)
        assert not StudyState(folder).trials[trial.id].doubtful
