"""What breaks first in a large study: how much the journal, the reading of journals and MLflow take on one machine.

    python benchmarks/limits.py OUTPUT.json [trials=200 steps=20 senders=4 journal=500]

Journal: records per second of one writer, with a flush to the disk each (every event but `step`) and without (`step`).
Reading: seconds for the submitting process to take in all journals of a study, and one more record of each.
MLflow: a server with four workers on PostgreSQL, both started here (`postgres.py`), and a study of 200 trials that all
run; points (one value of one metric at one step) per second through the project's own sender (`tracking/runs.py`),
first with a new run for every trial, then with what the trials add, from one study and from four studies at once.
"""

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from micro import numbers, write
from postgres import mlflow_on_postgres

from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.load import load_study
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.study.trial import Trial
from transvae_platform.tracking.runs import Tracker
from transvae_platform.tracking.server import Server

STUDY = Path(__file__).parents[1] / "studies" / "quickstart.yaml"
STAGES = ("new runs", "more of them")
METRICS = {"train/loss": 1.0, "train/l1": 0.5, "train/kl": 0.1, "train/gradient_norm": 1.0, "train/rate": 1e-3}
POINTS = len(METRICS) + 2  # of a step: images and FLOPs are points, too


def main() -> None:
    options = numbers(trials=200, steps=20, senders=4, journal=500)
    trials, steps, senders = options["trials"], options["steps"], options["senders"]
    with tempfile.TemporaryDirectory(prefix="limits-") as temporary:
        folder = Path(temporary)
        appends = {name: journal_rate(folder, name, options["journal"]) for name in ("validated", "step")}
        home = folder / "home"
        state = make_study(home, "one", trials, steps)
        reading = reading_seconds(home, "one", state, steps)
        shares = [f"share{number}" for number in range(senders)]
        for name in shares:
            make_study(home, name, trials // senders, steps)
        with mlflow_on_postgres(folder) as uri:
            one = in_processes(uri, home, ["one"], steps)
            many = in_processes(uri, home, shares, steps)
    write(
        "mlflow", "sqlalchemy", trials=trials, points_per_step=POINTS, steps_at_once=steps,
        journal_appends_per_s=appends, reading_s=reading,
        mlflow_points_per_s={"one sender": one, f"{senders} senders": many},
    )  # fmt: skip


def journal_rate(folder: Path, event: str, count: int) -> float:
    """Records per second of one writer."""
    journal = Journal(folder / f"{event}.jsonl")
    start = time.perf_counter()
    for step in range(count * (1 if event != "step" else 20)):
        journal.append(event, step=step, images=step, flops=1.0, metrics=METRICS)
    journal.settle()
    return count * (1 if event != "step" else 20) / (time.perf_counter() - start)


def make_study(home: Path, name: str, count: int, steps: int) -> StudyState:
    """A study whose trials all run and have done so many steps; their journals are those of real ones."""
    changes = (f"study={name}", "grid.families={vit: [T]}", f"grid.seeds={list(range(count))}", "recipe.overrides={}")
    spec = load_study(STUDY, changes)
    study = Journal(home / "studies" / name / "journal.jsonl")
    study.append(
        "submitted", spec=spec.model_dump(mode="json"), lineage={"code": "limits"}, tracking="", cluster="local"
    )
    for trial in trials_of(spec):
        study.append("queued", trial=trial.model_dump(mode="json"), cost={})
        own = journal_of(home, name, trial)
        own.append(
            "started", step=0, resumed_from=0, world=1, device="cpu", attention="math", lineage={"code": "limits"}
        )
        own.close()
    study.close()
    add_steps(home, name, 0, steps)
    return StudyState(home / "studies" / name)


def add_steps(home: Path, name: str, after: int, count: int) -> None:
    """Let every trial of a study do more steps."""
    spec = StudySpec.model_validate(StudyState(home / "studies" / name).spec)
    for trial in trials_of(spec):
        own = journal_of(home, name, trial)
        for step in range(after + 1, after + count + 1):
            own.append("step", step=step, images=step, flops=1.0, metrics=METRICS, skipped=0, seconds_per_step=0.1)
        own.close()


def trials_of(spec: StudySpec) -> tuple[Trial, ...]:
    return build_grid(spec, "0" * 16)


def journal_of(home: Path, name: str, trial: Trial) -> Journal:
    return Journal(home / "studies" / name / "trials" / trial.id / "journal.jsonl")


def reading_seconds(home: Path, name: str, state: StudyState, steps: int) -> dict[str, float]:
    """To take in a study's journals from the beginning, and one more record of every trial."""
    start = time.perf_counter()
    StudyState(home / "studies" / name)
    whole = time.perf_counter() - start
    add_steps(home, name, steps, 1)
    start = time.perf_counter()
    state.refresh()
    return {"from the beginning": whole, "one more step of each": time.perf_counter() - start}


def in_processes(uri: str, home: Path, names: list[str], steps: int) -> dict[str, float]:
    """Points per second of one sender per study, all at once: the first sending, and the next one."""
    context = multiprocessing.get_context("spawn")
    told, together = context.Queue(), context.Barrier(len(names))
    senders = [context.Process(target=_send, args=(uri, home, name, steps, together, told)) for name in names]
    for sender in senders:
        sender.start()
    sent = [told.get() for _ in range(2 * len(names))]
    for sender in senders:
        sender.join()
    found = {}
    for stage in STAGES:
        of = [row for row in sent if row[0] == stage]
        begun, ended = min(row[1] for row in of), max(row[2] for row in of)
        found[stage] = sum(row[3] for row in of) / (ended - begun)
    return found


def _send(uri: str, home: Path, name: str, steps: int, together: Any, told: Any) -> None:
    state = StudyState(home / "studies" / name)
    tracker = Tracker(Server(uri, home), state, home)
    for stage in STAGES:
        if stage != STAGES[0]:
            add_steps(home, name, max(next(iter(state.trials.values())).train), steps)
        before = 0 if stage == STAGES[0] else held(state)
        tracker.take(state.refresh())
        together.wait()
        start = time.time()
        if not tracker.send(now=True):
            raise RuntimeError(str(tracker.problem))
        told.put((stage, start, time.time(), POINTS * (held(state) - before)))


def held(state: StudyState) -> int:
    """Steps of all trials that the state knows."""
    return sum(len(trial.train) for trial in state.trials.values())


if __name__ == "__main__":
    main()
