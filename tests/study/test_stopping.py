"""A wish to stop meets the submission that it was meant for, and no other."""

import pytest

from transvae_platform.errors import UnreachableError, UserError
from transvae_platform.study.lease import wait_for_lease
from transvae_platform.study.stopping import WISH, ask_to_stop, asked_to_stop, wait_until_stopped


def test_a_wish_is_for_the_submission_that_runs_and_not_for_the_next(tmp_path):
    with wait_for_lease(tmp_path, print) as fence:
        assert not asked_to_stop(fence)
        assert ask_to_stop(tmp_path).startswith("process ")
        assert asked_to_stop(fence)
        assert not wait_until_stopped(tmp_path, 0.0)
    assert wait_until_stopped(tmp_path, 0.0)
    with wait_for_lease(tmp_path, print) as fence:
        assert not asked_to_stop(fence)


def test_what_is_not_running_cannot_be_stopped(tmp_path):
    with pytest.raises(UserError, match="no process runs study"):
        ask_to_stop(tmp_path)
    assert not (tmp_path / WISH).exists()


def test_a_folder_that_takes_no_wish_is_named(tmp_path):
    with wait_for_lease(tmp_path, print):
        (tmp_path / WISH).mkdir()
        with pytest.raises(UnreachableError, match=f"{tmp_path} cannot be written"):
            ask_to_stop(tmp_path)
