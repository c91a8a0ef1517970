"""The process trees of the attempts that run: who is left, signals to all, and reaping.

This process's children are shells of attempts, warm shells, and strangers: orphans of some task,
as this process is a sub-reaper.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

from leoronic.core.attempt_events import Event, TreeCounted, TreeEmpty
from leoronic.runner import tree
from leoronic.runner.live import WATCH_S_MAX, WATCH_S_MIN, Live
from leoronic.runner.telling import Guard
from leoronic.runner.warm import WarmShell

# A process that is still there so long after its shell is a straggler.
STRAGGLER_S = 0.03
KILL_PASSES_MAX = 20
# Strangers that will not die are looked at this often in the end.
STRANGERS_S_MAX = 5.0


class Trees:
    """Finds, signals and reaps. `ended` is told of each child of `by_pid` that has ended."""

    def __init__(
        self,
        feed: Callable[[Event], None],
        ended: Callable[[Live | WarmShell], None],
        guarded: Guard,
    ) -> None:
        self.by_pid: dict[int, Live | WarmShell] = {}
        """Our children that are no strangers."""
        self._feed = feed
        self._ended = ended
        self._children = tree.Children()
        self._strangers: dict[int, str] = {}
        self._count = guarded(self._count_tree)
        self._look = guarded(self._look_again)
        self._end = guarded(self.end_strangers)

    def close(self) -> None:
        """Release what is open."""
        self._children.close()

    def children(self) -> set[int]:
        """Every child of this process."""
        return self._children.pids()

    # --- who belongs to it ---

    def members(self, live: Live) -> set[int]:
        """The living processes of an attempt, by a look at every process of the machine."""
        return tree.find_members(
            group=live.pid,
            value=live.marker,
            in_cgroup=live.group.pids() if live.group else (),
            pipes=live.pipes(),
            strangers=self._find_strangers(),
            warm=live.shell.pid if live.shell else 0,
        )

    def seems_alone(self, live: Live, output_closed: bool) -> bool:
        """Whether nothing is left of an attempt, by a look that costs microseconds."""
        if tree.group_alive(live.pid) or (live.group is not None and live.group.pids()):
            return False
        # A subshell that did not become another program shows its warm shell's environment.
        shell_marker = live.shell.marker if live.shell else live.marker
        for marker in self._find_strangers().values():
            if marker in (live.marker, shell_marker) or (not marker and not output_closed):
                return False
        return True

    def _find_strangers(self) -> dict[int, str]:
        """By pid, with the markers that they were started with."""
        pids = self.children().difference(self.by_pid)
        self._strangers = {
            pid: self._strangers[pid] if pid in self._strangers else tree.read_marker(pid)
            for pid in pids
        }
        return self._strangers

    # --- ending it ---

    def signal(self, live: Live, name: str) -> None:
        """TERM or KILL, to all of it."""
        if name == "KILL":
            self._kill(live)
            return
        members = self.members(live)
        tree.send(members, signal.SIGTERM)
        # A stopped process acts on TERM only once it goes on.
        tree.send(members, signal.SIGCONT)

    def _kill(self, live: Live) -> None:
        live.kill_sent = True
        if live.group is not None:
            live.group.kill()
        tree.send_group(live.pid, signal.SIGKILL)
        seen: set[int] = set()
        for _ in range(KILL_PASSES_MAX):
            # What forked between the look and the signal is seen by the next look.
            members = self.members(live)
            if members <= seen:
                return
            tree.send(members, signal.SIGKILL)
            seen |= members

    def watch(self, live: Live) -> None:
        """Tell how many are left of it, and then when none are."""
        self.reap()
        if not self.members(live):
            self._feed(TreeCounted(live.key, 0))
            return
        # Something is about to end, as often as not: a pipe closes before its writer is gone.
        live.watch = asyncio.get_running_loop().call_later(STRAGGLER_S, self._count, live)

    def _count_tree(self, live: Live) -> None:
        live.watch = None
        self.reap()
        count = len(self.members(live))
        if count:
            live.watch_s = WATCH_S_MIN
            self._watch_again(live)
        self._feed(TreeCounted(live.key, count))

    def _watch_again(self, live: Live) -> None:
        live.watch = asyncio.get_running_loop().call_later(live.watch_s, self._look, live)
        live.watch_s = min(live.watch_s * 2, WATCH_S_MAX)

    def _look_again(self, live: Live) -> None:
        self.reap()
        members = self.members(live)
        if not members:
            live.watch = None
            self._feed(TreeEmpty(live.key))
            return
        if live.kill_sent:
            self._kill(live)
        self._watch_again(live)

    # --- children ---

    def reap(self) -> None:
        """Reap what has ended."""
        while ended := tree.reap_strangers(self.by_pid):
            for pid in ended:
                self._ended(self.by_pid[pid])

    def end_strangers(self, idle: Callable[[], bool], again_s: float = WATCH_S_MIN) -> None:
        """While nothing runs: whatever is a stranger belonged to a task, and shed every mark."""
        if not idle():
            return
        self.reap()
        if strangers := self._find_strangers():
            tree.send(tree.with_descendants(strangers), signal.SIGKILL)
            again = min(2 * again_s, STRANGERS_S_MAX)
            asyncio.get_running_loop().call_later(again_s, self._end, idle, again)


async def end_leftovers(state_id: str, within_s: float) -> list[int]:
    """KILL what a former runner of this state folder left; those that are there for all that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while left := tree.marked_with(state_id):
        tree.send(left, signal.SIGKILL)
        tree.reap_strangers(())
        if loop.time() > deadline:
            break
        await asyncio.sleep(0.005)
    return left


def reap_one(pid: int) -> None:
    """Reap a child of which only the end matters."""
    os.waitpid(pid, os.WNOHANG)
