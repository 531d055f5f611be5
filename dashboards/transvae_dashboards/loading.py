"""The lines that load a registered model, ready to be copied."""

from __future__ import annotations

from pathlib import Path

from transvae_dashboards.markup import Html, tag
from transvae_platform.redaction import without_password
from transvae_platform.study.folders import load_call, store_of
from transvae_platform.study.state import StudyState, TrialState

SQLITE = "sqlite:///"


def code_lines(study: StudyState, uri: str, generator: bool = False) -> str:
    """Python that loads a registered model of a study, from any working directory of this machine."""
    call = load_call(uri, study.folder.parents[1], tracking_of(study))
    if generator:
        call = call.replace("load_model(", "load_generator(", 1)
        return f"from transvae_platform import load_generator\ndit = {call}"
    return f"from transvae_platform import load_model\nvae = {call}\nz = vae.encode(x)"


def tracking_of(study: StudyState) -> str:
    """The server of the last submission; where that was the own store of a home that was moved since, its store now."""
    recorded, home = without_password(study.submissions[-1]["tracking"]), study.folder.parents[1]
    here = Path(store_of(home).removeprefix(SQLITE))
    there = Path(recorded.removeprefix(SQLITE)) if recorded.startswith(SQLITE) else None
    moved = there is not None and there.name == here.name and not there.exists() and here.exists()
    return store_of(home) if moved else recorded


def copied(code: str) -> Html:
    """Code in a frame, with a button that copies it (which a script shows where there is one)."""
    button = tag("button", "Copy", type="button", class_="copy", hidden="")
    return tag("div", tag("pre", tag("code", code)), button, class_="code")


def copier(code: str) -> Html:
    """A button alone, for a row of a table: the code itself stands elsewhere on the page."""
    return tag("button", "Copy", type="button", class_="copy", hidden="", data_code=code)


def loading_code(study: StudyState, trial: TrialState) -> Html | None:
    """The code of a trial's registered version; None while there is none."""
    if trial.registered is None or not study.submissions:
        return None
    return copied(code_lines(study, trial.registered["uri"], trial.trial.generator is not None))
