"""Whether the machine that submitted a job and the cluster that runs it have the same Python and the same libraries.

The job takes its sources along, but not the libraries: a study that runs with others may give other numbers, or end in
an error that names neither machine.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform

from transvae_platform.errors import SpecError
from transvae_platform.version import __version__

COMPARED = ("ray", "torch", "mlflow", "numpy", "pyarrow")


def versions() -> dict[str, str]:
    """Of Python, of this project and of what decides a result, without local parts: `2.13.0` for `2.13.0+cu128`."""
    python = ".".join(platform.python_version_tuple()[:2])
    found = {name: importlib.metadata.version(name).partition("+")[0] for name in COMPARED}
    return {"python": python, "transvae-study": __version__, **found}


def refuse_other_versions(submitted_with: str) -> None:
    """Compare with what a job was submitted with, `versions()` as JSON.

    Raises:
        SpecError: names everything that differs, and the ways out.
    """
    there, here = json.loads(submitted_with), versions()
    differs = [f"{name} {there.get(name)} there, {here[name]} here" for name in here if there.get(name) != here[name]]
    if differs:
        raise SpecError(
            f"this job was submitted from a machine with other versions than this cluster: {'; '.join(differs)} - set "
            "the cluster up from that checkout (`ray up cluster.yaml` installs its constraints.txt), or submit from "
            "an environment of the cluster's versions"
        )
