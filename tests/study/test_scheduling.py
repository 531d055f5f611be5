"""Who starts next: order, reservations, dependencies, budget; and that no trial ever gets slots that are not there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from transvae_platform.study.ordering import good_order
from transvae_platform.study.scheduling import Agenda, Policy, Running, Work
from transvae_platform.study.simulation import Nodes, lower_bound, makespan, simulate


def works(*pieces):
    return tuple(Work(f"w{index}", slots, seconds) for index, (slots, seconds) in enumerate(pieces))


def chosen(policy, waiting, running=(), ended=(), now=0.0, spent=0.0):
    return [work.id for work in policy.choose(set(waiting), list(running), set(ended), now, spent)]


def policy(pieces, capacity, **options):
    return Policy(Agenda(pieces, {"gpu": capacity}, **options))


def test_the_longest_begins_first_and_the_short_fill_up():
    pieces = works((2, 10), (2, 30), (2, 20), (1, 5))
    assert chosen(policy(pieces, 5), ["w0", "w1", "w2", "w3"]) == ["w1", "w2", "w3"]


def test_a_large_trial_is_not_passed_by_work_that_would_delay_it():
    large, short, long = Work("large", 4, 50.0), Work("short", 1, 8.0), Work("long", 1, 40.0)
    running = [Running(Work("a", 2, 10.0), 10.0)]
    all_three = Policy(Agenda((large, short, long, running[0].work), {"gpu": 4}))
    # two slots are free until 10, when the large one gets all four: the short one ends before, the long one would not
    assert chosen(all_three, ["large", "short", "long"], running) == ["short"]


def test_what_needs_none_of_the_reserved_slots_may_be_long():
    large, long = Work("large", 3, 50.0), Work("long", 1, 40.0)
    running = [Running(Work("a", 2, 10.0), 10.0)]
    assert chosen(Policy(Agenda((large, long, running[0].work), {"gpu": 4})), ["large", "long"], running) == ["long"]


def test_a_trial_that_is_late_blocks_nothing():
    large, short = Work("large", 2, 50.0), Work("short", 1, 8.0)
    late = [Running(Work("late", 1, 10.0), 10.0)]
    assert chosen(Policy(Agenda((large, short, late[0].work), {"gpu": 2})), ["large", "short"], late, now=99.0) == []
    assert chosen(Policy(Agenda((large, short), {"gpu": 2})), ["large", "short"], now=100.0) == ["large"]


def test_priority_comes_before_length_and_a_given_order_between_them():
    first = Work("first", 1, 1.0, priority=1)
    rest = works((1, 10), (1, 20))
    assert chosen(policy((first, *rest), 1), ["first", "w0", "w1"]) == ["first"]
    assert chosen(policy(rest, 1, order=("w0", "w1")), ["w0", "w1"]) == ["w0"]


def test_who_waits_for_others_starts_after_them_and_their_whole_chain_counts():
    parent, child, other = Work("vae", 1, 5.0), Work("dit", 1, 20.0, after=("vae",)), Work("other", 1, 10.0)
    queue = policy((other, parent, child), 1)
    assert chosen(queue, ["vae", "dit", "other"]) == ["vae"], "25 s of work hang on it"
    assert chosen(queue, ["dit", "other"], ended=["vae"]) == ["dit"]
    assert chosen(queue, ["dit", "other"]) == ["other"], "the VAE did not end well"


def test_who_waits_for_one_that_failed_never_starts():
    chain = (Work("a", 1, 1.0), Work("b", 1, 1.0, after=("a",)), Work("c", 1, 1.0, after=("b",)), Work("d", 1, 1.0))
    assert policy(chain, 1).hopeless(["b", "c", "d"], ["a"]) == {"b", "c"}


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((Work("a", 1, 1.0, after=("b",)), Work("b", 1, 1.0, after=("a",))), "wait for each other: a, b"),
        ((Work("a", 1, 1.0, after=("gone",)),), "a waits for gone, which does not exist"),
    ],
)
def test_circles_and_gaps_are_named(pieces, message):
    with pytest.raises(ValueError, match=message):
        policy(pieces, 1)


def test_a_budget_lets_in_what_fits_into_what_is_left():
    queue = policy(works((2, 30), (1, 20), (1, 10)), 8, budget=50.0)
    assert chosen(queue, ["w0", "w1", "w2"]) == ["w1", "w2"], "w0 would cost 60"
    held = [Running(Work("w0", 2, 30.0), 30.0)]
    assert chosen(policy(works((2, 30), (1, 20)), 8, budget=75.0), ["w1"], held, now=10.0, spent=20.0) == []
    assert chosen(policy(works((2, 30), (1, 15)), 8, budget=75.0), ["w1"], held, now=10.0, spent=20.0) == ["w1"]


def test_kinds_of_slots_do_not_meet():
    pieces = (Work("a", 1, 1.0, "cpu"), Work("b", 1, 1.0, "gpu"))
    assert chosen(Policy(Agenda(pieces, {"cpu": 1, "gpu": 1})), ["a", "b"]) == ["a", "b"]


piece = some.tuples(some.integers(1, 16), some.floats(1.0, 1000.0))


@settings(deadline=None)
@given(some.lists(piece, min_size=1, max_size=25), some.integers(0, 5), some.sampled_from([0.0, 2.0]))
def test_every_trial_ends_once_and_never_on_slots_that_are_not_there(pieces, seed, hourly):
    listed = works(*pieces)
    outcome = simulate(listed, Nodes(16, size=8, hourly=hourly, seed=seed))
    assert outcome.ends.keys() == {work.id for work in listed}
    assert outcome.seconds >= lower_bound(listed, 16) * (1 - 1e-12)
    assert outcome.wasted >= -1e-6 * outcome.held
    edges = sorted(edge for start, end, slots in outcome.spans for edge in ((start, slots), (end, -slots)))
    held = 0
    for _, change in sorted(edges, key=lambda edge: (edge[0], edge[1])):  # at one moment, ends before starts
        held += change
        assert held <= 16


@settings(deadline=None, max_examples=20)
@given(some.lists(piece, min_size=1, max_size=12))
def test_the_order_that_is_found_is_never_worse_than_by_length(pieces):
    listed = works(*pieces)
    order = good_order(listed, 16)
    assert sorted(order) == sorted(work.id for work in listed)
    assert simulate(listed, Nodes(16), order).seconds <= simulate(listed, Nodes(16)).seconds * (1 + 1e-12)


def test_larger_pieces_wait_for_their_slots():
    pieces = works((2, 10.0), (1, 5.0), (2, 1.0))
    assert makespan(pieces, {"gpu": 2}, ["w0", "w1", "w2"]) == 16.0
    assert makespan((Work("a", 8, 10.0), Work("b", 1, 3.0, "cpu")), {"gpu": 4, "cpu": 1}) == 10.0
    assert makespan([], {}) == 0.0


def test_a_preemption_costs_the_restart_and_what_was_not_saved():
    (work,) = works((8, 36_000.0))
    nodes = Nodes(16, hourly=0.1, restart=60.0, lost=100.0, seed=3)
    outcome = simulate([work], nodes)
    assert outcome.preemptions > 0
    assert outcome.seconds == pytest.approx(36_000 + 160 * outcome.preemptions)
    assert outcome.wasted == pytest.approx(8 * 160 * outcome.preemptions)


def test_a_trial_of_one_node_waits_for_one_and_does_not_span_two():
    # of two nodes with 4 slots each 3 are taken: 2 are free, but on different nodes
    pieces = (Work("a", 3, 10.0, priority=2), Work("b", 3, 20.0, priority=2), Work("c", 2, 5.0))
    outcome = simulate(pieces, Nodes(8, size=4))
    assert outcome.ends["c"] == 15.0


def test_the_cost_follows_the_price():
    outcome = simulate(works((2, 7200.0)), Nodes(2))
    assert outcome.cost([(0.0, 1.0)]) == pytest.approx(4.0)
    assert outcome.cost([(0.0, 1.0), (3600.0, 3.0)]) == pytest.approx(8.0)


def test_what_can_never_run_is_refused():
    with pytest.raises(ValueError, match="w0 needs 9 slots of 8"):
        simulate(works((9, 1.0)), Nodes(8))
