"""One of two gloo processes that train a trial together: two_ranks.py RANK FOLDER (with trial.json, home.txt)."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from transvae_platform.data.sets.samples import open_data
from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.study.grid import Trial
from transvae_platform.study.journal import Journal
from transvae_platform.training.loop import train_vae
from transvae_platform.world import World

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
trial = Trial.model_validate_json((folder / "trial.json").read_text())
samples = open_data(str(Path((folder / "home.txt").read_text(), "data", trial.data_fingerprint)), folder, 10**9)

seen = []
read_batch = TrainStream.batch


def note(self, step):
    batch = read_batch(self, step)
    seen.append(batch.ids.tolist())
    return batch


TrainStream.batch = note
world = World(rank, 2, wrap=torch.nn.parallel.DistributedDataParallel)
journal = Journal(folder / "journal.jsonl") if rank == 0 else None
metrics = train_vae(trial, samples, folder, journal, world, {})
(folder / f"rank{rank}.json").write_text(json.dumps({"ids": seen, "metrics": metrics}))
dist.destroy_process_group()
