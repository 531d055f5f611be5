"""Hosts of their own on this machine: network, processes and file system apart, one switch between them.

Each host is a tree of processes in namespaces of its own (`unshare`), on an overlay of this machine's file system: what
it writes, kills or listens on, nobody else sees. Needs root, Linux with overlayfs, iproute2 and util-linux; hosts that
answer ssh need openssh.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAMS = ("setpriv", "unshare", "nsenter", "ip", "chroot")
BOUND = ("setpriv", "--pdeathsig=KILL", "--")
"""Begins commands that end with this process, however it ends."""
NETWORK = "10.213.7"
RAY_STARTS = 4
START_SECONDS = 120.0  # ends a hang, judges no speed
MAKE = """\
set -e
mount --make-rprivate /
mount -t tmpfs none {base}
mkdir {base}/upper {base}/work {base}/root
mount -t overlay overlay -o lowerdir=/,upperdir={base}/upper,workdir={base}/work {base}/root
cd {base}/root
mount -t proc none proc
mount -t sysfs none sys
mount --rbind /dev dev
mount -t tmpfs none dev/shm
mount -t tmpfs none run
mkdir -p run/sshd tmp/ray
mount -t tmpfs none tmp/ray
for folder in {kept}; do  # what other file systems hold is no part of the overlay
  [ -n "$(ls -A .$folder 2>/dev/null)" ] || {{ mkdir -p .$folder && mount --bind $folder .$folder; }}
done
mkdir -p .{shared}
mount --bind {outside} .{shared}
hostname {name}
echo "127.0.0.1 localhost" > etc/hosts
touch run/made
while :; do sleep 3600 & wait; done  # takes leave of processes whose parents ended
"""


def missing(*programs: str) -> str | None:
    """Why such hosts cannot be made here; None where they can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in (*PROGRAMS, *programs) if shutil.which(name, path=path) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


class Host:
    """One of them."""

    port: tuple[str, ...]
    """Begins the command that turns its port of the switch on or off."""

    def __init__(self, name: str, number: int, folder: Path, shared: str) -> None:
        self.name, self.address = name, f"{NETWORK}.{number}"
        base, outside = folder / name, folder / "shared"
        base.mkdir(parents=True)
        outside.mkdir(exist_ok=True)
        kept = " ".join(str(path) for path in {Path(sys.prefix), Path(sys.base_prefix), ROOT})
        script = MAKE.format(base=base, kept=kept, shared=shared, outside=outside, name=name)
        self._outer = subprocess.Popen(
            [*BOUND, "unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "sh", "-c", script],
            start_new_session=True,
        )
        _until(lambda: _children(self._outer.pid) or self._outer.poll() is not None)
        assert self._outer.poll() is None, f"host {name} was not made"
        (self.pid,) = _children(self._outer.pid)
        self.root = Path(f"/proc/{self.pid}/root{base}/root")
        _until(lambda: (self.root / "run" / "made").exists() or self._outer.poll() is not None)
        assert self._outer.poll() is None, f"host {name} was not made"
        self._inside = (
            "nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", "--uts", "chroot", str(base / "root"),
        )  # fmt: skip

    def command(self, *command: str, environment: Mapping[str, str] = {}, folder: str = "/") -> list[str]:
        """What runs a command on this host, with nothing of this process's environment."""
        known = {"HOME": "/root", "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin", **environment}
        settings = [f"{key}={value}" for key, value in known.items()]
        return [*self._inside, "env", "--ignore-environment", f"--chdir={folder}", *settings, *command]

    def run(self, *command: str, seconds: float = START_SECONDS, check: bool = True, **where: Any) -> str:
        """What a command prints on this host, its errors included."""
        done = subprocess.run(
            self.command(*command, **where), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{self.name}: {shlex.join(command)}\n{done.stdout}"
        return done.stdout

    def start(self, *command: str, log: Path, **where: Any) -> subprocess.Popen[bytes]:
        """A process of this host that goes on."""
        with log.open("ab") as out:
            return subprocess.Popen(
                self.command(*command, **where), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of this host alone."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def processes(self, name: str | None = None) -> list[int]:
        """Of this host, all or those of one program, as this host numbers them."""
        found = []
        for process in (self.root / "proc").glob("[0-9]*"):
            try:
                if name in (None, (process / "comm").read_text().strip()):
                    found.append(int(process.name))
            except OSError:  # it has ended
                continue
        return found

    def end(self) -> None:
        """All its processes at once: a host that is switched off."""
        self._outer.send_signal(signal.SIGKILL)
        self._outer.wait()


def start_ray(host: Host, *options: str, environment: Mapping[str, str]) -> None:
    """`ray start` on a host; again if it was too slow, for its own limit of 30 s is short on a busy machine."""
    for attempt in range(RAY_STARTS):
        said = host.run("ray", "start", *options, environment=environment, seconds=300, check=attempt == RAY_STARTS - 1)
        if "Ray runtime started" in said:
            return
        host.run("ray", "stop", "--force", environment=environment)  # sees the processes of this host alone


@contextmanager
def hosts(folder: Path, names: Sequence[str], shared: str = "/shared") -> Iterator[dict[str, Host]]:
    """Hosts by name, all with one folder in common; the network between them is nobody else's.

    Args:
        folder: whose path must be short: hosts make sockets below it.
    """
    made: dict[str, Host] = {}
    switch = subprocess.Popen([*BOUND, "unshare", "--net", "sleep", "infinity"])
    try:
        _until(lambda: Path(f"/proc/{switch.pid}/comm").read_text().strip() == "sleep")
        inside = ("nsenter", f"--target={switch.pid}", "--net", "ip")
        _do(*inside, "link", "add", "switch", "type", "bridge")
        _do(*inside, "link", "set", "switch", "up")
        for number, name in enumerate(names, start=2):
            made[name] = host = Host(name, number, folder, shared)
            host.port = (*inside, "link", "set", name)
            there = ("nsenter", f"--target={host.pid}", "--net", "ip")
            card = ("name", "eth0", "address", _card(number), "netns", str(host.pid))
            _do(*inside, "link", "add", name, "type", "veth", "peer", *card)
            _do(*inside, "link", "set", name, "master", "switch", "up")
            for words in (
                "link set lo up", f"address add {host.address}/24 dev eth0", "link set eth0 up",
                f"route add default via {NETWORK}.1",  # nobody is there; Ray asks which address leads out
                # who is unplugged is still known: what is sent to it is lost, where the kernel would say "no route"
                *(
                    f"neighbour add {NETWORK}.{other} lladdr {_card(other)} nud permanent dev eth0"
                    for other in range(2, 2 + len(names)) if other != number
                ),
            ):  # fmt: skip
                _do(*there, *words.split())
        yield made
    finally:
        for host in made.values():
            host.end()
        switch.kill()
        switch.wait()


def cable(host: Host, *, plugged: bool) -> None:
    """Pull a host's network cable, or put it back: what was on its way is lost, and nobody is told."""
    _do(*host.port, "up" if plugged else "down")


def _card(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended
        return []


def _until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
