"""A home that was moved or copied: its store speaks of where it is now, and of nothing that may be another's."""

import shutil
import sqlite3
from contextlib import closing

import mlflow
import pytest
import torch

from transvae_platform.errors import UnreachableError
from transvae_platform.study.lease import wait_for_lease
from transvae_platform.tracking import moved
from transvae_platform.tracking.moved import earlier_homes, follow_move
from transvae_platform.tracking.registry import load_model, register_best
from transvae_platform.tracking.runs import Tracker
from transvae_platform.tracking.server import connect


@pytest.fixture(autouse=True)
def _back(uri):
    """MLflow finds the models of the other tests again: it remembers the last store of the process."""
    yield
    mlflow.set_tracking_uri(uri)


def every_text(store):
    """All texts of a database."""
    with closing(sqlite3.connect(store)) as opened:
        tables = [name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [
            cell for table in tables for row in opened.execute(f"SELECT * FROM {table}") for cell in row
            if isinstance(cell, str)
        ]  # fmt: skip


@pytest.fixture
def small(tmp_path):
    """A home whose store holds addresses of a study at `before/`; the table of the versions may be left out."""

    def make(*tables):
        home = tmp_path / "home"
        (home / "mlartifacts" / "study").mkdir(parents=True)
        with closing(sqlite3.connect(home / "mlflow.db")) as store, store:
            for table in tables:
                columns = moved.ADDRESSES[table]
                store.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
                address = f"{(tmp_path / 'before' / 'mlartifacts').as_uri()}/study"
                store.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", [address] * len(columns))
        return home

    return make


def test_models_of_a_copied_home_are_its_own(client, server, study, home, tmp_path):
    trial = study.trials[0]
    study.train(trial, 20.0, seed=3)
    state = study.state()
    tracker = Tracker(server, state, home)
    assert tracker.send(now=True)
    known = state.trials[trial.id]
    version = register_best(client, tracker.experiment_id, tracker.run_id(known), known)
    copy, name = tmp_path / "copy", study.spec.study
    shutil.copytree(home / "mlartifacts" / name, copy / "mlartifacts" / name)
    shutil.copytree(study.folder, copy / "studies" / name)
    shutil.copy(home / "mlflow.db", copy / "mlflow.db")
    assert earlier_homes(copy) == [str(home)]
    there = f"{home.as_uri()}/mlartifacts"
    loaded = load_model(version["uri"], home=copy)
    original = load_model(version["uri"], home=home)
    assert all(map(torch.equal, loaded.parameters(), original.parameters()))
    assert not [text for text in every_text(copy / "mlflow.db") if there in text]
    assert earlier_homes(copy) == []
    assert [text for text in every_text(home / "mlflow.db") if there in text], "the other home keeps its own"
    ours = connect(f"sqlite:///{copy / 'mlflow.db'}", copy)
    ours.log_text(ours.create_run(tracker.experiment_id).info.run_id, "late", "late.txt")
    assert list(copy.rglob("late.txt"))
    assert not list(home.rglob("late.txt"))


def test_the_whole_store_is_rewritten_or_nothing_of_it(small, tmp_path):
    home = small("experiments", "runs")  # no more tables: the third step fails
    before = every_text(home / "mlflow.db")
    with pytest.raises(UnreachableError, match=r"was moved from .*before, .* cannot be rewritten .*no such table"):
        follow_move(home)
    assert every_text(home / "mlflow.db") == before


def test_nothing_is_rewritten_while_a_study_may_run_at_the_other_path(small):
    home = small(*moved.ADDRESSES)
    before = every_text(home / "mlflow.db")
    with wait_for_lease(home / "studies" / "study", pytest.fail):
        with pytest.raises(UnreachableError, match=r"holds its study study - use that path .* delete .*lease.json"):
            follow_move(home)
        assert every_text(home / "mlflow.db") == before
    follow_move(home)
    assert every_text(home / "mlflow.db") == [f"{(home / 'mlartifacts').as_uri()}/study"] * len(before)


def test_a_home_that_still_has_its_other_name_was_not_moved(small, tmp_path):
    home = small(*moved.ADDRESSES)
    (tmp_path / "before").symlink_to(home)
    assert earlier_homes(home) == []


def test_studies_of_another_home_in_this_store_stay_there(small):
    home = small(*moved.ADDRESSES)
    shutil.rmtree(home / "mlartifacts" / "study")
    assert earlier_homes(home) == []


def test_a_store_that_cannot_be_read_is_told_by_whoever_connects(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"?" * 4096)
    assert earlier_homes(tmp_path) == []
    with pytest.raises(UnreachableError, match="move the file away"):
        connect(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
