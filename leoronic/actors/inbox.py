"""The inbox actor: hosts the machine of `leoronic.core.inbox` on the folder ROOT/inbox.

The kernel's notices make it quick; a listing every `RESCAN_S` makes it sure, whatever happens to
the folder. Files are handled in a thread, so that a slow disk delays nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from leoronic.actors.folder_watch import FolderWatch
from leoronic.actors.inbox_files import InboxFiles
from leoronic.actors.task_files import with_files
from leoronic.core import inbox as machine
from leoronic.core.effects import Fired, Log, SetTimer
from leoronic.core.queue_messages import Accepted, SubmitSpecs
from leoronic.errors import DiskFull, LeoronicError, Refused
from leoronic.runtime.actor import Actor

RESCAN_S = 2.0
LISTING_SPACING_S = 0.01
SUBMIT_TIMEOUT_S = 30.0
_SUBMITTED_TOGETHER = 50


class Inbox(Actor):
    """Takes dropped files as tasks. `root` is the node's folder; `queue` the queue's name.

    Handles no messages of others. `statistics` counts files.
    """

    def __init__(self, root: Path, *, queue: str = "queue") -> None:
        self._root = root
        self._files = InboxFiles(root)
        self._queue = queue
        self._machine = machine.Inbox()
        self._woken = asyncio.Event()
        self._calm = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._told: set[str] = set()

    @property
    def statistics(self) -> dict[str, int]:
        """Files in the inbox, and accepted and rejected since the start."""
        return self._machine.statistics

    async def started(self) -> None:
        """Make the folders and begin to look. What is there already is taken."""
        self._calm.set()
        self._prepare()
        self.context.spawn(self._watch(), "watch")

    async def handle(self, message: Any) -> Any:
        """Only its own timer."""
        if not isinstance(message, Fired):
            return await super().handle(message)
        self._step(message)
        return None

    async def _watch(self) -> None:
        watch = FolderWatch(self._woken.set)
        try:
            while True:
                await self._calm.wait()
                self._woken.clear()
                await self._list(watch)
                await asyncio.sleep(LISTING_SPACING_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), RESCAN_S)
        finally:
            watch.close()

    async def _list(self, watch: FolderWatch) -> None:
        try:
            # Before the listing: what comes after it is noticed.
            self._arm(watch)
            await asyncio.sleep(0)  # the watch begins with the loop's next turn
            files = await asyncio.to_thread(self._files.listing)
        except FileNotFoundError:
            # Deleted. Only a folder that could be made again is listed at once.
            if self._prepare():
                self._woken.set()
            return
        except OSError as error:
            self._tell_once(f"the inbox cannot be listed: {error.strerror}")
            return
        self._step(machine.Listed(files))
        if watch.armed:
            self._told.clear()

    def _arm(self, watch: FolderWatch) -> None:
        if watch.armed:
            return
        try:
            watch.arm(self._files.folder)
        except FileNotFoundError:
            raise
        except OSError as error:
            # The listings still find everything, a little later.
            self._tell_once(f"no notices of dropped files: {error.strerror}")

    def _prepare(self) -> bool:
        try:
            self._files.prepare()
        except OSError as error:
            self._tell_once(f"the inbox cannot be made: {error}")
            return False
        return True

    def _tell_once(self, reason: str) -> None:
        if reason not in self._told:
            self._told.add(reason)
            self.context.log.error("inbox_trouble", reason=reason)

    def _step(self, message: object) -> None:
        submits: list[machine.Submit] = []
        moves: list[machine.Move] = []
        for effect in self._machine.handle(message, time.monotonic()):
            match effect:
                case machine.Look(files):
                    self.context.spawn(self._look(files), "look")
                case machine.Submit():
                    submits.append(effect)
                case machine.Move():
                    moves.append(effect)
                case SetTimer(name, at):
                    self._set_timer(name, at)
                case Log(event, level, fields):
                    getattr(self.context.log, level)(event, **fields)
                case _:
                    raise AssertionError(f"the inbox wants {effect!r}")
        # Apart, so that one that takes long delays few others.
        for start in range(0, len(submits), _SUBMITTED_TOGETHER):
            some = submits[start : start + _SUBMITTED_TOGETHER]
            self.context.spawn(self._submit_all(some), "submit")
        if moves:
            self.context.spawn(self._move(moves), "move")
        if self._machine.has_backlog:
            self._calm.clear()
        else:
            self._calm.set()

    def _set_timer(self, name: str, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, at - time.monotonic())
        self._timer = self.context.send_after(delay_s, Fired(name))

    async def _look(self, files: list[machine.Wanted]) -> None:
        self._step(await asyncio.to_thread(self._files.look, files))

    async def _move(self, moves: list[machine.Move]) -> None:
        self._step(machine.MovedAll(await asyncio.to_thread(self._files.move, moves)))

    async def _submit_all(self, submits: list[machine.Submit]) -> None:
        answers = await asyncio.gather(*[self._submit(submit) for submit in submits])
        self._step(machine.AnsweredAll(answers))

    async def _submit(self, submit: machine.Submit) -> machine.Answered:
        queue = self.context.get(self._queue)
        if queue is None:
            return machine.Answered(submit.name, unavailable="the queue is not running")
        try:
            store = self.context.get("file_store")
            specs = await with_files(store, list(submit.specs), self._root)
            message = SubmitSpecs(specs=specs, source=submit.source)
            accepted: Accepted = await queue.call(message, timeout_s=SUBMIT_TIMEOUT_S)
        except DiskFull as error:
            return machine.Answered(submit.name, unavailable=error.message)
        except Refused as error:
            problems = getattr(error, "problems", ()) or [error.message]
            return machine.Answered(submit.name, refused=tuple(problems))
        except LeoronicError as error:
            return machine.Answered(submit.name, unavailable=error.message)
        return machine.Answered(submit.name, tasks=len(accepted.ids))
