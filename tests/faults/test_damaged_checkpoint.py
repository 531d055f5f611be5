"""Promise 6: whatever happened to the newest checkpoint, the trial ends bitwise as if nothing had."""

import shutil

import pytest
import torch

from transvae_platform.data.stream.batches import TrainStream
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.tensors import read_tensors

pytestmark = pytest.mark.fault


def largest(path):
    return max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def rewrite(file, change):
    file.write_bytes(change(file.read_bytes()))


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 8]) + content[middle + 1 :]


DAMAGE = {
    "cut to half": lambda path: rewrite(largest(path), lambda content: content[: len(content) // 2]),
    "emptied": lambda path: rewrite(largest(path), lambda content: b""),
    "flipped bit in the state": lambda path: rewrite(next((path / "state").iterdir()), flipped),
    "flipped bit in the average": lambda path: rewrite(path / "ema" / "model.safetensors", flipped),
    "flipped bit in the numbers": lambda path: rewrite(path / "state.json", flipped),
    "shard missing": lambda path: next((path / "state").iterdir()).unlink(),
    "manifest missing": lambda path: (path / "manifest.json").unlink(),
    "manifest cut": lambda path: rewrite(path / "manifest.json", lambda content: content[:30]),
    "folder emptied": lambda path: [shutil.rmtree(path), path.mkdir()],
    "folder missing": shutil.rmtree,
}


def tensors_of(folder):
    with CheckpointStore(folder / "checkpoints", keep=9).newest_good() as (step, path):
        return step, read_tensors(path / "state"), (path / "ema" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_result_is_that_of_the_undamaged_twin(trial, train, records, tmp_path, monkeypatch, damage):
    work = trial(recipe__steps=10)
    train(work, "twin")
    read = TrainStream.batch

    def killed(self, step):
        if step == 9:
            raise KeyboardInterrupt
        return read(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStream, "batch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(work)
    damage(tmp_path / "run" / "checkpoints" / "step_000000008")
    train(work)
    assert [record["resumed_from"] for record in records(event="started")] == [0, 4]
    (told,) = records(event="damaged")
    assert "checkpoint of step 8 is" in told["message"]
    one, other = tensors_of(tmp_path / "run"), tensors_of(tmp_path / "twin")
    assert one[0] == other[0] == 10
    assert one[1].keys() == other[1].keys()
    assert [key for key in one[1] if not torch.equal(one[1][key], other[1][key])] == []
    assert one[2] == other[2]


def test_everything_damaged_begins_again(trial, train, records, tmp_path):
    work = trial(recipe__steps=8)
    train(work)
    twin = tensors_of(tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("step_*"):
        DAMAGE["flipped bit in the state"](path)
    train(work)
    assert [record["resumed_from"] for record in records(event="started")] == [0, 0]
    assert len(records(event="damaged")) == 2
    assert tensors_of(tmp_path / "run")[2] == twin[2]
