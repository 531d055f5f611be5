"""`transvae doctor`: what is wrong with a home, a study, its services and this machine, and what to do about it.

Every check gives findings and changes nothing (but for probe files in the home, removed at once).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from transvae_platform.cluster.doctor.data import check_data
from transvae_platform.cluster.doctor.finding import Finding
from transvae_platform.cluster.doctor.home import check_home
from transvae_platform.cluster.doctor.machine import check_cluster, check_machine
from transvae_platform.cluster.doctor.study import check_study
from transvae_platform.cluster.doctor.tracking import check_tracking
from transvae_platform.errors import UserError
from transvae_platform.study.calibration import find_rates
from transvae_platform.study.costs import model_cost
from transvae_platform.study.folders import study_folder
from transvae_platform.study.grid import build_grid
from transvae_platform.study.plan import checkpoint_bytes
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import OVER, StudyState

__all__ = ["Finding", "examine"]


def examine(
    home: Path, study: str | None, spec: StudySpec | None, tracking_uri: str | None, address: str | None
) -> list[Finding]:
    """All checks, those of a study if one is named.

    Args:
        spec: the study's file, if it was named by its file: counts for a study that was not submitted yet.
        tracking_uri: None for the default.
        address: the Ray cluster that studies run on; None for this machine.
    """
    state, findings = None, []
    if study is not None:
        folder = study_folder(home, study)
        if (folder / "journal.jsonl").exists():
            try:
                state = StudyState(folder)
            except UserError as error:
                findings.append(Finding("journal", "wrong", str(error)))
        else:
            findings.append(Finding("study", "ok", f"{study} was not submitted in {home} yet"))
    findings = check_home(home, _disk_needed(state, spec, find_rates(spec, home) if spec else {})) + findings
    if state is not None:
        findings += check_study(state)
    findings += check_data(home, state)
    findings += check_tracking(home, tracking_uri, state)
    findings += check_machine(state)
    return findings + (check_cluster(address) if address else [])


def _disk_needed(state: StudyState | None, spec: StudySpec | None, rates: Mapping[str, float]) -> int:
    """Bytes of the checkpoints that are still to be written."""
    if state is not None:
        open_trials = [trial for trial in state.trials.values() if trial.state not in OVER]
        counted = [(trial.trial, trial.cost.get("parameters", 0.0)) for trial in open_trials]
    else:
        counted = [
            (trial, model_cost(trial)["parameters"]) for trial in (build_grid(spec, "", rates=rates) if spec else ())
        ]
    return sum(checkpoint_bytes(trial, int(count)) for trial, count in counted)
