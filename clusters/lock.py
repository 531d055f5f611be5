"""Writes locked.txt: constraints.txt with the SHA-256 of the wheel that pip takes for each pin (`make locked`).

To be run on Linux, x86-64, with CPython 3.11, whenever constraints.txt changes. What is locked already stays as it is;
pip fetches the other wheels to hash them. torch and torchvision are left out: their builds are the machine's choice.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("torch", "torchvision")
HEAD = """\
# constraints.txt with the SHA-256 of every wheel, for Linux on x86-64 with CPython 3.11 (`make locked`):
#   pip install --no-deps --require-hashes --requirement locked.txt
# Without torch and torchvision: which of their builds is right, with which of NVIDIA's libraries, the machine decides.
"""


def main() -> None:
    wanted = [pin for pin in _lines(ROOT / "constraints.txt") if pin.partition("==")[0] not in LEFT_OUT]
    locked = {line.partition(" ")[0]: line for line in _lines(ROOT / "locked.txt")}
    if new := [pin for pin in wanted if pin not in locked]:
        hashes = _hashes(new)
        locked |= {pin: f"{pin} --hash=sha256:{hashes[_plain(pin.partition('==')[0])]}" for pin in new}
    (ROOT / "locked.txt").write_text(HEAD + "\n".join(locked[pin] for pin in wanted) + "\n")
    print(f"{len(wanted)} wheels in {ROOT / 'locked.txt'}, {len(new)} of them new")


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def _hashes(pins: list[str]) -> dict[str, str]:
    """By package: of the wheel that pip would install here."""
    with tempfile.TemporaryDirectory() as folder:
        asked, report = Path(folder) / "pins.txt", Path(folder) / "report.json"
        asked.write_text("\n".join(pins) + "\n")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        subprocess.run([*command, "--only-binary=:all:", "--report", report, "--requirement", asked], check=True)
        return {
            _plain(item["metadata"]["name"]): item["download_info"]["archive_info"]["hashes"]["sha256"]
            for item in json.loads(report.read_text())["install"]
        }


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
