"""The order of samples is a pure function: every id once per epoch, the same batches for any number of workers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transvae_platform.data.stream.hashing import Purpose, coin_flips, keys
from transvae_platform.data.stream.order import FullOrder, ShardOrder, permute
from transvae_platform.data.stream.pattern import MixedOrder, Pattern

SEEDS = st.integers(0, 2**31 - 1)


def order_keys(count, seed, epoch):
    return keys(Purpose.ORDER, seed, np.full(count, epoch))


def epochs_of(order, seed, positions):
    """The ids at positions, by epoch."""
    ids, epochs = order.ids_at(positions, seed)
    return {int(epoch): ids[epochs == epoch].tolist() for epoch in np.unique(epochs)}


@settings(max_examples=80, deadline=None)
@given(samples=st.integers(1, 300), seed=SEEDS, epochs=st.integers(1, 3))
def test_every_id_exactly_once_per_epoch(samples, seed, epochs):
    found = epochs_of(FullOrder(samples), seed, np.arange(samples * epochs))
    assert list(found) == list(range(epochs))
    assert all(sorted(ids) == list(range(samples)) for ids in found.values())


@settings(max_examples=60, deadline=None)
@given(
    records=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    window=st.integers(1, 5),
    seed=SEEDS,
    epochs=st.integers(1, 3),
)
def test_shard_order_covers_every_epoch_and_needs_few_shards_at_a_time(records, window, seed, epochs):
    order, total = ShardOrder(records, window), sum(records)
    found = epochs_of(order, seed, np.arange(total * epochs))
    owner = np.repeat(np.arange(len(records)), records)
    for ids in found.values():
        assert sorted(ids) == list(range(total))
        shards = owner[ids]
        last_use = {shard: place for place, shard in enumerate(shards.tolist())}
        first_use = {shard: place for place, shard in reversed(list(enumerate(shards.tolist())))}
        at_once = [
            sum(first_use[s] <= place <= last_use[s] for s in first_use)
            for place in range(0, total, max(1, total // 9))
        ]
        assert max(at_once) <= window


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 200), batch=st.integers(1, 64), seed=SEEDS, start=st.integers(0, 500),
    window=st.none() | st.integers(1, 3),
)  # fmt: skip
def test_any_step_is_reached_without_those_before_it(samples, batch, seed, start, window):
    order = FullOrder(samples) if window is None else ShardOrder([samples, 3, 5], window)
    positions = np.arange(start * batch + batch)
    whole, epochs = order.ids_at(positions, seed)
    part, part_epochs = order.ids_at(positions[start * batch :], seed)
    assert part.tolist() == whole[start * batch :].tolist()
    assert part_epochs.tolist() == epochs[start * batch :].tolist()


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = {tuple(permute(np.arange(40), 40, order_keys(40, seed, e))) for seed in range(6) for e in range(6)}
    assert len(orders) == 36
    windows = {tuple(ShardOrder([20, 20], 1).ids_at(np.arange(40) + 40 * e, s)[0]) for s in range(6) for e in range(6)}
    assert len(windows) == 36


def test_orders_look_random():
    # mean displacement and the correlation of neighbours of random permutations of n: n/3, 0
    n = 20_000
    order = permute(np.arange(n), n, order_keys(n, 7, 0))
    assert abs(np.abs(order - np.arange(n)).mean() / n - 1 / 3) < 0.01
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03
    other = permute(np.arange(n), n, order_keys(n, 7, 1))
    assert abs(np.corrcoef(order, other)[0, 1]) < 0.03


@pytest.mark.parametrize("order", [FullOrder, lambda n: ShardOrder([n // 2, n - n // 2], 1)])
def test_any_position_of_a_large_set_is_reached_at_once(order):
    n = 1_281_167
    ids, epochs = order(n).ids_at(np.arange(5_000_000_000, 5_000_000_256), 3)
    assert epochs.tolist() == [5_000_000_000 // n] * 256
    assert len(set(ids.tolist())) == 256
    assert 0 <= ids.min() <= ids.max() < n


def test_mixture_has_exact_shares_and_each_part_its_own_order():
    mixed = MixedOrder([FullOrder(30), FullOrder(7)], [30, 7], [3, 1])
    ids, epochs = mixed.ids_at(np.arange(1024), 5)
    assert ((ids < 30).sum(), (ids >= 30).sum()) == (768, 256)
    alone = FullOrder(7).ids_at(np.arange(256), 5 ^ 1 << 32)
    assert (ids[ids >= 30] - 30).tolist() == alone[0].tolist()
    assert epochs[ids >= 30].tolist() == alone[1].tolist()
    later = mixed.ids_at(np.arange(700, 900), 5)
    assert later[0].tolist() == ids[700:900].tolist()


def test_parts_of_one_size_do_not_go_in_step_and_turns_depend_on_the_seed():
    mixed = MixedOrder([FullOrder(50), FullOrder(50)], [50, 50], [1, 1])
    ids, _ = mixed.ids_at(np.arange(100), 5)
    assert ids[ids < 50].tolist()[:20] != (ids[ids >= 50] - 50).tolist()[:20]
    other, _ = mixed.ids_at(np.arange(100), 6)
    assert (ids < 50).tolist() != (other < 50).tolist()


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.floats(0.05, 10), min_size=1, max_size=6), seed=SEEDS)
def test_pattern_counts_each_stream_from_zero_without_gaps(weights, seed):
    which, within = Pattern(weights, Purpose.MIXTURE, seed).at(np.arange(3000))
    for index, weight in enumerate(weights):
        mine = within[which == index]
        assert mine.tolist() == list(range(len(mine)))
        assert abs(len(mine) / 3000 - weight / sum(weights)) < 0.06


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
