"""How long until a trial trains again after losing a worker or a node, how many steps it repeats, what asking costs.

    python benchmarks/recovery.py OUTPUT.json [scenarios=killed,lost,noticed,asking]

A Ray cluster of a head and two worker nodes of one CPU each on this machine, and the smallest micro trial, one worker
(`tests/faults/nodes.py`). Seconds until the first new step begin where the work ended: at the kill, or, with a notice,
at the deadline, until when Ray Train waits. `asking` times `ray.train.get_preemption_info()` at 1 and 2 ranks beside
a step of the trial. Times depend on the machine's load, given with them: recovery is mostly imports of new processes.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "faults"))
import nodes

NOTICE_SECONDS = 15.0
CALLS = 200


def main() -> None:
    options = dict(argument.split("=") for argument in sys.argv[2:])
    chosen = options.get("scenarios", "killed,lost,noticed,asking").split(",")
    with tempfile.TemporaryDirectory() as home, nodes.bench(Path(home)) as bench:
        found = {name: {"load": os.getloadavg()[0], **SCENARIOS[name](bench)} for name in chosen}
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "ray")},
        "steps between checkpoints": nodes.EVERY,
        "scenarios": found,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def killed(bench: nodes.Bench) -> dict[str, Any]:
    return _without_notice(bench, "killed", lambda folder: nodes.kill(bench.rank_0(folder)[1]))


def lost(bench: nodes.Bench) -> dict[str, Any]:
    return _without_notice(bench, "lost", lambda folder: bench.lose(bench.rank_0(folder)[0]))


def _without_notice(bench: nodes.Bench, name: str, take: Any) -> dict[str, Any]:
    bench.fill_up()
    ended = []

    def meanwhile(folders: dict[str, Path]) -> None:
        (folder,) = folders.values()
        nodes.wait_for_step(folder, nodes.EVERY * 3 // 2)
        ended.append(time.time())
        take(folder)

    (folder,) = bench.run(name, bench.trials("grid.families={vit: [T]}"), meanwhile).values()
    return _recovery(folder, ended[0])


def noticed(bench: nodes.Bench) -> dict[str, Any]:
    bench.fill_up()
    times: dict[str, float] = {}

    def meanwhile(folders: dict[str, Path]) -> None:
        (folder,) = folders.values()
        nodes.wait_for_step(folder, nodes.EVERY // 4)
        node, _ = bench.rank_0(folder)
        times["given"], times["deadline"] = time.time(), notify[node.node_id](NOTICE_SECONDS)
        nodes.until(lambda: time.time() > times["deadline"])
        bench.lose(node)

    with ExitStack() as watchers:
        notify = {node.node_id: watchers.enter_context(nodes.spot_watch(node)) for node in bench.workers}
        (folder,) = bench.run("noticed", bench.trials("grid.families={vit: [T]}"), meanwhile).values()
    (saved,) = nodes.events(folder, "preempted")
    return {
        "seconds from notice to checkpoint": round(saved["at"] - times["given"], 2),
        **_recovery(folder, times["deadline"]),
    }


def _recovery(folder: Path, ended: float) -> dict[str, Any]:
    before, after = nodes.steps_of(folder, 1), nodes.steps_of(folder, 2)
    return {
        "seconds to the first new step": round(after[0]["at"] - ended, 2),
        "steps repeated": nodes.lost_steps(folder),
        "steps before": before[-1]["step"],
        "resumed at": after[0]["step"],
    }


def asking(bench: nodes.Bench) -> dict[str, Any]:
    import ray.train
    from ray.train.torch import TorchTrainer

    def ask() -> list[float]:
        times = []
        for _ in range(CALLS):
            began = time.perf_counter()
            ray.train.get_preemption_info()
            times.append((time.perf_counter() - began) * 1000)
        return times

    bench.fill_up()
    found: dict[str, Any] = {}
    for ranks in (1, 2):
        trainer = TorchTrainer(
            ask,
            scaling_config=ray.train.ScalingConfig(num_workers=ranks, resources_per_worker={"CPU": 1}),
            run_config=ray.train.RunConfig(name=f"ask-{ranks}", storage_path=str(bench.home / "ray")),
        )
        times = trainer.fit().return_value
        found[f"ms per call, {ranks} ranks"] = {"median": statistics.median(times), "mean": statistics.mean(times)}
    (trial,) = bench.trials("grid.families={vit: [T]}", "recipe.steps=100", "evaluation.every=100")
    steps = nodes.steps_of(bench.train_here("here", trial), 1)
    found["ms per step of the smallest trial"] = 1000 * statistics.median(step["seconds_per_step"] for step in steps)
    return found


SCENARIOS = {"killed": killed, "lost": lost, "noticed": noticed, "asking": asking}

if __name__ == "__main__":
    main()
