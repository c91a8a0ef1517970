"""The core's side of its keeper: asks for host processes, and replaces a keeper that was killed.

The core must never die because its keeper did. When the link closes, the core starts a new keeper
(a fresh Python that preloads again) with a new socket pair, whose end replaces the old one under
the same descriptor number. If new keepers fail too often, the core goes on without one: host
processes can then not be started, and nobody restarts the core.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from leoronic.core.supervision import ChildRule, Exit, Policy, decide
from leoronic.errors import Unavailable
from leoronic.runtime.log import get_logger

START_S = 10.0
STATUSES_MAX = 64
STATUS_S = 1.0
_POLICY = Policy("one_for_one", intensity=5, period_s=60.0)


class KeeperLink:
    """One per core. `open()` once the loop runs.

    `command` starts a replacement: it is called with `--adopt PID --link FD` added, in a session
    of its own, with `pass_fds` open under their numbers. `on_lost` is told when a keeper was lost.
    """

    def __init__(
        self,
        fd: int,
        command: Sequence[str],
        *,
        pass_fds: Sequence[int] = (),
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self._fd = fd
        self._command = list(command)
        self._pass_fds = tuple(pass_fds)
        self._on_lost = on_lost
        self._log = get_logger(actor="keeper_link")
        self._received = b""
        self._open = False
        self._asked: deque[asyncio.Future[int]] = deque()
        self._statuses: dict[int, int] = {}
        self._status_came = asyncio.Condition()
        self._replacement: subprocess.Popen[bytes] | None = None
        self._history: tuple[Exit, ...] = ()
        self._notices: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Listen to the keeper from now on."""
        os.set_blocking(self._fd, False)
        asyncio.get_running_loop().add_reader(self._fd, self._readable)
        self._open = True

    def close(self) -> None:
        """Stop listening. The descriptor stays open: the exit code is still sent over it."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._fd)
            self._fail_asked()

    async def start_host(self, name: str, arguments: dict[str, Any]) -> int:
        """Have the keeper fork a host; returns its pid.

        Raises `Unavailable` if it refuses, or does not answer: there is no keeper now.
        """
        if not self._open:
            raise Unavailable("there is no keeper to start a process")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        line = json.dumps({"start": name, "arguments": arguments}).encode() + b"\n"
        # Lines are small and few: one that does not fit the kernel's buffer says that the keeper
        # hangs, and half a line would spoil all that follow.
        try:
            sent = os.write(self._fd, line)
        except OSError as error:
            self._asked.remove(answer)
            raise Unavailable(f"the keeper does not read: {error}") from error
        assert sent == len(line)
        try:
            async with asyncio.timeout(START_S):
                return await answer
        except TimeoutError:
            raise Unavailable(f"the keeper did not start {name} within {START_S:g} s") from None

    async def status(self, pid: int) -> int | None:
        """How a host ended (exit code or -signal), once the keeper has told; None if it does not.

        Waits at most `STATUS_S` seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STATUS_S), self._status_came:
                await self._status_came.wait_for(lambda: pid in self._statuses)
                return self._statuses.pop(pid)
        return None

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._lost()
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._on_line(json.loads(line))

    def _on_line(self, message: dict[str, Any]) -> None:
        if "exited" in message:
            notice = asyncio.create_task(self._note_status(message["pid"], message["status"]))
            self._notices.add(notice)
            notice.add_done_callback(self._notices.discard)
            return
        answer = self._asked.popleft()
        if answer.done():
            return
        if "started" in message:
            answer.set_result(message["pid"])
        else:
            answer.set_exception(Unavailable(f"{message['refused']}: {message['reason']}"))

    async def _note_status(self, pid: int, status: int) -> None:
        async with self._status_came:
            self._statuses[pid] = status
            while len(self._statuses) > STATUSES_MAX:
                # Nobody asked for the oldest: it was stopped by us.
                del self._statuses[next(iter(self._statuses))]
            self._status_came.notify_all()

    # a keeper that was killed

    def _lost(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._fd)
        self._open = False
        self._received = b""
        self._fail_asked()
        self._log.warning("keeper_lost")
        if self._on_lost is not None:
            self._on_lost()
        if self._replacement is not None:
            # It has closed its end, so it is over or about to be: no zombie is left.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._replacement.wait(timeout=0.5)
        exit = Exit("keeper", False, "lost", loop.time())
        decision = decide(_POLICY, [ChildRule("keeper", "permanent")], self._history, exit)
        self._history = decision.history
        if decision.escalate:
            self._log.error("keeper_not_replaced", reason="new ones keep ending")
            return
        self._replace()

    def _replace(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            # vfork, about 1 ms.
            self._replacement = subprocess.Popen(
                [*self._command, "--adopt", str(os.getpid()), "--link", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(theirs.fileno(), *self._pass_fds),
            )
        except OSError as error:
            self._log.error("keeper_not_replaced", reason=str(error))
            return
        finally:
            theirs.close()
        # The same number: whoever holds it, the last words of this process included, goes on.
        os.dup2(ours.fileno(), self._fd, inheritable=False)
        ours.close()
        self.open()
        self._log.info("keeper_replaced", pid=self._replacement.pid)

    def _fail_asked(self) -> None:
        while self._asked:
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_exception(Unavailable("the keeper was lost"))


class ForkLauncher:
    """Starts host processes as forks of the keeper; names are keys of its `hosts`."""

    def __init__(self, link: KeeperLink) -> None:
        self._link = link

    async def start(self, name: str, arguments: dict[str, Any]) -> int:
        """Ask the keeper."""
        return await self._link.start_host(name, arguments)

    async def status(self, pid: int) -> int | None:
        """What the keeper told of its end."""
        return await self._link.status(pid)
