"""The rounds of a calibration, with trials that are run by hand."""

import pytest

from transvae_platform.cluster.rounds import run_rounds
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.lease import wait_for_lease
from transvae_platform.study.load import load_study
from transvae_platform.study.state import StudyState

RATES = (1e-3, 2e-3, 4e-3, 8e-3)


@pytest.fixture
def trials(tmp_path):
    (tmp_path / "study.yaml").write_text(
        """
study: sweep
question: Which rate?
expected: {outcome: One., source: assumption}
calibration: {learning_rates: [1e-3, 2e-3, 4e-3, 8e-3], stop_at: [10, 20]}
grid: {ladder: micro, code: f8d8, families: {vit: [T]}}
data: {source: bundled, resolution: 32}
recipe: {steps: 40, batch_size: 8, learning_rate: 0.1, warmup_steps: 4}
evaluation: {every: 10}
"""
    )
    spec = load_study(tmp_path / "study.yaml")
    return spec, build_grid(spec, "d" * 16)


class Running:
    """Stands for Ray: trains at once, the loss grows with the rate; remembers what it was asked for."""

    def __init__(self, spec, trials, folder, fence):
        self.folder, self.fence, self.asked, self.broken, self.killed = folder, fence, [], (), ()
        study = Journal(folder / "journal.jsonl", fence)
        study.append("submitted", spec=spec.model_dump(mode="json"), lineage={"code": "a"})
        for trial in trials:
            study.append("queued", trial=trial.model_dump(mode="json"), cost={"parameters": 7.0})
        study.close()
        self.state = StudyState(folder)

    def __call__(self, trials, until):
        self.asked.append((until, [trial.recipe.learning_rate for trial in trials]))
        for trial in trials:
            at = self.state.trials[trial.id]
            own = Journal(at.folder / "journal.jsonl", self.fence)
            own.append("started", resumed_from=at.step)
            step = until or 40
            if trial.recipe.learning_rate in self.broken:
                own.append("failed", reason="not finite", diverged=True)
            elif trial.recipe.learning_rate in self.killed:
                own.append("failed", reason="its process died")
            else:
                own.append("validated", step=step, metrics={"val/l1": trial.recipe.learning_rate})
                own.append("finished" if until is None else "paused", step=step, metrics={})
            own.close()


@pytest.fixture
def running(trials, tmp_path):
    spec, grid = trials
    folder = tmp_path / "studies" / "sweep"
    with wait_for_lease(folder, lambda holder: None) as fence:
        yield Running(spec, grid, folder, fence)


def states(state):
    return {trial.trial.recipe.learning_rate: (trial.state, trial.step) for trial in state.trials.values()}


def test_half_of_the_rates_go_on_after_each_round(trials, running):
    spec, grid = trials
    run_rounds(spec.calibration, grid, running.state, running.fence, running, running.state.refresh)
    assert [(until, sorted(rates)) for until, rates in running.asked] == [
        (10, [1e-3, 2e-3, 4e-3, 8e-3]), (20, [1e-3, 2e-3]), (None, [1e-3]),
    ]  # fmt: skip
    assert states(running.state) == {
        1e-3: ("finished", 40), 2e-3: ("stopped", 20), 4e-3: ("stopped", 10), 8e-3: ("stopped", 10),
    }  # fmt: skip


def test_a_later_submission_goes_on_where_the_rounds_were(trials, running):
    spec, grid = trials

    def killed(trials, until):
        if until == 20:
            raise KeyboardInterrupt
        running(trials, until)

    with pytest.raises(KeyboardInterrupt):
        run_rounds(spec.calibration, grid, running.state, running.fence, killed, running.state.refresh)
    running.asked.clear()
    run_rounds(spec.calibration, grid, running.state, running.fence, running, running.state.refresh)
    assert [until for until, _ in running.asked] == [20, None]
    assert states(running.state)[1e-3] == ("finished", 40)


def test_a_rate_that_breaks_down_is_an_answer(trials, running):
    spec, grid = trials
    running.broken = (8e-3,)
    run_rounds(spec.calibration, grid, running.state, running.fence, running, running.state.refresh)
    assert states(running.state)[8e-3] == ("stopped", 0)
    assert {state for state, _ in states(running.state).values()} == {"finished", "stopped"}


def test_a_rate_that_fails_otherwise_holds_its_size_and_the_next_submission_ends_alike(trials, running):
    spec, grid = trials
    running.killed = (1e-3,)
    run_rounds(spec.calibration, grid, running.state, running.fence, running, running.state.refresh)
    assert [until for until, _ in running.asked] == [10], "nobody goes on without the one that failed"
    assert states(running.state)[2e-3] == ("queued", 10)
    for trial in running.state.in_state("failed"):  # as the next submission does
        journal = Journal(trial.folder / "journal.jsonl", running.fence)
        journal.append("queued")
        journal.close()
    running.state.refresh()
    running.killed = ()
    run_rounds(spec.calibration, grid, running.state, running.fence, running, running.state.refresh)
    assert states(running.state) == {
        1e-3: ("finished", 40), 2e-3: ("stopped", 20), 4e-3: ("stopped", 10), 8e-3: ("stopped", 10),
    }  # fmt: skip


def test_a_damaged_record_is_told_again_before_anybody_ends(trials, running):
    spec, grid = trials

    def killed(trials, until):
        running(trials, until)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rounds(spec.calibration, grid, running.state, running.fence, killed, running.state.refresh)
    best = next(trial for trial in grid if trial.recipe.learning_rate == 1e-3)
    path = running.folder / "trials" / best.id / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    (place,) = (place for place, line in enumerate(lines) if b'"validated"' in line)
    lines[place] = lines[place].replace(b"0.001", b"0.901")
    path.write_bytes(b"".join(lines))
    state = StudyState(running.folder)
    assert state.trials[best.id].doubtful
    running.state = state
    run_rounds(spec.calibration, grid, state, running.fence, running, state.refresh)
    assert (10, [1e-3]) in running.asked, "the damaged one is asked again"
    assert states(state)[1e-3] == ("finished", 40)


def test_any_other_study_is_one_round(trials, running):
    _, grid = trials
    run_rounds(None, grid, running.state, running.fence, running, running.state.refresh)
    assert [until for until, _ in running.asked] == [None]
