"""Writes locked.txt: constraints.txt with the SHA-256 of the wheel that pip takes for each pin (`make locked`).

To be run on Linux, x86-64, with CPython 3.11, whenever constraints.txt changes; takes minutes, for pip fetches every
wheel to hash it. torch and torchvision are left out: their builds are the machine's choice.
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
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    wanted = [pin for pin in pins if pin.partition("==")[0] not in LEFT_OUT]
    with tempfile.TemporaryDirectory() as folder:
        asked, report = Path(folder) / "pins.txt", Path(folder) / "report.json"
        asked.write_text("\n".join(wanted) + "\n")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        subprocess.run([*command, "--only-binary=:all:", "--report", report, "--requirement", asked], check=True)
        found = {
            _plain(item["metadata"]["name"]): item["download_info"]["archive_info"]["hashes"]["sha256"]
            for item in json.loads(report.read_text())["install"]
        }
    lines = [f"{pin} --hash=sha256:{found[_plain(pin.partition('==')[0])]}" for pin in wanted]
    (ROOT / "locked.txt").write_text(HEAD + "\n".join(lines) + "\n")
    print(f"{len(lines)} wheels in {ROOT / 'locked.txt'}")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
