"""Files written past the page cache hold what was written, wherever such writes are possible or not."""

import errno
import hashlib
import os

import numpy as np
import pytest

from transvae_platform.data.sets import uncached
from transvae_platform.data.sets.uncached import BLOCK, UncachedFile

PIECE = 4 * BLOCK
CONTENT = np.random.default_rng(0).integers(0, 256, 3 * PIECE + 100, np.uint8).tobytes()


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(uncached, "PIECE", PIECE)


def write(path, *parts):
    with UncachedFile(path) as file:
        for part in parts:
            assert file.write(part) == len(part)
    return file


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, PIECE - 1, PIECE, PIECE + 1, len(CONTENT)])
def test_every_size_arrives_with_its_hash(tmp_path, size):
    content = CONTENT[:size]
    file = write(tmp_path / "f", content)
    assert (tmp_path / "f").read_bytes() == content
    assert (file.size, file.hexdigest()) == (size, hashlib.sha256(content).hexdigest())


def test_many_parts_are_one_file_over_what_was_there(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 10 * len(CONTENT))
    write(tmp_path / "f", CONTENT[:7], memoryview(CONTENT)[7 : PIECE + 9], CONTENT[PIECE + 9 :])
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.skipif(not uncached.DIRECT, reason="this system knows no direct writes")
def test_where_the_file_system_refuses_to_open_so(tmp_path, monkeypatch):
    asked, real = [], os.open

    def refusing(path, flags, mode):
        asked.append(flags)
        if flags & uncached.DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    write(tmp_path / "f", CONTENT)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert len(asked) == 2


@pytest.mark.skipif(not uncached.DIRECT, reason="this system knows no direct writes")
def test_where_a_direct_write_is_refused(tmp_path, monkeypatch):
    refused, real = [], os.write

    def refusing(file, data):
        if not refused:
            refused.append(len(data))
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(file, data)

    monkeypatch.setattr(os, "write", refusing)
    write(tmp_path / "f", CONTENT)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_short_writes_are_continued(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:BLOCK]))
    write(tmp_path / "f", CONTENT)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_what_the_disk_says_reaches_the_writer(tmp_path, monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path / "f", CONTENT)
    assert caught.value.errno == errno.ENOSPC
