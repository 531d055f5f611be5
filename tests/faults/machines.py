"""Machines for Ray's autoscaler that are processes of this one; imported by the autoscaler itself."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class Machines(FakeMultiNodeProvider):
    """Ray's own provider for tests, but for nodes that it gives up after 30 s, which are many on a busy machine.

    There they would start all the same, and belong to nobody; here they are switched off.
    """

    def _create_node_with_resources_and_labels(self, *given: Any) -> None:
        try:
            super()._create_node_with_resources_and_labels(*given)
        except Exception:
            self._next_node_id -= 1
            _switch_off(self._next_hex_node_id())
            raise


def _switch_off(identity: str) -> None:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if f"RAY_CLOUD_INSTANCE_ID={identity}".encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
