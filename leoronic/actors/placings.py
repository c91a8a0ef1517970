"""Files that other nodes want in this node's working directory: each is fetched, then placed.

Who wants one asks again and again how far it is. What nobody asks for any more is given up.
"""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from typing import Any

from leoronic.actors.file_calls import Fetch, PutFile
from leoronic.actors.peer_commands import PlaceFile
from leoronic.blobs.inside import STATE_FOLDER, parts_of, shown
from leoronic.core.blob import FileRef
from leoronic.errors import BadRequest, LeoronicError, MailboxFull, Refused
from leoronic.runtime.actor import ActorContext
from leoronic.runtime.ref import ActorRef

INBOX = "inbox"
FETCH_S_MAX = 24 * 3600.0
PUT_S_MAX = 3600.0
PLACINGS_MAX = 64
WAIT_S_MAX = 10.0
# Longer than whoever asks needs to find a node again that it lost sight of.
ABANDONED_S = 20.0


def checked_name(name: str) -> str:
    """A path in a working directory that a file may be put at. Raises `BadRequest`."""
    parts = parts_of(name)
    if STATE_FOLDER in parts:
        raise BadRequest(f"{shown(name)}: {STATE_FOLDER} is the node's own: give another name")
    if parts[0] == INBOX:
        raise BadRequest(
            f"{shown(name)}: what lies in {INBOX} is submitted: use `leoronic submit -f`, or give "
            "another name"
        )
    return str(PurePosixPath(*parts))


class _Placing:
    """One file on its way here; `task` ends with its end."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None]
        self.bytes = 0
        self.error: LeoronicError | None = None
        self.timer: asyncio.TimerHandle | None = None


class Placings:
    """For the actor of `context`; `store` is the file store, None where there is none."""

    def __init__(self, context: ActorContext, store: ActorRef | None) -> None:
        self._context = context
        self._store = store
        self._all: dict[tuple[str, str], _Placing] = {}

    async def place(self, command: PlaceFile) -> dict[str, Any]:
        """How far it is; begins it, if it has not begun. Raises why it ended without success."""
        file = command.file
        key = (file.digest, file.name)
        placing = self._all.get(key) or self._begin(file)
        self._wait_for_more(key, placing)
        await asyncio.wait({placing.task}, timeout=min(command.wait_s, WAIT_S_MAX))
        if not placing.task.done():
            return {"done": False, "bytes": placing.bytes}
        self._forget(key)
        if placing.error is not None:
            raise placing.error
        return {"done": True, "bytes": file.size}

    def _begin(self, file: FileRef) -> _Placing:
        if self._store is None:
            raise Refused("this node keeps no files")
        checked_name(file.name)
        if len(self._all) >= PLACINGS_MAX:
            raise MailboxFull(f"{PLACINGS_MAX} files are on their way here: try again later")
        placing = _Placing()
        placing.task = self._context.spawn(self._work(self._store, file, placing), "place")
        self._all[file.digest, file.name] = placing
        return placing

    async def _work(self, store: ActorRef, file: FileRef, placing: _Placing) -> None:
        def advance(done: int, size: int) -> None:
            placing.bytes = done

        try:
            missing = await store.call(Fetch((file,), advance), timeout_s=FETCH_S_MAX)
            if missing:
                # That is this node's answer, and no silence: it need not be asked again.
                raise Refused(f"{file.name}: {missing[file.digest]}")
            await store.call(PutFile(file), timeout_s=PUT_S_MAX)
        except LeoronicError as error:
            placing.error = error

    def _wait_for_more(self, key: tuple[str, str], placing: _Placing) -> None:
        """It is given up if nobody asks for it in time."""
        if placing.timer is not None:
            placing.timer.cancel()
        placing.timer = self._context.call_after(ABANDONED_S, lambda: self._forget(key))

    def _forget(self, key: tuple[str, str]) -> None:
        placing = self._all.pop(key, None)
        if placing is not None:
            placing.task.cancel()
            if placing.timer is not None:
                placing.timer.cancel()
