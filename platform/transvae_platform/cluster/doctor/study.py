"""A study's folder: journals, lease, trials, checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transvae_platform.cluster.doctor.finding import Finding
from transvae_platform.errors import UserError
from transvae_platform.study.lease import life, read_holder
from transvae_platform.study.record import TORN
from transvae_platform.study.state import STATES, StudyState, TrialState
from transvae_platform.training.checkpoint import CheckpointStore, open_checkpoints
from transvae_platform.training.recorded import recorded_checkpoints

AGAIN = "submit the study again: it continues from the newest good checkpoints"


def check_study(state: StudyState) -> list[Finding]:
    """All findings about a study that was submitted."""
    lease, alive = _lease(state.folder)
    findings = [lease, *_journals(state, alive), *_trials(state, alive), *_checkpoints(state, alive)]
    return findings if alive else [*findings, *_leftovers(state)]


def _lease(folder: Path) -> tuple[Finding, bool]:
    """What is known of the process that runs the study, and whether there is one."""
    holder = read_holder(folder)
    if holder is None:
        return Finding("lease", "ok", "no process runs the study"), False
    who = f"process {holder.pid} on {holder.host}"
    sign = life(folder)
    if sign == "beats":
        return Finding("lease", "ok", f"{who} runs the study and beats"), True
    if sign == "holds":
        way_out = f"make room if the home is full; if it was stopped: `kill -CONT {holder.pid}`"
        return Finding("lease", "warn", f"{who} holds the lease, but its counter stands still", way_out), True
    if holder.dead:
        return Finding("lease", "warn", f"{who} ran the study and was killed", AGAIN), False
    return Finding("lease", "warn", f"{who} held the lease, and its counter stands still", AGAIN), False


def _journals(state: StudyState, alive: bool) -> Iterator[Finding]:
    torn, closed = [], 0
    folders = [state.folder, *(trial.folder for trial in state.trials.values())]
    paths = [folder / "journal.jsonl" for folder in folders if (folder / "journal.jsonl").exists()]
    for path in paths:
        *lines, tail = path.read_bytes().split(b"\n")
        closed += sum(line.endswith(TORN) for line in lines)
        if tail:
            torn.append(path.relative_to(state.folder).as_posix())
    what = f"{len(paths)} journals read"
    if closed:
        what += f", {closed} torn lines of killed writers passed over"
    if torn and not alive:
        way_out = "none is needed: readers pass them over, the next submission closes them"
        yield Finding("journal", "warn", f"{what}; last line torn: {', '.join(torn)}", way_out)
    else:
        yield Finding("journal", "ok", what)
    for place in state.damaged:
        way_out = (
            "look at the disk and submit the study again: what they said is found again where a checkpoint "
            "knows it; the points of a curve that they held stay lost"
        )
        yield Finding("journal", "warn", f"{place}: records are damaged or missing, and passed over", way_out)


def _trials(state: StudyState, alive: bool) -> Iterator[Finding]:
    counts = {name: len(state.in_state(name)) for name in STATES}
    yield Finding("trials", "ok", ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none yet")
    left = state.in_state("running") + state.in_state("queued")
    if left and not alive:
        names = ", ".join(trial.trial.id for trial in left)
        yield Finding("trials", "warn", f"nobody runs what is marked running or queued: {names}", AGAIN)
    for trial in state.in_state("failed"):
        way_out = "mend the cause and submit the study again: failed trials are tried again"
        yield Finding("trials", "wrong", f"{trial.trial.id} failed: {trial.reason}", way_out)
    for trial in state.trials.values():
        if trial.alarm:
            yield Finding("trials", "warn", f"{trial.trial.id}: {trial.alarm}", "it goes on; mend the cause meanwhile")
        for message in trial.lost:
            way_out = "none is needed: what it held was trained again, to the same bytes; look at the disk"
            yield Finding("checkpoints", "warn", f"{trial.trial.id}: {message}", way_out)
        if trial.unregistered:
            way_out = "mend the cause and submit the study again"
            yield Finding("registry", "warn", f"{trial.trial.id} is not registered: {trial.unregistered}", way_out)


def _checkpoints(state: StudyState, alive: bool) -> Iterator[Finding]:
    good = 0
    for trial in state.trials.values():
        folder = trial.folder / "checkpoints"
        if trial.trial.checkpoints is None and not folder.is_dir():
            continue
        try:
            store = open_checkpoints(trial.trial, trial.folder, recorded=recorded_checkpoints(trial.folder))
            worth_reading = _worth_reading(store, trial)
        except (OSError, UserError) as error:
            way_out = "mend the disk or the store: no checkpoint can be taken from there"
            yield Finding("checkpoints", "wrong", f"{trial.trial.id}: they cannot be listed ({error})", way_out)
            continue
        for step in worth_reading:
            try:
                with store.verified(step):
                    good += 1
            except UserError as error:
                if step in store.steps():  # not removed by its writer while it was read
                    way_out = (
                        "an older one is taken on the next start, and of the best one its second copy is registered"
                    )
                    yield Finding("checkpoints", "wrong", str(error), way_out)
        yield from _second_copy(store, trial)
        for path in sorted(folder.glob("bad_*")):
            way_out = f"an older one was taken; look at the disk, then delete {path}"
            yield Finding("checkpoints", "warn", f"damaged and set aside: {path.name} of {trial.trial.id}", way_out)
        if not alive and (left := sorted(folder.glob(".writing_*"))):
            what = f"{len(left)} unfinished by a killed writer in {folder}"
            yield Finding("checkpoints", "warn", what, "none is needed: the next start of the trial removes them")
    yield Finding("checkpoints", "ok", f"{good} equal their manifests (newest and best of each trial)")


def _second_copy(store: CheckpointStore, trial: TrialState) -> Iterator[Finding]:
    recorded = recorded_checkpoints(trial.folder, "spare")
    if trial.registered is not None or not recorded:
        return
    step = max(recorded)
    try:
        with store.verified(step, recorded[step]):
            pass
    except UserError as error:
        way_out = "none is needed while the checkpoint itself is whole; look at the disk"
        yield Finding("checkpoints", "warn", f"the second copy of the best weights: {error}", way_out)


def _worth_reading(store: CheckpointStore, trial: TrialState) -> list[int]:
    """The newest and the best checkpoint: what a continued trial and the registry use; all would be terabytes."""
    steps = store.steps()
    best = trial.checkpoints[max(trial.checkpoints)]["best_step"] if trial.checkpoints else None
    return sorted({*steps[-1:], *(step for step in steps if step == best)})


def _leftovers(state: StudyState) -> Iterator[Finding]:
    if (ray := state.folder / "ray").exists():
        way_out = f"a later submission that ends removes it; or delete {ray}"
        yield Finding("leftovers", "warn", f"Ray's own files of a killed submission in {ray}", way_out)
