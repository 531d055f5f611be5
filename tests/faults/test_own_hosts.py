"""`ray up` over ssh: clusters/on-premise.yaml on three hosts, from a fourth; a study on it; `ray down`.

What the file asks of hosts is there (ssh, /shared, rights), but for Docker: its section is left out, and what it does
(the environment, the installation) stands in root's profile. All other commands are the file's own.
"""

import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.faults.hosts import Host, hosts, missing

ROOT = Path(__file__).parents[2]
WHY_NOT = missing("sshd", "ssh", "ssh-keygen", "rsync")
pytestmark = [pytest.mark.fault, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]
DEADLINE_SECONDS = 900.0  # ends a hang, judges no speed
FOLDER = "/tmp/own-hosts"
WORKERS = ("one", "two")
SSHD = """\
HostKey /etc/ssh/key_of_this_host
AuthorizedKeysFile /root/.ssh/authorized_keys
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
"""
PROFILE = """\
export PATH={bin}:/usr/sbin:/usr/bin:/sbin:/bin RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/home/ray/.ray/auth_token
"""
SPEC = {
    "study": "own-hosts",
    "question": "Does it run on hosts of ones own?",
    "expected": {"outcome": "It does.", "source": "assumption"},
    "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"], "cnn": ["T"]}},
    "data": {"source": "bundled", "resolution": 32, "view": {"kind": "crops", "per_photograph": 8}},
    "recipe": {"steps": 40, "batch_size": 8, "learning_rate": 0.001, "warmup_steps": 2},
    "evaluation": {"every": 20, "log_every": 5, "images": 8, "pictures": 2},
}


def cluster_file(head: Host, workers: list[Host]) -> str:
    """The shipped file with the hosts' addresses, without Docker, and with a CPU of each for trials."""
    cluster = yaml.safe_load((ROOT / "clusters" / "on-premise.yaml").read_text())
    del cluster["docker"]
    cluster["provider"] |= {"head_ip": head.address, "worker_ips": [host.address for host in workers]}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
    cluster["setup_commands"] = []
    declared = '\'{"head": 1, "cpu_slots": 2}\''
    starts = cluster["head_start_ray_commands"]
    cluster["head_start_ray_commands"] = [
        re.sub(r"--resources='.*?'", f"--resources={declared}", command) for command in starts
    ]
    cluster["worker_start_ray_commands"] = [
        re.sub("ray start ", "ray start --num-cpus=1 ", command) for command in cluster["worker_start_ray_commands"]
    ]
    return yaml.safe_dump(cluster, sort_keys=False)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    shutil.rmtree(FOLDER, ignore_errors=True)
    with hosts(Path(FOLDER), ["laptop", "head", *WORKERS]) as made:
        for host in made.values():
            for file in (".bash_profile", ".bashrc"):  # Ray's ssh reads both
                host.write(f"/root/{file}", PROFILE.format(bin=Path(sys.executable).parent))
            host.write("/usr/bin/sudo", '#!/bin/sh\nexec "$@"\n', 0o755)
            host.run("sh", "-c", "rm -rf /root/.ssh /root/.ray && mkdir -m 700 -p /root/.ssh")
        laptop = made["laptop"]
        laptop.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        public = (laptop.root / "root/.ssh/id_ed25519.pub").read_text()
        for name in ("head", *WORKERS):
            made[name].write("/root/.ssh/authorized_keys", public, 0o600)
            made[name].write("/etc/ssh/sshd_of_this_host", SSHD)
            made[name].run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/key_of_this_host")
            made[name].run("/usr/sbin/sshd", "-f", "/etc/ssh/sshd_of_this_host")
        yield made
    shutil.rmtree(FOLDER, ignore_errors=True)


def test_ray_up_brings_the_hosts_up_runs_a_study_and_takes_them_down(network, tmp_path):
    laptop, head = network["laptop"], network["head"]
    workers = [network[name] for name in WORKERS]
    laptop.write("/root/on-premise.yaml", cluster_file(head, workers))
    laptop.write("/root/study.yaml", yaml.safe_dump(SPEC))
    roots = ":".join(str(ROOT / name) for name in ("models", "platform", "dashboards"))
    known = {
        "PYTHONPATH": roots, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
    }  # fmt: skip

    def laptops(*command, check=True):
        return laptop.run(*command, seconds=DEADLINE_SECONDS, environment=known, folder=str(ROOT), check=check)

    laptops("ray", "get-auth-token", "--generate")
    said = laptops("ray", "up", "-y", "/root/on-premise.yaml")
    assert "Ray runtime started" in said or "Useful commands" in said, said
    wait_for(lambda: all(host.processes("raylet") for host in workers), lambda: head_log(head))
    assert "cpu_slots" in laptops("ray", "exec", "/root/on-premise.yaml", "ray status")

    tunnels = laptop.start(
        "script", "-qc", "ray attach /root/on-premise.yaml -p 8265 -p 5000 -p 8321", "/dev/null",
        log=tmp_path / "tunnels.log", environment=known, folder=str(ROOT),
    )  # fmt: skip
    health = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:5000/health').read())"
    wait_for(lambda: "OK" in laptops("python", "-c", health, check=False), (tmp_path / "tunnels.log").read_text)
    assert "page:" in laptops(
        "transvae",
        "study",
        "submit",
        "/root/study.yaml",
        "--address",
        "http://127.0.0.1:8265",
        "--home",
        "/shared/runs",
    )
    told = laptops(
        "transvae", "study", "status", "own-hosts", "--address", "http://127.0.0.1:8265", "--home", "/shared/runs"
    )
    assert told.count("finished") >= 2, told
    shown = "http://127.0.0.1:8321/study/own-hosts/file/data.json"
    assert "vit-T" in laptops("python", "-c", f"import urllib.request as u; print(u.urlopen('{shown}').read())")
    assert (head.root / "shared" / "mlflow-artifacts").is_dir()
    tunnels.send_signal(signal.SIGTERM)
    tunnels.wait()

    laptops("ray", "down", "-y", "/root/on-premise.yaml")
    wait_for(lambda: not any(host.processes("raylet") for host in (head, *workers)), lambda: head_log(head))


def head_log(head):
    logs = sorted(head.root.glob("tmp/ray/session_latest/logs/monitor*"))
    return "\n".join(f"{path.name}:\n{path.read_text()[-6000:]}" for path in logs)


def wait_for(condition, why):
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, why()
        time.sleep(1)
