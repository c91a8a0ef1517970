"""The actor `file_store` of a ghost: that of a node (`actors/file_store.py`), once it is needed.

What it imports takes almost 3 MiB, and most ghosts never see a file. So until there is something to
do it is asleep: it only tells the executor that it knows of no request, as the real one does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leoronic.actors.file_work import FileWork
from leoronic.core.attempt_files import WORK
from leoronic.core.file_messages import FilesOf, FilesStarted, ForgetFiles
from leoronic.core.ghost_notices import (
    NodesThere,
)
from leoronic.core.peer import CallBack
from leoronic.core.view import View
from leoronic.ghost.itself import GhostItself
from leoronic.runtime.actor import NO_REPLY, Actor

if TYPE_CHECKING:
    from leoronic.actors.file_store import FileStoreActor

BLOBS = ".leoronic/blobs"


class GhostFiles(Actor):
    """See the module. `work` outlives the actor."""

    def __init__(self, itself: GhostItself, work: FileWork) -> None:
        self._itself = itself
        self._work = work
        self._root = itself.config.machine.root
        self._awake: FileStoreActor | None = None
        self._places: dict[str, tuple[str, ...]] = {}

    async def started(self) -> None:
        """What the executor then says shows whether there is anything to do."""
        await self.context.find("runner").cast(FilesStarted())

    async def handle(self, message: Any) -> Any:
        """As a `FileStoreActor`. What that must know is told by level once it begins."""
        if isinstance(message, NodesThere):
            self._places = message.places
            return NO_REPLY
        if self._awake is None:
            if self._is_nothing(message):
                return NO_REPLY
            self._awake = await self._wake()
        if isinstance(message, CallBack):
            # It may be any node that wants to read what lies here, and not its clairvoyant alone.
            self._awake.call_back(message.node, self._places.get(message.node, ()))
            return NO_REPLY
        return await self._awake.handle(message)

    async def stopping(self) -> None:
        """As a `FileStoreActor`."""
        if self._awake is not None:
            await self._awake.stopping()

    def _is_nothing(self, message: Any) -> bool:
        if isinstance(message, View):
            return True
        left = _has_any(self._root / WORK) or _has_any(self._root / BLOBS)
        return isinstance(message, FilesOf | ForgetFiles) and not left

    async def _wake(self) -> FileStoreActor:
        from leoronic.actors.file_disk import FileDisk, Limits  # noqa: PLC0415 - see the module
        from leoronic.actors.file_store import FileStoreActor  # noqa: PLC0415
        from leoronic.ghost.port import GhostPort  # noqa: PLC0415

        itself, machine = self._itself, self._itself.config.machine
        actor = FileStoreActor(
            lambda: itself.node,
            FileDisk(machine.root, Limits(machine.files_quota, machine.files_reserve)),
            GhostPort(itself.standing),
            self._work,
            ghost=True,
        )
        actor.context = self.context
        await actor.started()
        return actor


def _has_any(folder: Path) -> bool:
    try:
        with os.scandir(folder) as found:
            return any(True for _ in found)
    except OSError:
        return False
