"""Every node's working directory, brought into a folder: DIR/<node>/..., what is new of it.

A file that is here with the same size and time is not brought again. One that came in part goes on,
if it is still the same on its node. Nothing is removed.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leoronic.blobs.inside import parts_of, shown
from leoronic.client.connection import Client
from leoronic.client.saving import Part, Saving
from leoronic.core.commands import ListFiles, ReadFiles
from leoronic.errors import (
    BadRequest,
    LeoronicError,
    NodeUnreachable,
    NotFound,
    Refused,
    Unavailable,
)

# As many as come in one request; each is an open file here.
OPEN_MAX = 200
PROBLEMS_MAX = 10_000
TRIES_MAX = 5
TRY_AGAIN_S = 1.0

Entry = dict[str, Any]


def folder_name(node: dict[str, Any]) -> str:
    """What the folder of a node is called: its name, or its id if that cannot be a folder's."""
    name = str(node["name"])
    if not name or name.startswith(".") or "/" in name or not name.isprintable():
        name = str(node["id"])
    if len(parts_of(name)) != 1 or name.startswith("."):
        raise BadRequest(f"a node calls itself {shown(name)}: no folder can be named so")
    return name


def leads_inside(path: str, target: str) -> bool:
    """Whether a link at `path` leads to something in the folder that `path` is in.

    Only as far as the text says so, whatever links it goes through: so `..` is for its beginning.
    """
    names = [name for name in target.split("/") if name not in ("", ".")]
    up = next((at for at, name in enumerate(names) if name != ".."), len(names))
    above = len(parts_of(path)) - 1
    return bool(target) and not target.startswith("/") and ".." not in names[up:] and up <= above


def node_folder_around(folder: Path) -> Path | None:
    """The working directory of a node that `folder` is in, if it is in one."""
    found = folder.absolute().resolve()
    return next((one for one in (found, *found.parents) if (one / ".leoronic").is_dir()), None)


class NodeFolder:
    """The working directory of one node, to `folder`/`name`.

    Counts: `files` and `bytes` that came, of `expected` bytes as far as it was listed, and files
    that are `unchanged`; `problems` are sentences, and so are `notes`, of what is not brought and
    need not be. `advance` is called when bytes have come.
    """

    def __init__(
        self, node: str, name: str, folder: Path, advance: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self.files = 0
        self.bytes = 0
        self.expected = 0
        self.unchanged = 0
        self.problems: list[str] = []
        self.problem_count = 0
        self.notes: list[str] = []
        self.note_count = 0
        self._node = node
        self._saving = Saving(folder / name)
        self._advance = advance
        self._after = ""
        self._over = False
        # Files of the page in turn that have come: after a break they are no longer new.
        self._came: set[str] = set()

    def tell(self, problem: str) -> None:
        """Something is not here that should be."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)

    def note(self, what: str) -> None:
        """Something is not here, which is as it should be."""
        self.note_count += 1
        if len(self.notes) < PROBLEMS_MAX:
            self.notes.append(what)

    def go_on(self, client: Client) -> None:
        """To the end; it may be called again when the node that is asked went away.

        Raises `NodeUnreachable`; what is wrong with the node itself is told.
        """
        tries = 0
        while not self._over:
            bytes_before, after_before = self.bytes, self._after
            try:
                self._one_page(client)
            except NodeUnreachable:
                raise
            except (NotFound, Unavailable) as error:
                # Right after its start, the node that is asked does not know the others yet.
                moved = (self.bytes, self._after) != (bytes_before, after_before)
                tries = 1 if moved else tries + 1
                if tries >= TRIES_MAX:
                    self.tell(f"{error.message}: the rest of it is missing: collect again")
                    return
                time.sleep(TRY_AGAIN_S)
            except LeoronicError as error:
                self.tell(error.message)
                return

    def _one_page(self, client: Client) -> None:
        page = client.request(ListFiles(self._node, self._after))
        unchanged = 0
        told: list[str] = []
        wanted: dict[str, tuple[Entry, Part]] = {}
        try:
            for entry in page["entries"]:
                try:
                    if self._is_here(entry):
                        unchanged += entry["path"] not in self._came
                    elif entry["kind"] == "file":
                        part = self._part(entry)
                        wanted[entry["path"]] = entry, part
                        self.expected += entry.get("size", 0) - part.size
                except LeoronicError as error:
                    told.append(error.message)
                if len(wanted) >= OPEN_MAX:
                    told += self._fetch(client, wanted)
            told += self._fetch(client, wanted)
        finally:
            for _, part in wanted.values():
                part.close()
        for problem in told:
            self.tell(problem)
        self.unchanged += unchanged
        self._came.clear()
        self._after, self._over = page["after"], not page["more"]

    def _is_here(self, entry: Entry) -> bool:
        """Whether a file is here as it is there. Makes folders. Raises why it cannot be had."""
        path, kind = entry["path"], entry["kind"]
        parts_of(path)
        if entry.get("problem"):
            raise Refused(f"{shown(path)}: {entry['problem']}")
        if kind == "folder":
            self._saving.folder(path)
        elif kind == "link":
            return self._link_is_here(entry)
        elif kind != "file":
            raise Refused(f"{shown(path)} is no regular file: skipped")
        if kind != "file":
            return False
        found = self._saving.found(path)
        return (
            found is not None
            and stat.S_ISREG(found.st_mode)
            and (found.st_size, found.st_mtime_ns) == (entry.get("size", 0), _mtime(entry))
        )

    def _link_is_here(self, entry: Entry) -> bool:
        """A link is kept as a link, if it leads to something in the same directory."""
        path, target = entry["path"], entry.get("target", "")
        if not leads_inside(path, target):
            self.note(f"{shown(path)} is a link that leads out ({shown(target)}): skipped")
            return False
        if self._saving.link(path, target):
            self.files += 1
            self._came.add(path)
        return True

    def _part(self, entry: Entry) -> Part:
        stamp = f"{entry.get('size', 0)} {_mtime(entry)}"
        return self._saving.part(entry["path"], stamp, entry.get("size", 0))

    # ---- bytes ----

    def _fetch(self, client: Client, wanted: dict[str, tuple[Entry, Part]]) -> list[str]:
        """The bytes of `wanted`, which is empty afterwards. What went wrong with which."""
        problems: list[str] = []
        files = [(path, part.size, entry.get("size", 0)) for path, (entry, part) in wanted.items()]
        for item, blob in client.stream(ReadFiles(files, self._node)) if files else ():
            if item["path"] not in wanted:
                continue
            entry, part = wanted[item["path"]]
            try:
                over = self._take(entry, part, item, blob)
            except LeoronicError as error:
                problems.append(error.message)
                over = True
            if over:
                del wanted[item["path"]]
        for _, part in wanted.values():
            part.close()
        wanted.clear()
        return problems

    def _take(self, entry: Entry, part: Part, item: Entry, blob: bytes) -> bool:
        """One item of a file. Whether that was the last. Raises what is wrong with it."""
        path = entry["path"]
        if "problem" in item:
            # What is there of it may be of an earlier state.
            part.discard()
            said = item["problem"]
            raise Refused(said if shown(path) in said else f"{shown(path)}: {said}")
        listed = (entry.get("size", 0), _mtime(entry))
        if (item["size"], item["mtime_ns"]) != listed:
            part.discard()
            raise Refused(f"{shown(path)}: it changed while it was read: collect again")
        if item["offset"] != part.size or part.size + len(blob) > item["size"]:
            part.discard()
            raise Refused(f"{shown(path)}: the node sent other bytes than were asked for")
        part.write(blob, item["offset"])
        self.bytes += len(blob)
        self._advance()
        if part.size < item["size"]:
            return False
        part.finish(entry.get("mode", 0o644), item["mtime_ns"])
        self.files += 1
        self._came.add(path)
        return True


def _mtime(entry: Entry) -> int:
    return int(entry.get("mtime_ns", 0))
