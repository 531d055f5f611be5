"""The lines that load a registered model, ready to be copied."""

from __future__ import annotations

from transvae_dashboards.markup import Html, tag
from transvae_platform.redaction import without_password
from transvae_platform.study.folders import load_call
from transvae_platform.study.state import StudyState, TrialState


def code_lines(study: StudyState, uri: str, generator: bool = False) -> str:
    """Python that loads a registered model of a study, from any working directory of this machine."""
    tracking = without_password(study.submissions[-1]["tracking"])
    call = load_call(uri, study.folder.parents[1], tracking)
    if generator:
        call = call.replace("load_model(", "load_generator(", 1)
        return f"from transvae_platform import load_generator\ndit = {call}"
    return f"from transvae_platform import load_model\nvae = {call}\nz = vae.encode(x)"


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
