"""This machine and the cluster: libraries, GPUs, what the nodes declare and whether they are alike."""

from __future__ import annotations

import importlib
import platform
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from transvae_platform.cluster.devices import local_devices
from transvae_platform.cluster.doctor.finding import Finding
from transvae_platform.cluster.schedule import cluster_devices, ray_session
from transvae_platform.errors import UnreachableError
from transvae_platform.lineage import code, library_versions
from transvae_platform.study.state import StudyState

NODE_SECONDS = 60.0  # for every node to import torch and answer (assumption: a shared disk that is busy)


def check_machine(state: StudyState | None) -> list[Finding]:
    """Findings about this machine: devices, the libraries' state, and versions against the study's last submission."""
    cpus, gpus = local_devices()
    versions = {"python": platform.python_version(), **library_versions()}
    shown = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "ray"))
    findings = [Finding("machine", "ok", f"{cpus} CPU cores, {gpus} GPUs visible; {shown}"), _torchvision()]
    if gpus:
        findings.append(_flash())
    if state is None or not state.submissions:
        return findings
    was = state.submissions[-1]["lineage"]
    now = {**versions, "code": code().name}
    other = [f"{name} {was[name]} -> {now[name]}" for name in now if name in was and was[name] != now[name]]
    if other:
        way_out = "results may differ slightly between trials; go back to those versions, or begin a new study"
        findings.append(
            Finding("machine", "warn", f"the study last ran under other versions: {', '.join(other)}", way_out)
        )
    return findings


def _torchvision() -> Finding:
    try:
        from transvae.torchvision_cpu import ensure_torchvision

        ensure_torchvision()
    except (ImportError, RuntimeError) as error:
        way_out = "install the torchvision that belongs to this torch (constraints.txt)"
        return Finding("machine", "wrong", f"torchvision cannot be imported: {error}", way_out)
    return Finding("machine", "ok", "torchvision is imported")


def _flash() -> Finding:
    from transvae.layers.attention import attention_backend

    try:
        importlib.import_module("flash_attn")
    except ImportError as error:
        what = f"flash-attn cannot be imported ({error}), attention runs on {attention_backend()}"
        return Finding("machine", "warn", what, "pip install -e '.[flash]', against this torch")
    return Finding("machine", "ok", f"attention runs on {attention_backend()}")


def check_cluster(address: str) -> list[Finding]:
    """Findings about the cluster at an address: does it answer, what does it declare, are its nodes alike."""
    try:
        with ray_session(address):
            cpus, gpus = cluster_devices()
            findings = [Finding("cluster", "ok", f"{address} answers: head, {cpus} CPU slots, {gpus} GPU slots")]
            if not cpus + gpus:
                way_out = "declare cpu_slots or gpu_slots on the head (cluster.yaml)"
                findings.append(
                    Finding("cluster", "wrong", "no slots are declared: no trial would ever start", way_out)
                )
            return [*findings, *_nodes()]
    except UnreachableError as error:
        return [Finding("cluster", "wrong", str(error))]


def _nodes() -> list[Finding]:
    findings, versions = [], {}
    for name, declared, answer in [_ask(node) for node in ray.nodes() if node["Alive"]]:
        try:
            told = ray.get(answer, timeout=NODE_SECONDS)
        except (GetTimeoutError, RayError) as error:
            what = f"node {name} does not answer: {(str(error).strip() or type(error).__name__).splitlines()[-1]}"
            findings.append(Finding("cluster", "wrong", what, "look at its logs, or take it out of the cluster"))
            continue
        versions[name] = ", ".join(f"{library} {version}" for library, version in told["versions"].items())
        if declared > told["gpus"]:
            what = f"node {name} declares {declared} GPUs, its driver shows {told['gpus']}"
            findings.append(Finding("cluster", "wrong", what, "run nvidia-smi there; restart its container with GPUs"))
    if len(set(versions.values())) > 1:
        each = "; ".join(f"{name}: {version}" for name, version in versions.items())
        way_out = "install the same versions on all nodes (constraints.txt)"
        findings.append(Finding("cluster", "wrong", f"nodes differ: {each}", way_out))
    elif versions:
        findings.append(Finding("cluster", "ok", f"nodes: {len(versions)} with {next(iter(versions.values()))}"))
    return findings


def _ask(node: dict[str, Any]) -> tuple[str, int, Any]:
    """A node's name, the GPUs that it declares, and what it will answer."""

    # a function inside a function travels by value: the nodes need none of this project to answer
    def describe() -> dict[str, Any]:
        import pathlib
        import platform

        import ray
        import torch

        versions = {"python": platform.python_version(), "torch": torch.__version__, "ray": ray.__version__}
        # the driver's own list: from a task without GPUs Ray hides them
        return {"versions": versions, "gpus": len(list(pathlib.Path("/proc/driver/nvidia/gpus").glob("*")))}

    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    answer = ray.remote(describe).options(num_cpus=0, scheduling_strategy=there).remote()
    name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
    return name, int(node["Resources"].get("GPU", 0)), answer
