"""Watches a node's cloud for the notice that it takes the node away, and drains the node in Ray.

    python -m transvae_platform.cluster.spot_watch [--cloud aws|gcp] [--metadata http://HOST] [--node ID]
    python -m transvae_platform.cluster.spot_watch --leaving SECONDS [--node ID]

Runs on every worker node beside its raylet (`cluster.yaml` starts it): Ray does not read spot notices itself. The
second form drains the node at once: for Kubernetes, which tells a pod by its preStop hook, and for people who take a
host down.

Protocol
1. The watcher finds the raylet of its machine and the cloud whose metadata server answers, and looks every
   POLL_SECONDS for a notice. An answer that fails is no notice; it looks again.
2. A notice is kept until the head has accepted it: the node is drained with the cloud's deadline. A head that does not
   answer, or refuses, is asked again.
3. A drained node gets no new work, and Ray Train tells the trials that run on it (`training/preemption.py`).
4. The watcher ends when the node is drained or its raylet has ended. It keeps nothing: started again, it begins at 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Protocol

# what `ray drain-node` calls, which is no more documented; loaded before there is a hurry
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
from ray.exceptions import RpcError

from transvae_platform.errors import UnreachableError, UserError

METADATA = "http://169.254.169.254"  # of AWS and of GCP (metadata.google.internal): link-local, from every instance
# AWS recommends to look every 5 s (user guide, Spot instance interruption notices); GCP leaves 30 s in all, so sooner
POLL_SECONDS = 2.0
ANSWER_SECONDS = 2.0  # a metadata server answers within milliseconds from its own host (assumption)
DETECTION_SECONDS = 30.0  # for the network of a node that has just started (assumption)
GCP_PREEMPTION_SECONDS = 30.0  # Compute Engine, "Preemption process" of Spot VMs: at most 30 s, best effort
GCP_MAINTENANCE_SECONDS = 60.0  # Compute Engine, host maintenance: 60 s; VMs with GPUs are told up to an hour before

_log = logging.getLogger(__name__)
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # never through a proxy


@dataclass(frozen=True)
class Interruption:
    """What a cloud says it is about to do with this node."""

    why: str
    deadline: float
    """Seconds since the epoch."""


class Cloud(Protocol):
    name: str

    def notice(self) -> Interruption | None:
        """The notice, if there is one. Raises OSError or ValueError if the metadata server answers otherwise."""


class Aws:
    """EC2's instance metadata, version 2. A rebalance recommendation is no notice: the instance may live for hours."""

    name = "AWS"

    def __init__(self, metadata: str) -> None:
        self._metadata = metadata

    def notice(self) -> Interruption | None:
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        token, _ = _ask(f"{self._metadata}/latest/api/token", lifetime, "PUT")
        try:
            text, _ = _ask(
                f"{self._metadata}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token}
            )
        except urllib.error.HTTPError as error:
            if error.code == 404:  # nothing is announced
                return None
            raise
        action = json.loads(text)
        if not isinstance(action, dict) or not isinstance(action.get("time"), str):
            raise ValueError(f"not an instance action: {text[:200]}")
        return Interruption(
            f"spot instance: {action.get('action')}", datetime.fromisoformat(action["time"]).timestamp()
        )


class Gcp:
    """Compute Engine's metadata: a Spot VM that is preempted, or any VM whose host ends for maintenance."""

    name = "GCP"

    def __init__(self, metadata: str, clock: Callable[[], float] = time.time) -> None:
        self._instance, self._clock = f"{metadata}/computeMetadata/v1/instance", clock

    def notice(self) -> Interruption | None:
        # the value may have changed right after the last look
        if self._value("preempted") == "TRUE":
            return Interruption("spot VM: preempted", self._clock() + GCP_PREEMPTION_SECONDS - POLL_SECONDS)
        if self._value("maintenance-event") == "TERMINATE_ON_HOST_MAINTENANCE":
            return Interruption("host maintenance", self._clock() + GCP_MAINTENANCE_SECONDS - POLL_SECONDS)
        return None

    def _value(self, key: str) -> str:
        value, headers = _ask(f"{self._instance}/{key}", {"Metadata-Flavor": "Google"})
        if headers.get("Metadata-Flavor") != "Google":
            raise ValueError("no metadata server of Google answered")
        return value.strip()


class Leaving:
    """No cloud: whoever started the watcher knows that the node ends in so many seconds."""

    name = "--leaving"

    def __init__(self, seconds: float) -> None:
        self._deadline = time.time() + seconds

    def notice(self) -> Interruption:
        return Interruption("asked to leave", self._deadline)


CLOUDS: dict[str, Callable[[str], Cloud]] = {"aws": Aws, "gcp": Gcp}


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> tuple[str, Mapping[str, str]]:
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with _open(request, timeout=ANSWER_SECONDS) as answer:
            return answer.read().decode(), answer.headers
    except HTTPException as error:  # what answered does not speak HTTP
        raise ValueError(repr(error)) from None


def detect(metadata: str, patience: float = DETECTION_SECONDS) -> Cloud:
    """The cloud whose metadata server answers there.

    Raises:
        UnreachableError: none does.
    """
    end = time.monotonic() + patience
    while True:
        faults = []
        for build in CLOUDS.values():
            cloud = build(metadata)
            try:
                cloud.notice()
            except (OSError, ValueError) as error:
                faults.append(f"{cloud.name}: {error}")
            else:
                return cloud
        if time.monotonic() > end:
            raise UnreachableError(
                f"no spot notices here: {metadata} answers neither as AWS nor as GCP does ({'; '.join(faults)}) - "
                "start the watcher on nodes of these clouds only, or name the address with --metadata"
            )
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Raylet:
    """The Ray node of this machine, as its process's command line tells it."""

    process: Path
    node: str
    gcs: str

    def alive(self) -> bool:
        return f"--node_id={self.node}" in _command(self.process)


def find_raylet(node: str | None = None, processes: Path = Path("/proc")) -> Raylet:
    """The raylet of this machine, or that of a node where several run.

    Raises:
        UserError: there is none, or several and no `node`.
    """
    found = []
    for process in processes.glob("[0-9]*"):
        command = _command(process)
        if command and Path(command[0]).name == "raylet":
            flags = dict(part.split("=", 1) for part in command[1:] if "=" in part)
            found.append(Raylet(process, flags["--node_id"], flags["--gcs-address"]))
    matching = [raylet for raylet in found if node in (None, raylet.node)]
    if len(matching) != 1:
        raise UserError(
            f"--node: {len(matching)} raylets match on this machine (running: "
            f"{', '.join(raylet.node for raylet in found) or 'none'}) - start the watcher after `ray start`, and name "
            "the node where several run"
        )
    return matching[0]


def _command(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_text().split("\0")
    except OSError:  # it has ended
        return []


def drain(raylet: Raylet, coming: Interruption) -> None:
    """Tell Ray that the node is about to go.

    Raises:
        UnreachableError: the head does not answer, or refuses.
    """
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    try:
        accepted, refusal = GcsClient(address=raylet.gcs).drain_node(
            raylet.node, reason, coming.why, int(coming.deadline * 1000)
        )
    except RpcError as error:
        raise UnreachableError(f"the head at {raylet.gcs} does not answer ({error})") from None
    if not accepted:
        raise UnreachableError(f"the head at {raylet.gcs} refuses to drain the node ({refusal})")


def watch(
    cloud: Cloud,
    raylet: Raylet,
    drain: Callable[[Raylet, Interruption], None] = drain,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Look for a notice until there is one; returns whether the node was drained (else its raylet has ended)."""
    _log.info("watching %s for node %s", cloud.name, raylet.node)
    coming: Interruption | None = None
    fault: str | None = None
    while raylet.alive():
        was, fault = fault, None
        try:
            if coming is None and (coming := cloud.notice()) is not None:
                _log.info("notice: %s, in %.0f s", coming.why, coming.deadline - time.time())
            if coming is not None:
                drain(raylet, coming)
                _log.info("drained node %s", raylet.node)
                return True
        except (OSError, ValueError, UnreachableError) as error:
            fault = str(error)
        if fault != was:  # a fault that lasts is one line
            _log.info("trying on: %s" if fault else "all is well again%s", fault or "")
        sleep(POLL_SECONDS)
    _log.info("the raylet of node %s has ended: nothing is left to drain", raylet.node)
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="spot_watch", description="drain this Ray node when its cloud takes it away")
    parser.add_argument("--cloud", choices=sorted(CLOUDS), help="default: whichever answers")
    parser.add_argument("--metadata", default=METADATA, help="address of the metadata server (default: %(default)s)")
    parser.add_argument("--leaving", type=float, metavar="SECONDS", help="drain now: the node ends in so many seconds")
    parser.add_argument("--node", help="Ray's id of the node; default: the only one of this machine")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stdout)
    try:
        raylet = find_raylet(options.node)
        watch(_cloud(options), raylet)
    except UserError as error:
        _log.error("%s", error)
        return error.exit_code
    return 0


def _cloud(options: argparse.Namespace) -> Cloud:
    if options.leaving is not None:
        return Leaving(options.leaving)
    return CLOUDS[options.cloud](options.metadata) if options.cloud else detect(options.metadata)


if __name__ == "__main__":
    sys.exit(main())
