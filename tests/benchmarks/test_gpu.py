"""The GPU benchmark as it runs without a GPU: a micro model on the CPU, and a table that says what is not measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from transvae.accounting import count_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(out, *options):
    command = [sys.executable, str(SCRIPT), str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


@pytest.mark.slow
def test_a_micro_model_is_measured_on_the_cpu(tmp_path):
    text, found = run(
        tmp_path / "out.json", "device=cpu", "models=vit-micro-T/f8d8", "resolution=32", "steps=2", "batch=4"
    )
    assert found["device"] == "cpu"
    for row in found["rows"]:
        measured = row["attention"] == "sdpa"
        assert (row["images_per_second"] is not None) == measured
        if measured:
            assert row["images_per_second"] == pytest.approx(4000 / row["step_ms"])
        assert row["mfu"] is row["peak_gb"] is row["inference_gb"] is None  # a CPU has no known peak
    assert "not measured" in text


def test_without_a_device_the_floors_stand_beside_not_measured(tmp_path):
    text, found = run(tmp_path / "out.json", "device=cuda", "models=transvae-T/f16d32", "batch=32")
    assert found["device"] == "not measured"
    assert len(found["rows"]) == 4
    for row in found["rows"]:
        assert row["step_ms"] is row["mfu"] is None
        flops = count_model("transvae-T/f16d32", 256).training_flops
        assert row["flops_floor_ms"] == pytest.approx(1000 * 32 * flops / 989e12)
        assert row["bytes_floor_ms"] > 0
        assert row["paper_inference_gb"] == 7.4
    assert text.count("not measured") >= 4 * 4
