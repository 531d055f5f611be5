"""Trials that cannot train, with real Ray: why is said while the study runs, and they end soon."""

import os

import pytest
import yaml
from tests.faults.commands import submit
from tests.faults.intrusion import intruded
from tests.faults.toys import SPEC

from transvae_platform.study.journal import read_journal

pytestmark = pytest.mark.fault

BROKEN = """\
def intrude(loop):
    def train_vae(*arguments):
        import transvae_kernels
    loop.train_vae = train_vae
"""
DEADLINE_SECONDS = 600  # ends a hang, judges no speed


def test_a_trial_whose_code_is_wrong_says_so_and_ends_after_two_of_its_attempts(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")}
    environment = intruded(tmp_path / "first", "transvae_platform.training.loop", BROKEN, environment)
    spec = {"study": "toys", **SPEC, "grid": {**SPEC["grid"], "seeds": [0]}, "resources": {"max_failures": 99}}
    file = tmp_path / "toys.yaml"
    file.write_text(yaml.safe_dump(spec))
    said = submit(file, tmp_path / "runs", environment, DEADLINE_SECONDS)
    assert said.returncode == 3, said.stderr
    reason = "ModuleNotFoundError: No module named 'transvae_kernels'"
    for number in (1, 2):
        assert f"vit-T: attempt {number} of 100 failed: {reason}" in said.stderr
    (folder,) = (tmp_path / "runs" / "studies" / "toys" / "trials").iterdir()
    records = read_journal(folder / "journal.jsonl")
    assert [record["event"] for record in records] == ["attempt_failed", "attempt_failed", "failed"]
    assert records[-1]["reason"].startswith(f"{reason}, 2 times before the first step of an attempt (more in ")
    assert "in train_vae" in (folder / "failure.txt").read_text()
