"""Writes the wheels' SHA-256, as pip would take them for each pin of constraints.txt (`make locked`).

    locked.txt        everything but torch and torchvision: what every machine needs
    locked-cuda.txt   torch and torchvision as PyPI has them, with NVIDIA's libraries: what the clusters' nodes need

To be run on Linux, x86-64, with CPython 3.11, whenever constraints.txt changes. What is locked already stays as it is;
pip asks PyPI for the others, whatever this machine's own settings say: its +cpu builds are no choice for a node.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("torch", "torchvision")
ELSEWHERE = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL")
"""Settings by which pip looks at other places than PyPI."""
HEAD = """\
# constraints.txt with the SHA-256 of every wheel, for Linux on x86-64 with CPython 3.11 (`make locked`):
#   pip install --no-deps --require-hashes --requirement locked.txt
# Without torch and torchvision: which of their builds is right, with which of NVIDIA's libraries, the machine decides.
"""
CUDA_HEAD = """\
# torch and torchvision of constraints.txt as PyPI has them, with NVIDIA's libraries (CUDA 13), and their SHA-256, for
# the nodes of a cluster: Linux on x86-64 with CPython 3.11, and a driver for CUDA 13 (580 or newer). After locked.txt:
#   pip install --no-deps --require-hashes --requirement locked-cuda.txt
"""


def main() -> None:
    pins = _lines(ROOT / "constraints.txt")
    wanted = [pin for pin in pins if _name(pin) not in LEFT_OUT]
    locked = _locked(ROOT / "locked.txt")
    if new := [pin for pin in wanted if pin not in locked]:
        hashes = _hashes(new, "--no-deps")
        locked |= {pin: f"{pin} --hash=sha256:{hashes[_plain(_name(pin))][1]}" for pin in new}
    (ROOT / "locked.txt").write_text(HEAD + "\n".join(locked[pin] for pin in wanted) + "\n")
    print(f"{len(wanted)} wheels in {ROOT / 'locked.txt'}, {len(new)} of them new")
    _lock_cuda([pin for pin in pins if _name(pin) in LEFT_OUT], wanted)


def _lock_cuda(builds: list[str], others: list[str]) -> None:
    """The builds with what they need beyond the other pins."""
    file = ROOT / "locked-cuda.txt"
    if set(builds) <= _locked(file).keys():
        print(f"{file}: as it was")
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(others) + "\n")
        constraints.flush()
        # these wheels have 2.5 GB: their metadata is read out of them, without the rest
        found = _hashes(builds, "--use-feature=fast-deps", "--constraint", constraints.name)
    known = {_plain(_name(pin)) for pin in others}
    lines = [f"{name}=={version} --hash=sha256:{sha256}" for name, (version, sha256) in sorted(found.items())]
    file.write_text(CUDA_HEAD + "\n".join(line for line in lines if _name(line) not in known) + "\n")
    print(f"{len(lines)} wheels in {file}")


def _hashes(pins: list[str], *options: str) -> dict[str, tuple[str, str]]:
    """(version, SHA-256) by package: of the wheels that pip would install for them from PyPI."""
    with tempfile.TemporaryDirectory() as folder:
        asked, report = Path(folder) / "pins.txt", Path(folder) / "report.json"
        asked.write_text("\n".join(pins) + "\n")
        own = {key: value for key, value in os.environ.items() if key not in ELSEWHERE}
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", *options]
        subprocess.run(
            [*command, "--only-binary=:all:", "--report", report, "--requirement", asked],
            env={**own, "PIP_CONFIG_FILE": os.devnull}, check=True,
        )  # fmt: skip
        return {
            _plain(item["metadata"]["name"]): (
                item["metadata"]["version"], item["download_info"]["archive_info"]["hashes"]["sha256"],
            )
            for item in json.loads(report.read_text())["install"]
        }  # fmt: skip


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def _locked(path: Path) -> dict[str, str]:
    """The lines of a file, by their pins."""
    return {line.partition(" ")[0]: line for line in _lines(path)} if path.exists() else {}


def _name(pin: str) -> str:
    return pin.partition("==")[0]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
