"""The actor `file_store` of a ghost, while it has none: it says so, and nothing waits for it."""

from __future__ import annotations

from typing import Any

from leoronic.core.file_messages import FilesMissing, KeepOutputs, OutputsKept, PlaceFiles
from leoronic.runtime.actor import NO_REPLY, Actor

NO_FILES = "a ghost has no files yet: keep such tasks from it with `worker:not_tag`"


class NoFiles(Actor):
    """Answers the executor; what others ask of files is not answered."""

    async def started(self) -> None:
        """Find the executor."""
        self._executor = self.context.find("runner")

    async def handle(self, message: Any) -> Any:
        """What the executor wants."""
        match message:
            case PlaceFiles(key):
                await self._executor.cast(FilesMissing(key, NO_FILES))
            case KeepOutputs(key):
                await self._executor.cast(OutputsKept(key, (), (NO_FILES,)))
        return NO_REPLY
