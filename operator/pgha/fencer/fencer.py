"""The fencer: a process of its own that ends PostgreSQL when the lease's time is up (law, point 2).

It imports the standard library only, and touches no API, no SQL and no disk. Over an inherited
socketpair it reads lines {"deadline": seconds of CLOCK_BOOTTIME or null, "beat": n} and answers
{"beat": n}. At the deadline, or when the pipe closes while one is set, it kills everybody again
and again until /proc shows nobody left (each PostgreSQL child is a session of its own, so no
process group holds them all), and reports {"fenced": seconds}. From then on whatever appears is
killed too, until a message brings a later deadline or null. Only a message disarms it.

With --namespace it uses kill(-1), which would end a whole machine elsewhere: so it insists that
the other end of the socketpair was made by PID 1 and that PID 1 is its parent. Without the flag it
kills the descendants of the process at the other end, which is for machines without containers.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import struct
import sys
import time

SOL_SOCKET, SO_PEERCRED = 1, 17
TFD_FLAGS, TFD_TIMER_ABSTIME = 0o2004000, 1  # close on exec, non-blocking
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
SWEEP_MS = 250
MAX_LINE = 4096

libc = ctypes.CDLL(None, use_errno=True)


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def peer_pid(fd: int) -> int:
    """PID, in this namespace, of the process that made the socketpair; 0 if it is outside."""
    cred, size = ctypes.create_string_buffer(12), ctypes.c_uint(12)
    if libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, cred, ctypes.byref(size)) != 0:
        return -1
    return int(struct.unpack("iII", cred.raw)[0])


class Timer:
    """A timerfd on CLOCK_BOOTTIME: it goes off also for time that a suspended machine slept."""

    def __init__(self) -> None:
        self.fd: int = libc.timerfd_create(time.CLOCK_BOOTTIME, TFD_FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create on CLOCK_BOOTTIME")

    def set(self, deadline: float | None) -> None:
        """Arm for an absolute time (a past one goes off at once), or disarm."""
        nanoseconds = 0 if deadline is None else max(1, int(deadline * 1e9))
        spec = struct.pack("qqqq", 0, 0, *divmod(nanoseconds, 10**9))
        if libc.timerfd_settime(self.fd, TFD_TIMER_ABSTIME, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def drain(self) -> None:
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            pass  # it was set anew since it went off


def process_table() -> dict[int, tuple[int, int, bool]]:
    """pid -> (parent, start time in ticks, alive); zombies are not alive."""
    table: dict[int, tuple[int, int, bool]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fd = os.open(f"/proc/{name}/stat", os.O_RDONLY)
        except OSError:
            continue  # it ended meanwhile
        try:
            text = os.read(fd, 2048)
        except OSError:
            continue
        finally:
            os.close(fd)
        fields = text[text.rfind(b")") + 2 :].split()
        if len(fields) > 19:
            alive = fields[0] not in (b"Z", b"X", b"x")
            table[int(name)] = (int(fields[1]), int(fields[19]), alive)
    return table


class Namespace:
    """Everybody in this PID namespace but PID 1 and the fencer."""

    def remember(self) -> None:
        """Nothing to do: nobody can leave the namespace."""

    def kill(self) -> None:
        """Strike once."""
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass  # the kernel found nobody to signal
        except PermissionError:
            pass  # only processes of other users, which are not ours to end

    def alive(self) -> list[int]:
        me = os.getpid()
        return [
            pid
            for pid, (_, _, alive) in process_table().items()
            if alive and pid not in (1, me) and mine(pid)
        ]


class Descendants:
    """The descendants of one process, also those that outlived a parent seen earlier."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seen: dict[int, int] = {}

    def remember(self) -> None:
        self._find(process_table())

    def kill(self) -> None:
        """Strike once."""
        for pid in self._find(process_table()):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass  # ended meanwhile, or not ours

    def alive(self) -> list[int]:
        return [pid for pid in self._find(process_table()) if mine(pid)]

    def _find(self, table: dict[int, tuple[int, int, bool]]) -> list[int]:
        me = os.getpid()
        self._seen = {
            pid: start
            for pid, start in self._seen.items()
            if pid in table and table[pid][1] == start
        }
        inside = {self._root, *self._seen}
        grew = True
        while grew:
            new = {p for p, (parent, _, _) in table.items() if parent in inside} - inside
            grew = bool(new)
            inside |= new
        inside -= {self._root, me, 1}
        self._seen = {pid: table[pid][1] for pid in inside if pid in table}
        return [pid for pid in self._seen if table[pid][2]]


def mine(pid: int) -> bool:
    """Whether this process may signal `pid` at all."""
    if os.geteuid() == 0:
        return True
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.getuid()
    except OSError:
        return False


class Fencer:
    """Owns the deadline and the state of the pipe."""

    def __init__(self, fd: int, victims: Namespace | Descendants) -> None:
        self._fd = fd
        self._victims = victims
        self._timer = Timer()
        self._deadline: float | None = None
        self._shut = False  # the deadline passed and no later message opened again
        self._open = True
        self._pending = b""
        os.set_blocking(fd, False)

    def run(self) -> None:
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        waiting.register(self._timer.fd, select.POLLIN)
        while self._open:
            waiting.poll(SWEEP_MS if self._shut else None)
            self._read()
            self._timer.drain()
            # Messages first: a renewal that was sent in time counts, however late it is read.
            if self._deadline is None:
                self._shut = False
            elif not self._open or boottime() >= self._deadline:
                self._fence()
            else:
                self._shut = False

    def _read(self) -> None:
        answers = []
        while True:
            try:
                part = os.read(self._fd, 65536)
            except BlockingIOError:
                break
            except OSError:
                part = b""
            if not part:
                self._open = False
                break
            *lines, self._pending = (self._pending + part).split(b"\n")
            if len(self._pending) > MAX_LINE:
                self._pending = b""
            answers += [n for n in map(self._obey, lines) if n is not None]
        for number in answers:
            self._say(f'{{"beat": {number}}}')

    def _obey(self, line: bytes) -> int | None:
        """Take one message; None, hence no answer, if it is not understood."""
        try:
            message = json.loads(line)
            deadline, number = message["deadline"], int(message["beat"])
            deadline = None if deadline is None else float(deadline)
            if deadline != self._deadline:
                self._timer.set(deadline)
        except (ValueError, KeyError, TypeError, OverflowError, struct.error):
            return None
        self._deadline = deadline
        if deadline is not None:
            self._victims.remember()
        return number

    def _fence(self) -> None:
        anybody = self._victims.alive() if self._shut else []
        pause = 0.001
        self._victims.kill()
        while self._victims.alive():
            time.sleep(pause)  # the kernel is ending them, or they forked meanwhile
            pause = min(0.05, pause * 2)
            self._victims.kill()
        if anybody or not self._shut:
            self._say(f'{{"fenced": {boottime()!r}}}')
        self._shut = True

    def _say(self, message: str) -> None:
        try:
            os.write(self._fd, message.encode() + b"\n")
        except OSError:
            pass  # nobody reads: the agent is stopped, full of unread answers, or gone


def refusal(fd: int) -> str | None:
    """Why kill(-1) must not be used here, None when it may."""
    maker, parent = peer_pid(fd), os.getppid()
    if maker != 1 or parent != 1:
        return (
            f"--namespace needs an agent that is PID 1 of this PID namespace, but the pipe was "
            f"made by PID {maker} and the parent is PID {parent}: start it without the flag"
        )
    if os.readlink("/proc/self") != str(os.getpid()):
        return "--namespace needs a /proc of this PID namespace: mount one"
    return None


def main(arguments: list[str]) -> int:
    namespace = "--namespace" in arguments
    try:
        fd = int(arguments[arguments.index("--fd") + 1])
        os.fstat(fd)
    except (ValueError, IndexError, OSError):
        sys.stderr.write("fencer: needs --fd N, an inherited socket to the agent\n")
        return 2
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPIPE",
                 "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGALRM"):  # fmt: skip
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if namespace:
        why = refusal(fd)
        if why is not None:
            sys.stderr.write(f"fencer: {why}\n")
            return 2
    process_table()  # have everything that the deadline needs in memory before it is kept there
    libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)  # fails without CAP_IPC_LOCK: so be it
    Fencer(fd, Namespace() if namespace else Descendants(peer_pid(fd))).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
