"""Commands submitted to a cluster's Jobs API: the same ones, an address more. Slow: it starts a Ray head."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from transvae import create_model
from transvae_platform.data.listing.bundled import bundled_files
from transvae_platform.data.sets.catalogue import find_data_set
from transvae_platform.study.state import StudyState

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
DEADLINE_SECONDS = 240


@pytest.fixture(scope="module")
def head():
    """The address of a Ray head of these tests' own, ended with its whole process group."""
    with socket.socket() as one, socket.socket() as other, socket.socket() as third:
        for free in (one, other, third):
            free.bind(("127.0.0.1", 0))
        port, jobs, agent = (free.getsockname()[1] for free in (one, other, third))
    command = [
        str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={jobs}", f"--dashboard-agent-listen-port={agent}",
        "--num-cpus=2", '--resources={"head": 1, "cpu_slots": 2}',
        "--temp-dir=/tmp/ray-job-test",  # sockets below it: the path must be short
    ]  # fmt: skip
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
    ray = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    address = f"http://127.0.0.1:{jobs}"
    end = time.monotonic() + 90
    while not answers(address):
        assert ray.poll() is None, "the head ended"
        assert time.monotonic() < end, "the head did not answer"
        time.sleep(1)
    yield address
    os.killpg(ray.pid, signal.SIGTERM)
    ray.wait(60)


def answers(address):
    try:
        urllib.request.urlopen(f"{address}/api/version", timeout=5)
    except urllib.error.HTTPError:
        return True  # it wants a token: it is there
    except OSError:
        return False
    return True


def test_a_study_runs_as_a_job(head, tmp_path):
    spec = {
        "study": "job",
        "question": "Does it run there?",
        "expected": {"outcome": "It does.", "source": "assumption"},
        "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}},
        "data": {"source": "bundled", "resolution": 32, "view": {"kind": "crops", "per_photograph": 8}},
        "recipe": {"steps": 10, "batch_size": 8, "learning_rate": 0.001, "warmup_steps": 2},
        "evaluation": {"every": 10, "images": 8, "pictures": 2},
    }
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(spec))
    home = tmp_path / "runs"
    assert "report.html" in run_job("study", "submit", file, "--address", head, "--home", home)
    (trial,) = StudyState(home / "studies" / "job").trials.values()
    assert (trial.state, trial.step) == ("finished", 10)


def test_a_folder_is_ingested_and_encoded_by_jobs(head, tmp_path):
    (tmp_path / "photographs").mkdir()
    for name, path in bundled_files()[:6]:
        shutil.copy(path, tmp_path / "photographs" / name.rpartition("/")[2])
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path / "model")
    there = ("--address", head, "--home", tmp_path / "runs")
    said = run_job("data", "ingest", tmp_path / "photographs", "--name", "six", "--resolution", "64", *there)
    assert "data set:  six, " in said
    said = run_job("data", "latents", tmp_path / "model", "six", "--name", "codes", "--content", "mean", *there)
    assert "data set:  codes, " in said
    images, codes = (find_data_set(tmp_path / "runs", name).manifest for name in ("six", "codes"))
    assert (images.samples("train"), images.samples("validation")) == (5, 1)
    assert (codes.kind, codes.settings["data"], codes.samples("train")) == ("latents", images.fingerprint, 5)


def run_job(*command):
    """What a job printed, which ended well."""
    done = subprocess.run(
        [BIN / "transvae", *command], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_a_relative_home_is_refused(tmp_path):
    file = Path(__file__).parents[2] / "studies" / "quickstart.yaml"
    done = subprocess.run(
        [BIN / "transvae", "study", "submit", file, "--address", "http://127.0.0.1:9", "--home", "runs"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "absolute path" in done.stderr
