"""Where an agent's time goes: stacks of running agents, read from outside by py-spy.

py-spy reads the memory of the agent's process as root of the machine and does not stop it; nothing
is in the image for it. A failover is recorded with the waiting (what does the next step wait for?),
an idle minute without it: what held the interpreter's lock, since which thread sleeps cannot be
told from outside a container's PID namespace.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import flame
from bench.cost import use_of
from bench.faults import Fault, container_of
from bench.systems import System
from bench.watching import Watcher
from lab.processes import PROC, Process

RATE_FAILOVER, RATE_IDLE = 200, 250  # samples a second
# py-spy takes /proc/PID/exe for the interpreter, and that of an agent is the loader of the bundle.
# So it gets a /proc of its own, in a mount namespace that ends with it, whose only process is the
# agent's and whose `exe` is the interpreter, which is what the agent's memory begins with.
OWN_PROC = """
set -e
real=$1 pid=$2 interpreter=$3; shift 3
mount --rbind /proc "$real"
mount -t tmpfs none /proc
ln -s "$real/self" /proc/self
mkdir "/proc/$pid"
for entry in "$real/$pid"/*; do
    [ "${entry##*/}" = exe ] || ln -s "$entry" "/proc/$pid/${entry##*/}"
done
ln -s "$real/$pid/root$interpreter" "/proc/$pid/exe"
exec "$@"
"""
LONGEST = 40.0  # seconds of a recording of a failover
AFTER = 0.2  # seconds that are shown after the endpoint
GIVE_UP = 30.0
LOOP = "MainThread"
PRIMARY, STANDBY, FORMER, SUCCESSOR = "primary", "standby", "former primary", "successor"


@dataclass
class Recording:
    """py-spy at work on one process. `began`: our clock when its own began."""

    file: Path
    popen: subprocess.Popen[str]
    proc: Path
    began: float = 0.0

    @classmethod
    def start(
        cls, spy: Path, process: Process, file: Path, seconds: float, *options: str
    ) -> Recording:
        proc = Path(tempfile.mkdtemp(prefix="proc-", dir=file.parent))
        maps = (PROC / str(process.pid) / "maps").read_text()
        command = [
            "unshare", "--mount", "--propagation", "private", "sh", "-c", OWN_PROC, "sh",
            str(proc), str(process.pid), interpreter(maps), str(spy), "record",
            "--pid", str(process.pid), "--duration", str(max(1, round(seconds))), "--nonblocking",
            "--threads", "--output", str(file), *options,
        ]  # fmt: skip
        made = cls(file, subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ), proc)  # fmt: skip
        assert made.popen.stdout is not None
        said = []
        for line in made.popen.stdout:
            said.append(line)
            if "Sampling process" in line:
                made.began = time.monotonic()
                # Whatever else it says must not fill the pipe.
                threading.Thread(target=made.popen.stdout.read, daemon=True).start()
                return made
        raise AssertionError(f"py-spy does not look into process {process.pid}: {''.join(said)}")

    def end(self, seconds: float) -> None:
        """Wait for it; an agent that ended meanwhile has ended its recording too."""
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self.proc.rmdir()  # empty: what was mounted there was its own to see

    def events(self) -> list[dict[str, Any]]:
        return list(json.loads(self.file.read_text())) if self.file.exists() else []


def interpreter(maps: str) -> str:
    """What a process's memory begins with, of /proc/PID/maps (proc(5))."""
    return maps.splitlines()[0].split(maxsplit=5)[5]


def agent_of(system: System, pod: str) -> Process:
    found = container_of(system, pod).processes(system.agent)
    assert found, f"no process of {pod} matches {system.agent!r}"
    return found[0]


def idle(system: System, spy: Path, seconds: float, into: Path) -> list[dict[str, Any]]:
    """One idle time of the primary's agent and of a standby's."""
    primary = system.wait_healthy()
    standby = sorted(set(system.pods()) - {primary})[0]
    threading.Event().wait(10.0)  # what follows a start is no part of the idle minute
    agents = {PRIMARY: agent_of(system, primary), STANDBY: agent_of(system, standby)}
    recordings = {
        role: Recording.start(spy, process, into / f"idle-{role}.raw", seconds, "--format", "raw",
                              "--rate", str(RATE_IDLE), "--nolineno", "--gil")
        for role, process in agents.items()
    }  # fmt: skip
    before = {role: use_of([process]).cpu for role, process in agents.items()}
    threading.Event().wait(seconds)
    after = {role: use_of([process]).cpu for role, process in agents.items()}
    found = []
    for role, recording in recordings.items():
        recording.end(seconds=30)
        stacks = flame.of_samples(recording.file.read_text(), RATE_IDLE)
        title = f"idle {role}'s agent, {seconds:.0f} s, holding the interpreter's lock"
        (into / f"flame-idle-{role}.svg").write_text(flame.svg(stacks, title))
        found.append({
            "what": "idle", "role": role, "seconds": seconds,
            "cpu": after[role] - before[role], "functions": flame.by_function(stacks),
        })  # fmt: skip
    return found


def failover(system: System, fault: Fault, spy: Path, into: Path) -> list[dict[str, Any]]:
    """One failover, as the loops of the former primary's agent and of the successor's spent it:
    from the fault to the new primary's address in the EndpointSlice."""
    primary = system.wait_healthy()
    harm = fault.prepare(system, primary)
    watcher = Watcher(system)
    watcher.start()
    recordings = {
        pod: Recording.start(spy, agent_of(system, pod), into / f"{fault.name}-{pod}.json",
                             min(LONGEST, GIVE_UP + 5), "--format", "chrometrace", "--idle",
                             "--rate", str(RATE_FAILOVER))
        for pod in sorted(system.pods())
    }  # fmt: skip
    try:
        old = [s.shown for s in watcher.sights if s.what == "endpoint"][-1:]
        struck = time.monotonic()
        harm.strike()
        over = struck + GIVE_UP
        moved = None
        while moved is None and time.monotonic() < over:
            moved = next((s.at for s in watcher.sights if s.what == "endpoint" and s.at > struck
                          and s.shown and s.shown not in old), None)  # fmt: skip
            threading.Event().wait(0.05)
        threading.Event().wait(AFTER + 0.3)
    finally:
        harm.undo()
        watcher.stop()
        for recording in recordings.values():
            recording.popen.send_signal(2)  # it writes what it has
        for recording in recordings.values():
            recording.end(seconds=30)
    assert moved is not None, f"after {fault.name} no new endpoint was seen in {GIVE_UP:.0f} s"
    successor = system.wait_healthy()
    found = []
    for pod, role in ((primary, FORMER), (successor, SUCCESSOR)):
        recording = recordings[pod]
        since = struck - recording.began
        stacks = flame.of_events(recording.events(), since, since + moved - struck + AFTER)
        name = f"flame-{fault.name}-{role.replace(' ', '-')}.svg"
        title = f"{fault.name}: the {role}'s loop, waiting included"
        (into / name).write_text(flame.svg(stacks, title, (LOOP,)))
        found.append({
            "what": fault.name, "role": role, "seconds": moved - struck,
            "functions": flame.by_function(stacks, LOOP),
        })  # fmt: skip
    return found


def lines(found: list[dict[str, Any]], most: int = 16) -> list[list[str]]:
    """The first functions of the product of each profile; the head is HEAD."""
    made = []
    for profile in found:
        own = [f for f in profile["functions"] if "(pgha/" in f[0]][:most]
        for name, whole, itself in own:
            made.append([profile["what"], profile["role"], name, f"{whole:.3f}", f"{itself:.3f}"])
    return made


HEAD = ("what", "role", "function", "seconds", "in itself")
