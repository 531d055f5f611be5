"""One of two gloo processes that train until a notice: two_noticed_ranks.py RANK FOLDER (with trial.json, home.txt).

As with Ray, a notice reaches the ranks at different times, and asking for it is a collective: rank 0 decides.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from transvae_platform.data.sets.samples import open_data
from transvae_platform.study.grid import Trial
from transvae_platform.study.journal import Journal
from transvae_platform.training import loop, preemption
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import Notice, World

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
trial = Trial.model_validate_json((folder / "trial.json").read_text())
samples = open_data(str(Path((folder / "home.txt").read_text(), "data", trial.data_fingerprint)), folder, 10**9)
preemption.STRIDE = 2
reached = {0: 3, 1: 1}[rank]  # the step from which this rank's node knows
asked, step = 0, 0
advance = TrialWeights.advance


def count(self):
    global step
    advance(self)
    step = self.step


def notice():
    global asked
    asked += 1
    known = [Notice(("node-a",), 1000.0) if step >= reached else None]
    dist.broadcast_object_list(known, src=0)
    return known[0]


class TornDownError(Exception):
    pass


def hold(notice):
    raise TornDownError


TrialWeights.advance, loop.hold = count, hold
world = World(rank, 2, wrap=torch.nn.parallel.DistributedDataParallel, notice=notice)
journal = Journal(folder / "journal.jsonl") if rank == 0 else None
try:
    loop.train_vae(trial, samples, folder, journal, world, {})
except TornDownError:
    (folder / f"rank{rank}.json").write_text(json.dumps({"held_at": step, "asked": asked}))
dist.destroy_process_group()
