"""An ingest that is killed on Ray, or fills its disk, continues to the bytes of one that was left alone."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transvae_platform.data.listing import list_source
from transvae_platform.data.making import images as make
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.errors import UnreachableError
from transvae_platform.study.data_spec import Data

pytestmark = pytest.mark.fault

ROOM = 4 * 2**20  # bytes of the small disk
SIDE, SHARD = 64, 8  # pixels of a sample, samples of a shard: 100 kB each

COMMAND = """
import sys, time
from pathlib import Path
from transvae_platform.cluster.schedule import ray_session
from transvae_platform.data.listing import list_source
from transvae_platform.data.making import images as make, ingest as module, on_ray
from transvae_platform.study.data_spec import Data

source, home, seconds, actors = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]) or None
real = module.make_shard


def slow(work):
    real(work)
    time.sleep(seconds)


make.SHARD_RECORDS, module.make_shard = 8, slow
data = Data(source="folder", path=str(source), resolution=64)
with ray_session(None):
    mapper = lambda function, work: on_ray.run_on_ray(function, work, actors=actors)
    print(module.ingest(list_source(data.path), data, home, mapper).fingerprint)
"""


@pytest.fixture
def source(tmp_path):
    """240 pictures: 30 shards, 3 MB."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(240):
        values = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{number:03d}.png")
    return folder


def contents(home):
    """Every file of the home's only data set, as its SHA-256; nothing else may be there."""
    (folder,) = (path for path in (home / "data").iterdir() if path.name != "made")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def results(home):
    return list((home / "data").glob(".making-*/result-*.json"))


def alive_in(group):
    """Processes of a process group that still run."""
    return [
        stat.parent.name
        for stat in Path("/proc").glob("[0-9]*/stat")
        if (fields := stat.read_text().rpartition(")")[2].split())[2] == str(group) and fields[0] != "Z"
    ]


@pytest.mark.parametrize("actors", [0, 2])
def test_ingest_killed_on_ray_continues_to_the_same_bytes(source, tmp_path, actors):
    cut, twin = tmp_path / "cut", tmp_path / "twin"
    script = tmp_path / "ingest.py"
    script.write_text(COMMAND)
    command = [sys.executable, str(script), str(source), str(cut), "0.5", str(actors)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not results(cut) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    while alive_in(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert 0 < len(results(cut)) < 30
    assert not list(cut.glob("data/*/manifest.json"))  # nothing half-made can be seen
    again = subprocess.run([*command[:4], "0", str(actors)], capture_output=True, text=True, check=True)
    data = Data(source="folder", path=str(source), resolution=SIDE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(make, "SHARD_RECORDS", SHARD)
        whole = ingest(list_source(data.path), data, twin, run_locally)
    assert again.stdout.split()[-1] == whole.fingerprint
    assert len(whole.shards) == 30
    assert contents(cut) == contents(twin)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("room", [5_000, 150_000, 1_000_000, 2_990_000])
def test_full_disk_is_one_error_and_the_ingest_continues(source, disk, tmp_path, monkeypatch, room):
    monkeypatch.setattr(make, "SHARD_RECORDS", SHARD)
    data = Data(source="folder", path=str(source), resolution=SIDE)
    listing, ballast = list_source(data.path), disk / "ballast"
    home = disk / "home"
    with ballast.open("wb") as file:
        file.write(bytes(ROOM - room))
    with pytest.raises(UnreachableError, match=r"No space left on device.*free space or choose another --home"):
        ingest(listing, data, home, run_locally)
    assert not list(home.glob("data/*/manifest.json"))
    assert not [path for path in home.rglob("*") if path.name.startswith(".") and path.suffix.strip(".").isdigit()]
    kept = len(results(home))
    assert kept > 0 or room < 200_000
    ballast.unlink()
    done = []
    whole = ingest(listing, data, home, run_locally, lambda *state: done.append(state))
    assert done[0][0] == kept * SHARD
    assert whole == ingest(listing, data, tmp_path / "twin", run_locally)
    assert contents(home) == contents(tmp_path / "twin")
