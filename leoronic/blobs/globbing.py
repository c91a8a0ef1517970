"""Which files of a folder match the globs of a task's outputs: all globs in one walk."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from leoronic.blobs.inside import (
    DEPTH_MAX,
    STATE_FOLDER,
    kind_of,
    name_problem,
    opened_folder,
    parts_of,
    shown,
    step_into,
)
from leoronic.errors import BadRequest, Refused

OWN_FOLDERS = (STATE_FOLDER, "inbox")
"""Of the node's root; they hold no outputs."""
FILES_MAX = 10_000
NAMES_MAX = 1_000_000
PROBLEMS_MAX = 20
ANY_DEPTH = "**"
_SECOND_NS = 1_000_000_000


class Stamp(NamedTuple):
    """What is another once a file was changed."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def stamp_of(found: os.stat_result) -> Stamp:
    """That of a file."""
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Found(NamedTuple):
    """`paths` are relative to the folder, sorted; `problems` are sentences for a person."""

    paths: tuple[str, ...]
    problems: tuple[str, ...]


def find(
    folder: Path,
    globs: tuple[str, ...],
    skipped: tuple[str, ...] = (),
    *,
    since: float = 0.0,
    brought: Mapping[str, Stamp] = {},
) -> Found:
    """The regular files in `folder` that match any of `globs`; `skipped` names at its top are left,
    and so is what a node keeps for itself, and what was changed last before `since` (seconds since
    the epoch), which is told, and what is still as it was `brought`.

    `*`, `?` and `[...]` match within a name, `**` any number of folders, and as the last part any
    file below. Names that start with a dot are only matched by a dot. No link is followed.
    """
    walk = _Walk(globs, frozenset(skipped), since, brought)
    try:
        with opened_folder(folder) as fd:
            walk.enter(fd, "", walk.start())
    except Refused as error:
        walk.problems.append(error.message)
    except _Enough as enough:
        walk.problems.append(str(enough))
    return walk.found()


class _Enough(Exception):
    """The walk ends here, for this reason."""


class _State(NamedTuple):
    """How far a path has come in a glob: its first `done` parts are matched."""

    glob: int
    done: int


class _Walk:
    """One walk, for all globs."""

    def __init__(
        self,
        globs: tuple[str, ...],
        skipped: frozenset[str],
        since: float,
        brought: Mapping[str, Stamp],
    ) -> None:
        self.problems: list[str] = []
        self._globs = globs
        self._skipped = skipped
        self._since_ns = int(since * _SECOND_NS)
        self._brought = brought
        self._matched_brought: set[int] = set()
        self._parts: list[list[re.Pattern[str] | None]] = []
        self._matched = [False] * len(globs)
        self._folders: dict[int, str] = {}
        self._paths: list[str] = []
        self._names = 0
        for index, glob in enumerate(globs):
            try:
                parts = parts_of(glob)
            except BadRequest as error:
                self.problems.append(error.message)
                self._matched[index] = True
                parts = []
            self._parts.append([_pattern(part) for part in parts])

    def start(self) -> set[_State]:
        """Before any name."""
        return {_State(index, 0) for index, parts in enumerate(self._parts) if parts}

    def enter(self, fd: int, prefix: str, states: set[_State]) -> None:
        """Look at all names of a folder, and into the folders in it that may have matches."""
        states = self._with_no_folders(states)
        with os.scandir(fd) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        self._names += len(found)
        if self._names > NAMES_MAX:
            raise _Enough(f"only the first {NAMES_MAX:,} names were looked at: name its folder")
        for entry in found:
            if entry.name == STATE_FOLDER or (not prefix and entry.name in self._skipped):
                continue
            path = prefix + entry.name
            hits, deeper = self._step(states, entry.name)
            if entry.is_dir(follow_symlinks=False):
                self._folders.update((state.glob, path) for state in hits)
                if deeper:
                    self._go_into(fd, entry.name, path, deeper)
            elif hits:
                self._hit(path, entry, hits)

    def _with_no_folders(self, states: set[_State]) -> set[_State]:
        """`**` may stand for none."""
        found = set(states)
        for glob, done in states:
            parts = self._parts[glob]
            while done < len(parts) - 1 and parts[done] is None:
                done += 1  # noqa: PLW2901
                found.add(_State(glob, done))
        return found

    def _step(self, states: set[_State], name: str) -> tuple[set[_State], set[_State]]:
        """Those that end with this name, and those that go on in the folder of this name."""
        hits, deeper = set(), set()
        for state in states:
            part = self._parts[state.glob][state.done]
            at_end = state.done == len(self._parts[state.glob]) - 1
            if part is None:
                if not name.startswith("."):
                    deeper.add(state)
                    if at_end:
                        hits.add(state)
            elif part.fullmatch(name):
                (hits if at_end else deeper).add(
                    state if at_end else state._replace(done=state.done + 1)
                )
        return hits, deeper

    def _go_into(self, fd: int, name: str, path: str, states: set[_State]) -> None:
        if path.count("/") >= DEPTH_MAX:
            self.problems.append(f"{shown(path)}: not looked into, it is too deep")
            return
        try:
            deeper = step_into(fd, name)
        except OSError as error:
            self.problems.append(f"{shown(path)}: {error.strerror}")
            return
        try:
            self.enter(deeper, path + "/", states)
        finally:
            os.close(deeper)

    def _hit(self, path: str, entry: os.DirEntry[str], hits: set[_State]) -> None:
        try:
            found = entry.stat(follow_symlinks=False)
            kind = kind_of(found.st_mode)
        except FileNotFoundError:
            return
        except OSError as error:  # its folder may be listed, but not gone into
            self._match(hits)
            self.problems.append(f"{shown(path)}: {error.strerror or error}")
            return
        if path in self._brought and self._brought[path] == stamp_of(found):
            self._matched_brought.update(state.glob for state in hits)
            return
        self._match(hits)
        problem = name_problem(path)
        if not problem and kind:
            problem = f"it is {kind}, and only regular files are kept"
        if problem:
            self.problems.append(f"{shown(path)}: {problem}")
            return
        if _changed_ns(found) < self._since_ns:
            self.problems.append(f"{shown(path)} is older than this attempt: not kept")
            return
        if len(self._paths) >= FILES_MAX:
            raise _Enough(
                f"only the first {FILES_MAX:,} files that match are kept: pack them into one"
            )
        self._paths.append(path)

    def _match(self, hits: set[_State]) -> None:
        for state in hits:
            self._matched[state.glob] = True

    def found(self) -> Found:
        """What it found."""
        problems = [*self.problems]
        for index, glob in enumerate(self._globs):
            if self._matched[index]:
                continue
            if (folder := self._folders.get(index)) is not None:
                problems.append(f"{shown(folder)} is a folder: {shown(folder)}/** names its files")
            elif index in self._matched_brought:
                problems.append(
                    f"{shown(glob)} matches only files that came with the task, unchanged: not kept"
                )
            else:
                problems.append(f"no file matches {shown(glob)}")
        if (more := len(problems) - PROBLEMS_MAX) > 0:
            problems = [*problems[:PROBLEMS_MAX], f"and {more} more"]
        return Found(tuple(sorted(self._paths)), tuple(problems))


def _changed_ns(found: os.stat_result) -> int:
    """The latest moment at which the file may have been changed: some disks count whole seconds."""
    last = max(found.st_mtime_ns, found.st_ctime_ns)
    return last if last % _SECOND_NS else last + _SECOND_NS


def _pattern(part: str) -> re.Pattern[str] | None:
    """What a name must match; None for `**`."""
    if part == ANY_DEPTH:
        return None
    hidden = "" if part.startswith(".") else r"(?!\.)"
    return re.compile(hidden + fnmatch.translate(part))
