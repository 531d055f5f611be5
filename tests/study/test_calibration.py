"""What a calibration's journals say: the best rate of a size, whether it serves the next, who ends early."""

import math

import pytest

from transvae_platform.errors import SpecError
from transvae_platform.study.calibration import (
    Outcome,
    find_rates,
    outcomes,
    rates_of,
    slower_rates,
    transfer,
    undecided,
)
from transvae_platform.study.state import StudyState

RATES = [1e-3, 2e-3, 4e-3]
STEPS, EARLY = 40, 20


class Runs:
    """A calibration of two sizes, its trials run by hand."""

    def __init__(self, writer, **changes):
        self.writer = writer(
            study="sweep", calibration={"learning_rates": RATES, "stop_at": [EARLY]},
            grid__families={"transvae": ["T", "B"]}, **changes,
        )  # fmt: skip
        self.writer.submit()
        self.journals = {trial.id: self.writer.queue(trial) for trial in self.writer.trials}

    def run(self, size, rate, loss, until=STEPS, seed=0):
        trial = next(
            trial
            for trial in self.writer.trials
            if (trial.size, trial.recipe.learning_rate, trial.seed) == (size, rate, seed)
        )
        journal = self.journals[trial.id]
        journal.append("started", resumed_from=0)
        journal.append("validated", step=until, metrics={"val/l1": loss})
        journal.append("paused" if until < STEPS else "finished", step=until, metrics={"val/l1": loss})
        return journal

    @property
    def state(self):
        return StudyState(self.writer.folder)


@pytest.fixture
def runs(writer):
    return lambda **changes: Runs(writer, **changes)


def ended(state, keep=0.5):
    return {trial.trial.label: reason for trial, reason in slower_rates(state, EARLY, keep)}


def test_the_worse_rates_of_a_size_end_and_those_of_another_do_not_matter(runs):
    study = runs()
    for rate, loss in zip(RATES, (0.3, 0.1, 0.2), strict=True):
        study.run("T", rate, loss, EARLY)
        study.run("B", rate, loss / 100, EARLY)
    assert ended(study.state) == {
        "transvae-T-lr-0.001": "val/l1 0.3 at step 20; 0.002, 0.004 did better",
        "transvae-B-lr-0.001": "val/l1 0.003 at step 20; 0.002, 0.004 did better",
    }
    assert len(ended(study.state, keep=0.1)) == 4, "one rate of each size always goes on"


def test_nobody_ends_before_all_rates_of_the_size_stand_there(runs):
    study = runs()
    study.run("T", RATES[0], 0.9, EARLY)
    study.run("T", RATES[1], 0.1, EARLY)
    assert ended(study.state) == {}
    study.run("T", RATES[2], 0.2, EARLY)
    assert list(ended(study.state)) == ["transvae-T-lr-0.001"]


def test_a_rate_that_broke_down_has_no_place_and_one_without_a_number_is_last(runs):
    study = runs()
    study.run("T", RATES[0], 0.9, EARLY)
    study.run("T", RATES[1], None, EARLY)
    study.run("T", RATES[2], 0.1, 10).append("stopped", step=10, reason="nan")
    assert ended(study.state) == {"transvae-T-lr-0.002": "val/l1 unknown at step 20; 0.001 did better"}


def test_a_rate_that_failed_otherwise_leaves_its_size_undecided(runs):
    study = runs()
    for rate in RATES:
        study.run("B", rate, rate, EARLY)
        journal = study.run("T", rate, rate, EARLY if rate != RATES[2] else 10)
    journal.append("failed", reason="killed")
    assert list(ended(study.state)) == ["transvae-B-lr-0.004"]
    assert {study.state.trials[name].trial.size for name in undecided(study.state, EARLY)} == {"T"}


def test_the_decision_stands_when_it_is_taken_again(runs):
    study = runs()
    for rate, loss in zip(RATES, (0.3, 0.1, 0.2), strict=True):
        journal = study.run("T", rate, loss, EARLY)
        if loss == 0.3:
            journal.append("stopped", step=EARLY, reason="worse")
    assert ended(study.state) == {}, "the one that was ended still counts as entered"


def test_best_rate_by_size_and_the_largest_tried_size_for_the_rest(runs):
    study = runs()
    for rate, small, large in zip(RATES, (0.3, 0.1, 0.2), (0.25, 0.3, 0.5), strict=True):
        study.run("T", rate, small)
        study.run("B", rate, large)
    found = outcomes(study.state)
    assert [(o.size, o.best, o.at_edge) for o in found] == [("T", 2e-3, False), ("B", 1e-3, True)]
    assert rates_of(found) == {
        "transvae-T": 2e-3, "transvae-B": 1e-3, "transvae-L": 1e-3, "transvae-H": 1e-3, "transvae-G": 1e-3,
        "transvae-giant_printed": 1e-3,
    }  # fmt: skip
    assert transfer(found) == [
        (
            "transvae",
            "T to B: the best rate moves from 0.002 to 0.001 (at the edge of what was tried: the optimum may lie "
            "beyond); keeping 0.002 costs B 20.0% of its loss",
        )
    ]


def test_a_rate_counts_with_all_its_seeds(runs):
    study = runs(grid__seeds=(0, 1))
    for seed, losses in enumerate([(0.3, 0.1, 0.2), (0.3, 0.4, 0.2)]):
        for rate, loss in zip(RATES, losses, strict=True):
            study.run("T", rate, loss, seed=seed)
    (found,) = outcomes(study.state)
    assert (found.best, found.losses[2e-3]) == (4e-3, 0.25)
    study.run("T", 4e-3, 0.2, seed=1).append("failed", reason="nan at step 3")
    (found,) = outcomes(study.state)
    assert (found.best, found.ended) == (2e-3, {4e-3: "nan at step 3"})


def test_the_optimum_is_that_of_the_parabola():
    """L = (ln r - ln 0.003)^2 + 1 has its lowest point at 0.003, wherever it is sampled."""
    rates = (1e-3, 2e-3, 4e-3, 8e-3)
    losses = {rate: math.log(rate / 3e-3) ** 2 + 1 for rate in rates}
    assert Outcome("vit", "T", losses, {}).optimum == pytest.approx(3e-3, rel=1e-9)
    assert Outcome("vit", "T", losses, {1e-2: "stopped"}).optimum == pytest.approx(3e-3, rel=1e-9)
    assert Outcome("vit", "T", {1e-3: 1.0, 2e-3: 2.0}, {}).optimum is None
    assert Outcome("vit", "T", {2e-3: 1.0, 4e-3: 2.0}, {1e-3: "stopped"}).optimum is None
    assert Outcome("vit", "T", {1e-3: 1.5, 2e-3: 1.0, 4e-3: 1.0}, {}).optimum == pytest.approx(2e-3 * 2**0.5)


def test_what_one_rate_costs_the_next_size_or_why_it_is_not_known():
    small, large = {1e-3: 2.0, 2e-3: 1.0, 4e-3: 3.0}, {1e-3: 2.0, 2e-3: 1.0, 4e-3: 3.0}
    (same,) = transfer([Outcome("vit", "T", small, {}), Outcome("vit", "B", large, {})])
    assert same == ("vit", "T to B: 0.002 is best at both")
    ended = Outcome("vit", "B", {1e-3: 2.0, 4e-3: 3.0}, {5e-4: "x", 2e-3: "stopped"})
    (unknown,) = transfer([Outcome("vit", "T", small, {}), ended])
    assert unknown[1].endswith("the best rate moves from 0.002 to 0.001; 0.002 at B: stopped")
    assert transfer([Outcome("vit", "T", small, {}), Outcome("cnn", "B", large, {})]) == []


@pytest.fixture
def asking(spec):
    return lambda **changes: spec(**{"study": "grid", "recipe__learning_rate": {"calibrated": "sweep"}, **changes})


def test_a_study_takes_the_rates_of_its_home(runs, asking, tmp_path):
    study = runs()
    for size in "TB":
        for rate, loss in zip(RATES, (0.3, 0.1, 0.2), strict=True):
            study.run(size, rate, loss)
    assert find_rates(asking(), tmp_path)["transvae-G"] == 2e-3
    with pytest.raises(SpecError, match=r"the study 'sweep' is for recipe.batch_size 8, not 16 - calibrate"):
        find_rates(asking(recipe__batch_size=16), tmp_path)


def test_a_size_at_which_every_rate_broke_down_has_none_and_no_larger_one_takes_another(runs, asking, tmp_path):
    study = runs()
    for rate in RATES:
        study.run("T", rate, rate)
        study.run("B", rate, None, 10).append("stopped", step=10, reason="nan")
    assert find_rates(asking(), tmp_path) == {"transvae-T": 1e-3}


def test_a_study_goes_on_with_the_rates_it_began_with(runs, asking, writer, tmp_path):
    begun = writer(study="grid", recipe__learning_rate=0.02)
    begun.submit()
    for trial in begun.trials:
        begun.queue(trial)
    known = StudyState(begun.folder)
    assert find_rates(asking(), tmp_path, known) == {"transvae-T": 0.02, "transvae-B": 0.02, "cnn-T": 0.02}
    runs()
    with pytest.raises(SpecError, match="6 trials of the study 'sweep' are not finished"):
        find_rates(asking(), tmp_path)


def test_a_calibration_that_is_missing_unfinished_or_none_is_named(runs, asking, writer, tmp_path):
    with pytest.raises(SpecError, match="holds no study 'sweep' - submit it first"):
        find_rates(asking(), tmp_path)
    runs().run("T", RATES[0], 0.1)
    with pytest.raises(SpecError, match="5 trials of the study 'sweep' are not finished - submit it again"):
        find_rates(asking(), tmp_path)
    writer(study="plain").submit()
    with pytest.raises(SpecError, match="the study 'plain' is no calibration"):
        find_rates(asking(recipe__learning_rate={"calibrated": "plain"}), tmp_path)
    with pytest.raises(SpecError, match="plain and sweep are named as calibration - name one"):
        find_rates(asking(recipe__overrides={"*": {"learning_rate": {"calibrated": "plain"}}}), tmp_path)
