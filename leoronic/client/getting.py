"""The files that a task left, brought into a folder; what is there already is not brought again."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leoronic.blobs.disk import read_at
from leoronic.blobs.hashing import digest_bytes, name_of
from leoronic.client.connection import Client
from leoronic.client.saving import Part, Saving
from leoronic.core.blob import ChunkList, chunk_bytes_for
from leoronic.core.commands import Get
from leoronic.errors import BadRequest, LeoronicError, Refused

# Each is an open file here.
OPEN_MAX = 200

Advance = Callable[[str, int, int], None]
"""Told of each file as it comes: its path, and how many of how many bytes are there."""


class Getting:
    """The files of one task to `folder`. `replace`: also those that another file is in the way of.

    `problems` are sentences, `there` the paths of files that are complete, in order.
    """

    def __init__(
        self,
        task: str,
        folder: Path,
        *,
        replace: bool = False,
        advance: Advance = lambda path, done, size: None,
    ) -> None:
        self._task = task
        self._saving = Saving(folder)
        self._replace = replace
        self._advance = advance
        self._problems: dict[str, str] = {}
        self._there: dict[str, None] = {}
        self._told: dict[str, Any] = {}

    @property
    def told(self) -> dict[str, Any]:
        """What the node said of the task's files: the result of `commands.Get`."""
        return self._told

    @property
    def problems(self) -> list[str]:
        """Of what could not be got, or not be kept in the first place."""
        return [*self._told.get("problems", ()), *self._problems.values()]

    @property
    def there(self) -> list[str]:
        """Paths in the folder."""
        return list(self._there)

    def go_on(self, client: Client) -> None:
        """Get what is missing; it may be called again when the node went away."""
        stream = client.stream(Get(self._task))
        for _ in stream:
            pass
        self._told = stream.result
        wanted: dict[str, Part] = {}
        try:
            for file in self._told["files"]:
                self._want(file, wanted)
                if len(wanted) >= OPEN_MAX:
                    self._fetch(client, wanted)
            self._fetch(client, wanted)
        finally:
            for part in wanted.values():
                part.close()

    def _want(self, file: dict[str, Any], wanted: dict[str, Part]) -> None:
        path = file["path"]
        if path in self._there or path in self._problems:
            return
        try:
            if self._is_here(file):
                self._there[path] = None
                return
            part = self._saving.part(path, file["digest"], file["size"])
        except LeoronicError as error:
            self._problems[path] = error.message
            return
        if part.size == file["size"] and _digest(part.fd, file) != file["digest"]:
            part.begin_anew()
        wanted[path] = part

    def _is_here(self, file: dict[str, Any]) -> bool:
        """Raises `BadRequest` if there is another in its place that must stay."""
        found = self._saving.found(file["path"])
        if found is None:
            return False
        if stat.S_ISREG(found.st_mode) and found.st_size == file["size"]:
            fd = self._saving.open(file["path"])
            try:
                if _digest(fd, file) == file["digest"]:
                    return True
            finally:
                os.close(fd)
        if not self._replace:
            raise BadRequest(
                f"{file['path']}: another file is there already: name another folder, or --replace"
            )
        return False

    def _fetch(self, client: Client, wanted: dict[str, Part]) -> None:
        """The bytes of all of `wanted`, which is empty afterwards."""
        if not wanted:
            return
        files = {file["path"]: file for file in self._told["files"] if file["path"] in wanted}
        resumed = {path for path, part in wanted.items() if part.size}
        have = {path: part.size for path, part in wanted.items()}
        for item, blob in client.stream(Get(self._told["task"], have)):
            if "fetched" in item:
                self._advance("from other nodes", item["fetched"], item["size"])
            elif (part := wanted.get(item["path"])) is not None:
                try:
                    if self._take(part, files[item["path"]], item, blob, resumed):
                        del wanted[item["path"]]
                except LeoronicError as error:
                    self._problems[item["path"]] = error.message
                    del wanted[item["path"]]
        for path, part in wanted.items():
            self._problems[path] = f"{path}: the node sent less of it than it has"
            part.close()
        wanted.clear()

    def _take(
        self, part: Part, file: dict[str, Any], item: dict[str, Any], blob: bytes, resumed: set[str]
    ) -> bool:
        """One item of a file. Whether that was the last. Raises what is wrong with it."""
        path = file["path"]
        if "problem" in item:
            part.close()
            said = item["problem"]
            raise Refused(said if said.startswith(f"{path}: ") else f"{path}: {said}")
        if item["offset"] != part.size or part.size + len(blob) > file["size"]:
            part.discard()
            raise Refused(f"{path}: the node sent other bytes than were asked for")
        part.write(blob, item["offset"])
        self._advance(path, part.size, file["size"])
        if part.size < file["size"]:
            return False
        # What came now was checked on its way; what was here may have been touched meanwhile.
        if path in resumed and _digest(part.fd, file) not in (file["digest"], ""):
            part.discard()
            raise Refused(f"{path}: the part that was here was damaged: get it again")
        part.finish(file["mode"])
        self._there[path] = None
        return True


def _digest(fd: int, file: dict[str, Any]) -> str:
    """That of an open file of the size of `file`; '' if it cannot be checked here."""
    size, algorithm = file["size"], file["digest"][:2]
    chunk_bytes = chunk_bytes_for(size)
    names = bytearray()
    try:
        for offset in range(0, size, chunk_bytes):
            data = read_at(fd, min(chunk_bytes, size - offset), offset)
            names += digest_bytes(algorithm, data)
    except Refused:
        return ""
    return name_of(ChunkList(algorithm, size, chunk_bytes, bytes(names)))
