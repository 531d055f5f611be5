"""All losses on two processes are those of one with the same global batch, in the real loop."""

import pytest
import torch
from tests.training.conftest import make_trial
from tests.training.ranks import as_ranks
from tests.training.test_sharding import ALL, assert_close, curve, train_rank
from tests.training.test_stages import state

ADAPTIVE = ("train/vf_random_weight", "train/gan_weight")


class PerImage(torch.nn.GroupNorm):
    """Stands in for BatchNorm, which sees each process's own images (as in VA-VAE) and so depends on their number."""

    def __init__(self, channels, **_):
        super().__init__(1, channels)


def test_two_ranks_have_the_losses_and_adaptive_weights_of_one(home, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn, "BatchNorm2d", PerImage)  # in the ranks, too: they are forked from here
    work = make_trial(home, **{**ALL, "resources__accumulate": 1, "recipe__steps": 5, "recipe__batch_size": 4})
    for size in (1, 2):
        as_ranks(size, tmp_path / str(size), train_rank, work, samples, tmp_path / str(size))
    one, two = curve(tmp_path / "1"), curve(tmp_path / "2")
    for name in ADAPTIVE:
        weights = [metrics[name] for metrics in one.values() if name in metrics]
        assert len(set(weights)) == len(weights) >= 2
    for step, metrics in one.items():
        # float32 sums in another order, no more
        assert two[step] == pytest.approx(metrics, rel=1e-3, abs=2e-5)
    assert_close(state(tmp_path / "2"), state(tmp_path / "1"), 5e-3)
