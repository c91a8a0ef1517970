"""The keeper: the tiny parent of a node, and the zygote its processes are forked from.

It has one thread, no event loop and no state worth losing. It

- forks the *core*, and forks it again when it dies, unless that happens too often;
- forks host processes when the core asks, so that they share the memory of what is loaded;
- passes TERM, INT and HUP on to the core as TERM, and tells it which hosts have ended. A closed
  terminal sends HUP more than once (the shell does, and the kernel): the first one counts, and
  none where HUP was ignored from the start (nohup).

They speak JSON lines over a socket pair:

    core -> keeper   {"start": name, "arguments": {...}}       {"exiting": code}
    keeper -> core   {"started": name, "pid": N}  |  {"refused": name, "reason": "..."}
                     {"exited": name, "pid": N, "status": S}   S: exit code, or -signal

The core ends with 0 (stopped as asked: the keeper stops too), with `ESCALATED` (it gave up and has
said why: the keeper ends with 1), with `AGAIN` (it has said why it wants to be forked again), or in
any other way (killed, a bug: it is forked again, and that is told).

If the keeper itself is killed, the core goes on and starts another, which *adopts* it (see
`leoronic.runtime.keeper_link`): it watches the living core by pidfd, and forks a new one only when
that dies. How an adopted core ended is known from its own `exiting` line: it is not our child.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from leoronic.core.supervision import ChildRule, Exit, Policy, decide, story
from leoronic.runtime.memory import give_back

ESCALATED = 70
AGAIN = 75
LINE_BYTES_MAX = 1024 * 1024

CoreMain = Callable[[int], int]
"""Runs the core; gets its end of the socket pair (a file descriptor), returns the exit code."""

Tell = Callable[[str, list[str]], None]
"""Tells people one line, and the story that belongs to it (may be empty)."""

HostMain = Callable[..., int]
"""Runs a host process; gets the arguments of the request by name, returns the exit code."""

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Adopt(NamedTuple):
    """A living core to take over: its process id, and our end of a socket pair with it."""

    pid: int
    fd: int


def print_on_stderr(line: str, story: list[str]) -> None:
    """A `Tell` for terminals."""
    text = "\n".join([f"leoronic: {line}", *(f"  {more}" for more in story)])
    print(text, file=sys.stderr, flush=True)


def keep(
    core_main: CoreMain,
    hosts: Mapping[str, HostMain],
    *,
    core_fds: Iterable[int] = (),
    adopt: Adopt | None = None,
    tell: Tell = print_on_stderr,
    intensity: int = 5,
    period_s: float = 60.0,
) -> int:
    """Keep a core running until it is done; returns this process's exit code, 0 or 1.

    To be called where all that core and hosts share has been imported, and no thread or event loop
    has been started. `core_fds` stay open in the core, and in no host. More than `intensity`
    deaths of the core within `period_s` seconds, and the story is printed and the keeper ends.
    """
    # What is loaded now is shared with every fork; a collector that touches it would unshare it.
    give_back()
    gc.freeze()
    kept_fds = tuple(core_fds)
    for fd in kept_fds:
        os.set_inheritable(fd, False)  # A replacement got them by exec; tasks must not.
    policy = Policy("one_for_one", intensity, period_s)
    return _Keeper(core_main, hosts, kept_fds, policy, tell).run(adopt)


class _Keeper:
    def __init__(
        self,
        core_main: CoreMain,
        hosts: Mapping[str, HostMain],
        core_fds: tuple[int, ...],
        policy: Policy,
        tell: Tell,
    ) -> None:
        self._tell_people = tell
        self._core_main = core_main
        self._hosts = hosts
        self._core_fds = core_fds
        self._policy = policy
        self._history: tuple[Exit, ...] = ()
        self._core_pid = 0
        self._core_pidfd = -1
        self._link: socket.socket | None = None
        self._received = b""
        self._exiting: int | None = None
        self._asked_to_stop = False
        self._host_names: dict[int, str] = {}

    def run(self, adopt: Adopt | None) -> int:
        """Until the core is done. Returns the exit code."""
        woken, waker = socket.socketpair()
        woken.setblocking(False)
        waker.setblocking(False)
        for number in (*_FORWARDED, signal.SIGCHLD):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _ignore)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        if adopt is None:
            self._fork_core()
        else:
            self._watch_core(adopt.pid, socket.socket(fileno=adopt.fd))
        while True:
            for fd in self._wait(woken.fileno()):
                if fd == woken.fileno():
                    self._on_signals(woken.recv(4096))
                elif self._link is not None and fd == self._link.fileno():
                    self._on_link()
                elif fd == self._core_pidfd:
                    code = self._on_core_over()
                    if code is not None:
                        return code
                    break  # The other descriptors may be of the core that is gone.

    def _wait(self, woken: int) -> list[int]:
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        if self._link is not None:
            poll.register(self._link.fileno(), select.POLLIN)
        if self._core_pidfd >= 0:
            poll.register(self._core_pidfd, select.POLLIN)
            return [fd for fd, _event in poll.poll()]
        # An adopted core that had died before we could hold it.
        return [self._core_pidfd]

    # the core

    def _fork_core(self) -> None:
        ours, theirs = socket.socketpair()
        pid = _fork()
        if pid == 0:
            _become(
                (theirs.fileno(), *self._core_fds),
                lambda: _run_core(self._core_main, theirs.fileno()),
            )
        theirs.close()
        self._watch_core(pid, ours)

    def _watch_core(self, pid: int, link: socket.socket) -> None:
        link.setblocking(False)
        self._link = link
        self._received = b""
        self._exiting = None
        self._core_pid = pid
        try:
            self._core_pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._core_pidfd = -1

    def _on_core_over(self) -> int | None:
        """The core has ended: our exit code, or None if there is a new core."""
        while self._link is not None and self._on_link():
            pass  # What it said last may be its exit code.
        status = self._status_of_core()
        self._unwatch_core()
        if status == 0:
            return 0
        if status == ESCALATED:
            return 1
        if self._asked_to_stop and status == -signal.SIGTERM:
            return 0  # It had not begun to handle signals.
        told = _told(status)
        if self._asked_to_stop:
            self._tell_people(f"the core {told} while it stopped", [])
            return 1
        exit = Exit("core", False, told, time.monotonic())
        decision = decide(self._policy, [ChildRule("core", "permanent")], self._history, exit)
        self._history = decision.history
        if decision.escalate:
            lines = story(decision.history, exit.at)
            self._tell_people("the core keeps ending; the node gives up", lines)
            return 1
        if status != AGAIN:
            self._tell_people(f"the core {told}; starting it again", [])
        self._fork_core()
        return None

    def _status_of_core(self) -> int | None:
        with contextlib.suppress(ChildProcessError):
            _pid, status = os.waitpid(self._core_pid, 0)
            return os.waitstatus_to_exitcode(status)
        return self._exiting

    def _unwatch_core(self) -> None:
        if self._core_pidfd >= 0:
            os.close(self._core_pidfd)
            self._core_pidfd = -1
        if self._link is not None:
            self._link.close()
            self._link = None

    # what comes in

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap_hosts()
            elif number != signal.SIGHUP or not self._asked_to_stop:
                self._asked_to_stop = True
                if self._core_pidfd >= 0:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(self._core_pidfd, signal.SIGTERM)

    def _reap_hosts(self) -> None:
        # One by one: a wait for any child would also take the core's status away.
        for pid in list(self._host_names):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                name = self._host_names.pop(pid)
                code = os.waitstatus_to_exitcode(status)
                self._tell({"exited": name, "pid": pid, "status": code})

    def _on_link(self) -> bool:
        """Serve what the core asked. False if there is no more to read now, or ever."""
        assert self._link is not None
        try:
            data = self._link.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        if len(self._received) > LINE_BYTES_MAX:
            raise ValueError(f"the core sent a line of more than {LINE_BYTES_MAX} bytes")
        if not data:
            # It closed its end. Whether it lives, its pidfd says.
            self._link.close()
            self._link = None
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._on_request(json.loads(line))
        return True

    def _on_request(self, request: dict[str, Any]) -> None:
        if "exiting" in request:
            self._exiting = request["exiting"]
            return
        name = request["start"]
        host_main = self._hosts.get(name)
        if host_main is None:
            self._tell({"refused": name, "reason": "there is no such host"})
            return
        try:
            pid = _fork()
        except OSError as error:
            self._tell({"refused": name, "reason": f"cannot fork: {error}"})
            return
        if pid == 0:
            _become((), lambda: host_main(**request["arguments"]))
        self._host_names[pid] = name
        self._tell({"started": name, "pid": pid})

    def _tell(self, message: dict[str, Any]) -> None:
        # A core that does not read must not stop its keeper; the kernel holds some 1000 lines.
        if self._link is not None:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self._link.send(json.dumps(message).encode() + b"\n")


def _run_core(core_main: CoreMain, fd: int) -> int:
    code = core_main(fd)
    # An adopted core is not its keeper's child: only it can say how it ended.
    with contextlib.suppress(OSError):
        os.write(fd, json.dumps({"exiting": code}).encode() + b"\n")
    return code


def _fork() -> int:
    """As `os.fork`; the child has our signals blocked until `_become` has set its own handling.

    Else a TERM at the wrong moment would be taken for the keeper's, and lost.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    return pid


def _become(kept_fds: tuple[int, ...], main: Callable[[], int]) -> NoReturn:
    """In the forked child: leave all that was the keeper's behind, run `main`, and exit."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (*_FORWARDED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        # A session of its own: ctrl-C in the terminal reaches the keeper only.
        os.setsid()
        _close_all_but({0, 1, 2, *kept_fds})
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        code = main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        # The boundary of the process: the traceback is all that will be left of it.
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _told(status: int | None) -> str:
    if status is None:
        return "ended"
    if status < 0:
        return f"was killed by signal {-status}"
    return f"ended with {status}"


def _ignore(_number: int, _frame: object) -> None:
    """Only the wakeup descriptor counts; a handler must exist for Python to write to it."""
