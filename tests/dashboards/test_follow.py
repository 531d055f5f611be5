"""Studies read as they grow: the state that a replay of all journals gives, and what is over is read once."""

import json

import numpy as np
import pytest

from transvae_dashboards.follow.columns import Columns
from transvae_dashboards.follow.spans import History
from transvae_dashboards.follow.store import FOLDER
from transvae_dashboards.follow.study import FollowedStudy
from transvae_dashboards.follow.thinning import kept
from transvae_platform.study.journal import Journal, JournalReader


@pytest.fixture
def read_paths(monkeypatch):
    """The journals that were read, by the name of their folder."""
    seen, real = [], JournalReader.new

    def new(self):
        seen.append(self._path.parent.name)
        return real(self)

    monkeypatch.setattr(JournalReader, "new", new)
    return seen


def curve(study, trial, name="train/l1"):
    return [list(part) for part in study.columns(study.trials[trial.id]).curve(name)]


def written(writer, trial, name="train/l1"):
    train = writer.state().trials[trial.id].train
    return [[float(step) for step in sorted(train)], [train[step]["metrics"][name] for step in sorted(train)]]


@pytest.fixture
def two(write_study):
    study = write_study({"vit": "TB"})
    study.submit()
    study.run(study.find("vit", "T"), resume=200)
    study.run(study.find("vit", "B"), until=300)
    return study


@pytest.mark.parametrize("stretch", [lambda x: x, np.log10])
def test_thinning_keeps_the_extremes_of_every_stretch(stretch):
    x = np.arange(1, 100_001, dtype=float)
    y = np.random.default_rng(0).standard_normal(len(x))
    y[[17, 50_000, 99_990]] = (40, -50, 60)
    chosen = kept(x, y, 300)
    assert len(chosen) <= 602
    assert {0, 17, 50_000, 99_990, len(x) - 1} <= set(chosen)
    assert (np.diff(chosen) > 0).all()
    # no part of either axis, a hundredth wide, loses its highest or lowest point
    places = np.digitize(stretch(x), np.linspace(stretch(x[0]), stretch(x[-1]), 50))
    for place in np.unique(places):
        inside = np.flatnonzero(places == place)
        if len(inside) > 20_000 / 50:
            assert y[inside].max() - y[np.intersect1d(inside, chosen)].max() < 0.6


def test_short_curves_are_whole_and_curves_that_go_back_lose_what_never_happened():
    columns = Columns()
    for step in range(10, 60, 10):
        columns.add(step, {"a": step / 10, "b": None if step == 20 else 1.0})
    columns.drop_after(30)
    columns.add(40, {"a": 9.0})
    columns.add(40, {"a": 8.0})
    assert [list(part) for part in columns.curve("a")] == [[10, 20, 30, 40], [1, 2, 3, 8]]
    assert [list(part) for part in columns.curve("b")] == [[10, 30], [1, 1]]
    assert len(columns.curve("unknown")[0]) == 0


def test_followed_study_equals_a_replay_of_its_journals(whole):
    replayed = whole.state()
    for stored in (False, True, True):  # read, read and kept, recalled
        followed = FollowedStudy(whole.folder, stored=stored)
        assert followed.submissions == replayed.submissions
        for name, trial in replayed.trials.items():
            found = followed.trials[name]
            differing = [key for key, value in vars(trial).items() if key != "train" and value != getattr(found, key)]
            assert differing == []
            assert found.train == {max(trial.train): trial.train[max(trial.train)]}
            assert curve(followed, trial.trial) == written(whole, trial.trial)


def test_trials_that_are_over_are_not_read_again(two, read_paths):
    over, running = two.find("vit", "T"), two.find("vit", "B")
    FollowedStudy(two.folder)
    del read_paths[:]
    again = FollowedStudy(two.folder)
    assert over.id not in read_paths
    assert running.id in read_paths
    assert curve(again, over) == written(two, over)
    version = again.version
    again.refresh()
    assert again.version == version


@pytest.mark.parametrize("harm", ["other journal", "other version", "array gone", "cut off"])
def test_store_that_does_not_fit_is_not_used(two, read_paths, harm):
    over = two.find("vit", "T")
    FollowedStudy(two.folder)
    note = two.folder / FOLDER / f"{over.id}.json"
    if harm == "other journal":
        (two.folder / "trials" / over.id / "journal.jsonl").unlink()
        two.run(over, resume=100)
    elif harm == "other version":
        note.write_text(json.dumps({**json.loads(note.read_text()), "version": 0}))
    elif harm == "array gone":
        next(note.parent.glob(f"{over.id}-*.npy")).unlink()
    else:
        note.write_text(note.read_text()[:-9])
    del read_paths[:]
    again = FollowedStudy(two.folder)
    assert over.id in read_paths
    assert curve(again, over) == written(two, over)


def test_where_nothing_can_be_kept_everything_is_read(two):
    (two.folder / FOLDER).write_text("a file is in the way")
    assert curve(FollowedStudy(two.folder), two.find("vit", "T")) == written(two, two.find("vit", "T"))


def test_trial_that_goes_on_after_its_end_is_read_from_its_beginning(two):
    trial = two.find("vit", "T")
    followed = FollowedStudy(two.folder)
    journal = Journal(two.folder / "trials" / trial.id / "journal.jsonl", clock=two.clock, steady=lambda: two.now)
    journal.append("queued")
    two._attempt(journal, trial, 300, 400, 0.5)
    journal.append("finished", step=400, metrics={"val/l1": 0.5})
    journal.close()
    followed.refresh()
    assert curve(followed, trial) == written(two, trial)
    assert [(span.resumed_from, span.how) for span in followed.history(followed.trials[trial.id]).spans] == [
        (0, "died"), (200, "finished"), (300, "finished"),
    ]  # fmt: skip


def test_long_studies_are_read_a_piece_at_a_time(two):
    ticks = iter(range(1000))
    study = FollowedStudy(two.folder, seconds=1.5, clock=lambda: float(next(ticks)))
    assert study.unread == 1
    study.refresh()
    assert study.unread == 0
    assert all(curve(study, two.find("vit", size)) == written(two, two.find("vit", size)) for size in "TB")


def test_spans_say_how_attempts_ended():
    history = History()
    for at, record in enumerate([
        {"event": "started", "resumed_from": 0}, {"event": "step", "step": 40},
        {"event": "started", "resumed_from": 20}, {"event": "preempted", "step": 50},
        {"event": "checkpoint", "step": 50},
        {"event": "queued"}, {"event": "started", "resumed_from": 50}, {"event": "failed"}, {"event": "queued"},
        {"event": "started", "resumed_from": 50}, {"event": "step", "step": 90},
    ]):  # fmt: skip
        history.take({"at": float(at), **record})
    assert [(s.start, s.end, s.resumed_from, s.step, s.how) for s in history.spans] == [
        (0, 1, 0, 40, "died"), (2, 4, 20, 50, "preempted"), (6, 7, 50, 50, "failed"), (9, 10, 50, 90, "running"),
    ]  # fmt: skip
