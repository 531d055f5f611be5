"""Code that runs inside the processes of a submission, training workers among them, without a hook in the platform."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

HOOK = """\
import importlib.util, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), intrude(module))
        return spec

sys.meta_path.insert(0, Finder())

{code}
"""


def intruded(folder: Path, module: str, code: str, environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which `intrude(module)`, which the code defines, is called as soon as `module` is imported."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HOOK.format(module=module, code=code))
    return {**environment, "PYTHONPATH": os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])}
