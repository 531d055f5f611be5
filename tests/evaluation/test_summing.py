"""Sums of groups, made anywhere, are those of all features at once."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from transvae_platform.data.making.work import run_locally
from transvae_platform.errors import UserError
from transvae_platform.evaluation import summing
from transvae_platform.evaluation.moments import Moments
from transvae_platform.evaluation.summing import moments_of

D = 6


@pytest.fixture
def pieces(tmp_path):
    """Pieces of unequal size, and all their features."""
    rng, work, every = np.random.default_rng(0), [], []
    for number, count in enumerate((3, 50, 1, 20, 20, 7)):
        path = tmp_path / f"features-{number:05d}.safetensors"
        values = rng.normal(size=(count, D)).astype(np.float32)
        save_file({"output": values}, path)
        work.append({"features": str(path), "items": count, "result": str(tmp_path / f"result-{number:05d}.json")})
        every.append(values)
    return work, np.concatenate(every)


@pytest.mark.parametrize("group", [1, 10, 40, 1000])
def test_groups_are_shared_and_their_sums_are_exact(pieces, tmp_path, monkeypatch, group):
    monkeypatch.setattr(summing, "GROUP", group)
    shared = []

    def mapper(function, work):
        shared.append([len(piece["features"]) for piece in work])
        for piece in work:
            assert json.loads(json.dumps(piece)) == piece  # travels as JSON
        return run_locally(function, list(reversed(work)))

    found = moments_of(pieces[0], "output", D, tmp_path, mapper)
    whole = Moments.empty(D)
    whole.add(pieces[1])
    expected = whole.gaussian()
    assert found.count == 101
    assert found.mean.tobytes() == expected.mean.tobytes()
    assert found.covariance.tobytes() == expected.covariance.tobytes()
    if group == 1000:
        assert not shared  # one group is summed here
    else:
        assert sum(shared[0]) == 6
        assert len(shared[0]) > 1
    assert not list(tmp_path.glob("sums-*"))


def test_sums_that_are_there_are_not_made_again(pieces, tmp_path, monkeypatch):
    monkeypatch.setattr(summing, "GROUP", 10)
    done = []

    def killed(function, work):
        for piece in list(work)[:2]:
            function(piece)
            yield piece
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moments_of(pieces[0], "output", D, tmp_path, killed)
    moments_of(
        pieces[0], "output", D, tmp_path, lambda function, work: done.extend(work) or run_locally(function, work)
    )
    assert len(done) == len(summing._groups(pieces[0])) - 2


def test_features_that_are_missing_are_named(pieces, tmp_path):
    told = r"kept moments of the originals were removed .* the same command .* features-00000"
    with pytest.raises(UserError, match=told):
        moments_of(pieces[0], "original", D, tmp_path, run_locally)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_sums_that_were_half_removed_are_made_again(pieces, tmp_path, monkeypatch, after):
    monkeypatch.setattr(summing, "GROUP", 10)
    whole = moments_of(pieces[0], "output", D, tmp_path, run_locally)
    unlink, gone = Path.unlink, []

    def dies(self, missing_ok=False):
        if self.exists():
            if len(gone) == after:
                raise KeyboardInterrupt
            gone.append(self)
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            moments_of(pieces[0], "output", D, tmp_path, run_locally)
    again = moments_of(pieces[0], "output", D, tmp_path, run_locally)
    assert again.covariance.tobytes() == whole.covariance.tobytes()
