"""A flipped bit in a shard ends the trial with the shard's name, before anything is kept that was trained on it."""

import shutil

import pytest
from tests.training.ranks import as_ranks
from tests.training.twins import assert_same, last_state

from transvae_platform.data.sets.catalogue import list_data_sets
from transvae_platform.data.sets.samples import open_data
from transvae_platform.study.journal import PATIENCE, Journal
from transvae_platform.training.loop import train_vae
from transvae_platform.training.shard_check import DamagedDataError, ShardCheck
from transvae_platform.world import World


@pytest.fixture
def copy(home, tmp_path):
    """The data set of the tests, where it may be damaged: (folder, a shard of the training split)."""
    (made,) = list_data_sets(home)
    folder = tmp_path / "data"
    shutil.copytree(made.location, folder)
    return folder, folder / next(shard.file for shard in made.manifest.shards if shard.split == "train")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def run(work, data, folder):
    journal = Journal(folder / "journal.jsonl", patience=PATIENCE)
    try:
        train_vae(
            work,
            open_data(str(data), data, 10**9),
            folder,
            journal,
            World(),
            {},
            check=ShardCheck([str(data)], World()),
        )
    finally:
        journal.close()


def test_a_flipped_bit_is_named_and_nothing_is_kept_and_the_mended_trial_ends_as_its_twin(
    trial, train, records, copy, tmp_path
):
    work, (data, shard) = trial(), copy
    train(work, "whole")
    before = shard.read_bytes()
    flip(shard)
    with pytest.raises(DamagedDataError, match=rf"{shard} is not what .* submit again: .* delete {data}"):
        run(work, data, tmp_path / "run")
    assert not records(event="checkpoint")
    shard.write_bytes(before)
    run(work, data, tmp_path / "run")
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))


@pytest.mark.parametrize("missing", [True, False])
def test_a_shard_that_is_cut_or_gone_is_not_whole(copy, missing):
    data, shard = copy
    shard.unlink() if missing else shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DamagedDataError, match=shard.name):
        ShardCheck([str(data)], World()).settle()


def test_whole_shards_are_hashed_once_and_those_of_a_store_not_here(copy):
    check = ShardCheck([str(copy[0]), "s3://bucket/elsewhere"], World())
    check.settle()
    flip(copy[1])
    check.settle()


def settled(world, data):
    try:
        ShardCheck([data], world).settle()
    except DamagedDataError as error:
        return str(error)
    return None


@pytest.mark.parametrize("split", ["train", "validation"])
def test_all_ranks_end_with_the_same_name(home, copy, tmp_path, split):
    data, _ = copy
    (made,) = list_data_sets(home)
    shard = data / next(shard.file for shard in made.manifest.shards if shard.split == split)
    assert as_ranks(2, tmp_path, settled, str(data)) == [None, None]
    flip(shard)
    said = as_ranks(2, tmp_path, settled, str(data))
    assert said[0] == said[1]
    assert str(shard) in said[0]
