"""One of two gloo processes that restore and save one trial: two_savers.py RANK FOLDER (with trial.json, alone/)."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from transvae_platform.study.grid import Trial
from transvae_platform.study.journal import Journal
from transvae_platform.training import tensors
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.saver import Saver
from transvae_platform.training.weights import TrialWeights
from transvae_platform.world import World

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
trial = Trial.model_validate_json((folder / "trial.json").read_text())
world = World(rank, 2)
weights = TrialWeights(trial, world)
assert weights.restore(CheckpointStore(folder / "alone", keep=1), world), "written by one process, read by two"
assert weights.step == 1

journal = Journal(folder / "journal.jsonl") if rank == 0 else None
store = CheckpointStore(folder / "together", keep=1)
saver = Saver(store, world, journal, {})
saver.save(weights)
for _ in range(20):  # collectives of the training thread, while the savers speak on their own group
    assert world.sum(torch.ones(1000)).sum() == 2000
saver.wait()

weights.step = 2
write, tensors.save_file = tensors.save_file, lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left"))
if rank == 0:  # only the other rank's disk is full
    tensors.save_file = write
saver.save(weights)
saver.wait()
assert store.steps() == [1]
tensors.save_file = write
saver.save(weights)
saver.finish()
assert 2 in store.steps()  # rank 0 may still be removing the first
dist.destroy_process_group()
