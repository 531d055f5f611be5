"""Nodes that are taken away under real Ray, with and without a notice of the cloud."""

from contextlib import ExitStack

import pytest
from tests.faults import nodes
from tests.faults.test_worker_killed import weights

pytestmark = pytest.mark.fault
NOTICE_SECONDS = 15.0


def test_a_spot_notice_loses_no_step_and_is_not_charged(bench):
    bench.fill_up()
    # no failure is allowed: what the loss of the node were charged to
    (trial,) = bench.trials("grid.families={vit: [T]}", "resources.max_failures=0")

    def meanwhile(folders):
        (folder,) = folders.values()
        nodes.wait_for_step(folder, 50)
        node, _ = bench.rank_0(folder)
        deadline = notify[node.node_id](NOTICE_SECONDS)
        (preempted,) = nodes.until(lambda: nodes.events(folder, "preempted"))
        assert preempted["at"] < deadline
        assert (preempted["deadline"], preempted["nodes"]) == (deadline, [node.node_id])
        nodes.until(lambda: nodes.time.time() > deadline)
        bench.lose(node)

    with ExitStack() as watchers:
        notify = {node.node_id: watchers.enter_context(nodes.spot_watch(node)) for node in bench.workers}
        (folder,) = bench.run("notice", (trial,), meanwhile).values()
    (preempted,) = nodes.events(folder, "preempted")
    assert preempted["step"] % nodes.EVERY, "the checkpoint was one of its own"
    assert [record["resumed_from"] for record in nodes.events(folder, "started")] == [0, preempted["step"]]
    assert nodes.lost_steps(folder) == 0
    assert not nodes.events(folder, "failed")
    twin, moved = weights(bench.train_here("notice-twin", trial)), weights(folder)
    assert all(bool((twin[key] == moved[key]).all()) for key in twin)


def test_a_node_lost_without_notice_costs_at_most_one_interval(bench):
    bench.fill_up()
    (trial,) = bench.trials("grid.families={vit: [T]}")

    def meanwhile(folders):
        (folder,) = folders.values()
        nodes.wait_for_step(folder, nodes.EVERY + 50)
        bench.lose(bench.rank_0(folder)[0])

    (folder,) = bench.run("loss", (trial,), meanwhile).values()
    assert nodes.events(folder, "finished")
    assert [record["resumed_from"] for record in nodes.events(folder, "started")] == [0, nodes.EVERY]
    assert 0 < nodes.lost_steps(folder) <= nodes.EVERY
    twin, moved = weights(bench.train_here("loss-twin", trial)), weights(folder)
    assert [key for key in twin if not (twin[key] == moved[key]).all()] == []
