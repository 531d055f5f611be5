"""The order of samples is a pure function: every id once per epoch, the same batches for any number of workers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transvae_platform.data.order import batch_ids, coin_flips, epoch_permutation


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 200), batch=st.integers(1, 64), seed=st.integers(0, 2**31 - 1), epochs=st.integers(1, 3))
def test_every_id_exactly_once_per_epoch(samples, batch, seed, epochs):
    steps = -(-epochs * samples // batch)
    batches = [batch_ids(samples, batch, seed, step) for step in range(steps)]
    ids, of = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert (np.diff(of) >= 0).all()
    for epoch in range(epochs):
        assert sorted(ids[of == epoch]) == list(range(samples))


def test_batch_across_the_edge_of_an_epoch():
    ids, epochs = batch_ids(10, 4, seed=3, step=2)
    assert epochs.tolist() == [0, 0, 1, 1]
    assert ids.tolist() == [*epoch_permutation(10, 3, 0)[8:], *epoch_permutation(10, 3, 1)[:2]]


def test_step_is_reached_without_those_before_it():
    walked = [batch_ids(50, 8, 1, step)[0].tolist() for step in range(40)]
    epoch_permutation.cache_clear()
    assert batch_ids(50, 8, 1, 39)[0].tolist() == walked[39]
    epoch_permutation.cache_clear()
    assert batch_ids(50, 8, 1, 3)[0].tolist() == walked[3]


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = {tuple(epoch_permutation(40, seed, epoch)) for seed in range(6) for epoch in range(6)}
    assert len(orders) == 36


def test_cached_order_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        epoch_permutation(5, 0, 0)[0] = 3


def test_coins_are_fair_and_independent():
    ids = np.arange(4000)

    def flips(seed, epoch):
        return coin_flips(seed, ids, np.full_like(ids, epoch))

    tosses = [flips(seed, epoch) for seed in range(3) for epoch in range(3)]
    for toss in tosses:
        assert abs(toss.mean() - 0.5) < 0.04  # five standard deviations
    for index, a in enumerate(tosses):
        for b in tosses[index + 1 :]:
            assert abs((a == b).mean() - 0.5) < 0.04
    assert (flips(2, 1) == flips(2, 1)).all()


def test_coin_belongs_to_the_sample_wherever_it_stands():
    ids, epochs = np.array([9, 4, 7]), np.array([0, 1, 0])
    together = coin_flips(5, ids, epochs)
    apart = [coin_flips(5, ids[i : i + 1], epochs[i : i + 1])[0] for i in range(3)]
    assert together.tolist() == apart
