"""A lock is held by one at a time, whatever happens to its file, and leaves none."""

import threading
import time

import pytest

from transvae_platform.data.making.lock import locked


def test_one_at_a_time_and_nothing_stays(tmp_path):
    path, inside, most = tmp_path / "lock", [], []

    def work():
        for _ in range(50):
            with locked(path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 300
    assert not path.exists()


def test_a_held_lock_can_be_told_without_waiting_and_stays(tmp_path):
    path = tmp_path / "lock"
    with locked(path):
        with locked(path, wait=False) as is_ours:
            assert not is_ours
        assert path.exists()
    with locked(path, wait=False) as is_ours:
        assert is_ours


def test_a_failure_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
