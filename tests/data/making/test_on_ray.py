"""What is asked of Ray Data for pieces of work."""

import pytest
import ray.data

from transvae_platform.data.making.on_ray import run_on_ray


class AskedError(Exception):
    """Instead of an execution."""


def test_a_piece_may_take_as_long_as_it_takes(monkeypatch):
    def from_items(*args, **options):
        raise AskedError

    context = ray.data.DataContext.get_current()
    monkeypatch.setattr(context, "execution_no_progress_timeout_s", 1800.0)  # put back after the test
    monkeypatch.setattr(ray.data, "from_items", from_items)
    with pytest.raises(AskedError):
        run_on_ray(print, [{"shard": "s"}])
    assert context.execution_no_progress_timeout_s == -1
