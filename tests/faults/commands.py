"""`transvae study submit` as a process of its own with real Ray, to its end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

UNREACHABLE = 4
STARTS = 4  # Ray gives up on a busy machine after 30 s; the command then says that it may be typed again


def submit(file: Path, home: Path, environment: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Submit a study file, again while Ray does not start; what the last command said. `seconds` end a hang."""
    command = [sys.executable, "-m", "transvae_platform", "study", "submit", str(file), "--home", str(home)]
    for _ in range(STARTS):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=seconds)
        if done.returncode != UNREACHABLE or "Ray does not start" not in done.stderr:
            break
    return done
