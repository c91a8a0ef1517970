"""What the file store wants of its disk (`core/file_effects.py`), done: for threads, as it blocks.

Nothing of `blobs` is imported before there is a blob: most nodes never see one, and have no memory
to spare.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from leoronic.actors.file_spares import Spares
from leoronic.core.attempt_files import WORK, private_folder
from leoronic.core.blob import BlobRef, FileRef
from leoronic.core.file_effects import (
    BeginPart,
    DropFolders,
    DropOtherFolders,
    FindUnneeded,
    FinishPart,
    FoundCorrupt,
    GlobOutputs,
    HereNow,
    ListBlobs,
    ListRead,
    OutputsMade,
    PartBegun,
    PartFailed,
    PartFinished,
    Place,
    Placed,
    PlaceFailed,
    ReadList,
    RemoveBlobs,
    RoomWanted,
    UnneededTold,
)
from leoronic.core.run import AttemptKey
from leoronic.errors import BadRequest, DiskFull, LeoronicError, NotFound
from leoronic.runner.removing import remove_tree

if TYPE_CHECKING:
    from leoronic.actors.file_calls import Makings
    from leoronic.blobs.globbing import Found, Stamp
    from leoronic.blobs.making import Progress
    from leoronic.blobs.store import BlobStore, Held

T = TypeVar("T")

STATE_FOLDER = ".leoronic"
INBOX = "inbox"
RESERVE_BYTES = 1024 * 1024 * 1024
RESERVE_SHARE = 0.05
QUOTA_SHARE = 0.1
READ_BYTES_MAX = 4 * 1024 * 1024
# So far behind the clock may the times of files be.
CLOCK_STEP_S = 0.05

Needed = Callable[[Sequence[str]], Set[str]]
"""Those of some digests that the journal needs; to be called in a thread. Raises if it is gone."""


class Limits(NamedTuple):
    """Bytes. `quota` None: a tenth of the disk; `reserve` None: 1 GiB or 5 %, whichever is more."""

    quota: int | None = None
    reserve: int | None = None


class FileDisk:
    """For the node whose folder is `root`. All of it may be called by several threads at once."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root = root
        self.limits = limits
        self._folder = root / STATE_FOLDER / "blobs"
        self._opening = threading.Lock()
        self._store: BlobStore | None = None
        self._found: dict[str, float] = {}  # what should go, and when it was used last then
        self._placed: dict[AttemptKey, dict[str, Stamp]] = {}
        self._files: dict[AttemptKey, tuple[FileRef, ...]] = {}
        self._spares = Spares(self._folder / "spare")

    @property
    def store(self) -> BlobStore:
        """The blobs; the first who asks has them looked at. Raises `LeoronicError`."""
        with self._opening:
            if self._store is None:
                from leoronic.blobs.store import BlobStore  # noqa: PLC0415 - see the module

                reserve, share = self.limits.reserve, 0.0
                if reserve is None:
                    reserve, share = RESERVE_BYTES, RESERVE_SHARE
                store = BlobStore(self._folder, reserve_bytes=reserve, reserve_share=share)
                store.open()
                self._store = store
            return self._store

    @property
    def is_untouched(self) -> bool:
        """Whether nobody has needed it yet, in this life."""
        return self._store is None

    def algorithm(self, wanted: str) -> str:
        """The one to name new blobs with: `wanted`, if it is there."""
        from leoronic.blobs.hashing import digests  # noqa: PLC0415 - see the module

        return wanted if wanted in digests() else "s2"

    # ---- the machine's effects; each returns what the machine is told ----

    def guarded(self, work: Callable[[T], Sequence[object]], message: T) -> Sequence[object]:
        """What comes of `work(message)`, also if the disk fails."""
        try:
            return work(message)
        except (LeoronicError, OSError) as error:
            if isinstance(message, RemoveBlobs) and self._store is not None:
                store = self._store
                left = [digest for digest in message.digests if store.has(digest)]
                return [HereNow(tuple(BlobRef(digest, store.size(digest)) for digest in left))]
            return failed(message, _told(error))

    def list_blobs(self, _message: ListBlobs) -> list[object]:
        """All that is here."""
        self._spares.clear()
        if not _has_blobs(self._folder):
            return [HereNow(whole=True)]
        refs = tuple(BlobRef(held.digest, held.size) for held in self.store.held())
        return [HereNow(refs, whole=True)]

    def begin_part(self, message: BeginPart) -> list[object]:
        """A blob is to be fetched."""
        from leoronic.blobs.hashing import Corrupt  # noqa: PLC0415 - see the module

        digest, store = message.digest, self.store
        try:
            part = store.begin(digest, message.list)
        except Corrupt as error:
            return [PartFailed(digest, error.message, wrong_list=True)]
        except LeoronicError as error:
            if store.has(digest):
                return [HereNow((BlobRef(digest, store.size(digest)),))]
            short = [RoomWanted(message.list.size)] if isinstance(error, DiskFull) else []
            return [*short, PartFailed(digest, error.message)]
        have = 0
        for first, after in part.here():
            have |= (1 << after) - (1 << first)
        return [PartBegun(digest, have)]

    def finish_part(self, message: FinishPart) -> list[object]:
        """All of it has come."""
        digest, store = message.digest, self.store
        part = store.under_way(digest)
        try:
            if part is not None:
                part.finish()
            return [PartFinished(digest, store.size(digest))]
        except LeoronicError as error:
            return [PartFailed(digest, error.message)]

    def end_parts(self, digests: Iterable[str]) -> list[object]:
        """Nobody fetches these any more: what has come stays, but the files are closed."""
        for digest in digests:
            part = self.store.under_way(digest)
            if part is not None:
                part.close()
        return []

    def read_list(self, message: ReadList) -> list[object]:
        """Somebody wants to fetch it."""
        digest = message.digest
        try:
            return [ListRead(digest, self.store.list_of(digest))]
        except LeoronicError:
            return [*self._gone(digest), ListRead(digest, None)]

    def place(self, message: Place) -> list[object]:
        """The files of an attempt, in a new folder."""
        from leoronic.blobs.globbing import stamp_of  # noqa: PLC0415 - see the module
        from leoronic.blobs.placing import place  # noqa: PLC0415 - see the module

        store, folder = self.store, self.root / message.folder
        placed: dict[str, Stamp] = {}
        try:
            remove_tree(folder)
            spare = self._spares.take(folder, message.files)
            for file in message.files:
                if spare:
                    store.use(file.digest)
                else:
                    place(store, file.digest, self.root, f"{message.folder}/{file.name}", file.mode)
                placed[file.name] = stamp_of((folder / file.name).lstat())
        except (LeoronicError, OSError) as error:
            remove_tree(folder)
            digests = dict.fromkeys(file.digest for file in message.files)
            missing = tuple(digest for digest in digests if not store.has(digest))
            return [PlaceFailed(message.key, _told(error), missing)]
        self._placed[message.key], self._files[message.key] = placed, message.files
        return [Placed(message.key)]

    def glob_outputs(
        self, message: GlobOutputs, algorithm: str, *, last: bool = True
    ) -> list[object]:
        """Blobs of what an attempt has left. Raises `DiskFull` if it is not the `last` try."""
        from leoronic.blobs.making import make_from_file  # noqa: PLC0415 - see the module

        folder = Path(message.folder)
        found = self._find_outputs(message)
        problems, outputs = list(found.problems), []
        algorithm = self.algorithm(algorithm)
        for path in found.paths:
            try:
                made = make_from_file(self.store, algorithm, folder, path, inside=True)
            except LeoronicError as error:
                if isinstance(error, DiskFull) and not last:
                    raise
                problems.append(error.message)
                continue
            blob = made.blob
            outputs.append(FileRef(path, digest=blob.digest, size=blob.size, mode=made.mode))
        return [OutputsMade(message.key, tuple(outputs), _some(problems))]

    def size_of_outputs(self, message: GlobOutputs) -> int:
        """How much room all of them take."""
        return self.size_of(Path(message.folder), self._find_outputs(message).paths)

    def _find_outputs(self, message: GlobOutputs) -> Found:
        from leoronic.blobs.globbing import OWN_FOLDERS, find  # noqa: PLC0415 - see the module

        folder = Path(message.folder)
        skipped = OWN_FOLDERS if folder == self.root else ()
        # Of what an earlier life of the core placed nothing is known: it is kept if it matches.
        private = folder == self.root / private_folder(message.key)
        brought = self._placed.get(message.key, {}) if private else {}
        return find(folder, message.globs, skipped, since=message.since, brought=brought)

    def drop_folders(self, message: DropFolders) -> list[object]:
        """Of attempts that are over."""
        for key in message.keys:
            self._drop(key)
        return []

    def drop_other_folders(
        self, message: DropOtherFolders, before: float = math.inf
    ) -> list[object]:
        """Left over from an earlier life; what changed after `before` is of an attempt begun since.

        `before` in seconds since the epoch: the runner makes folders, too, and waits for nobody.
        """
        mine = {Path(private_folder(key)).name for key in message.keys}
        self._placed = {key: self._placed[key] for key in message.keys if key in self._placed}
        self._files = {key: self._files[key] for key in message.keys if key in self._files}
        try:
            names = [name for name in os.listdir(self.root / WORK) if name not in mine]  # noqa: PTH208 - names
        except OSError:
            return []
        for name in names:
            folder = self.root / WORK / name
            with contextlib.suppress(FileNotFoundError):
                if folder.lstat().st_mtime < before - CLOCK_STEP_S:
                    remove_tree(folder)
        return []

    def _drop(self, key: AttemptKey) -> None:
        self._placed.pop(key, None)
        files = self._files.pop(key, ())
        if files and self._spares.keep(self.root / private_folder(key), files):
            return
        remove_tree(self.root / private_folder(key))

    def find_unneeded(self, message: FindUnneeded, needed: Needed, wanted: int = 0) -> list[object]:
        """What should go, so that there is room for `wanted` more bytes."""
        from leoronic.blobs.collecting import collect  # noqa: PLC0415 - see the module

        found: dict[str, float] = {}
        self._spares.clear()

        def note(blob: Held) -> bool:
            found[blob.digest] = blob.used_at
            return True

        def stay(digests: Sequence[str]) -> Set[str]:
            rest = [digest for digest in digests if digest not in message.held]
            return message.held & set(digests) | (needed(rest) if rest else set())

        collect(self.store, stay, quota=self.quota(), wanted=wanted, remove=note)
        self._found = found
        return [UnneededTold(tuple(found))]

    def remove_blobs(self, message: RemoveBlobs, needed: Needed) -> list[object]:
        """They go, but for those that somebody has come to need."""
        from leoronic.blobs.collecting import ASKED_MAX  # noqa: PLC0415 - see the module

        store, kept = self.store, []
        for first in range(0, len(message.digests), ASKED_MAX):
            some = message.digests[first : first + ASKED_MAX]
            wanted = needed(some)
            for digest in some:
                used_at = self._found.get(digest, 0.0)
                if digest in wanted or not store.remove(digest, unused_since=used_at):
                    kept.append(digest)
        here = tuple(BlobRef(digest, store.size(digest)) for digest in kept if store.has(digest))
        return [HereNow(here)] if here else []

    def quota(self) -> int:
        """Bytes that all blobs may take."""
        if self.limits.quota is not None:
            return self.limits.quota
        disk = os.statvfs(self._folder)
        return int(disk.f_blocks * disk.f_frsize * QUOTA_SHARE)

    # ---- for the doors ----

    def make(
        self, folder: Path, paths: Sequence[str], algorithm: str, progress: Progress
    ) -> Makings:
        """A blob of each, or what is wrong with it; `progress` is told the bytes done of all."""
        from leoronic.blobs.making import make_from_file  # noqa: PLC0415 - see the module

        done = 0
        made: Makings = []
        algorithm = self.algorithm(algorithm)
        for path in paths:
            before = done
            try:
                one = make_from_file(
                    self.store,
                    algorithm,
                    folder,
                    path,
                    inside=False,
                    progress=lambda size, before=before: progress(before + size),  # type: ignore[misc]
                )
            except LeoronicError as error:
                made.append(error)
                continue
            done += one.blob.size
            made.append(one)
        return made

    def size_of(self, folder: Path, paths: Iterable[str]) -> int:
        """Of all these files together; those that are wrong count nothing."""
        size = 0
        for path in paths:
            try:
                size += (folder / path).stat().st_size
            except (OSError, ValueError):
                continue
        return size

    def read(self, digest: str, offset: int, limit: int) -> bytes:
        """At most `limit` bytes. Raises `NotFound`, and `Corrupt` if it is that now."""
        store = self.store
        chunks = store.list_of(digest)
        if offset >= chunks.size:
            return b""
        index, skipped = divmod(offset, chunks.chunk_bytes)
        data = store.read_chunk(digest, index)[skipped : skipped + min(limit, READ_BYTES_MAX)]
        store.use(digest)
        return data

    def put(self, file: FileRef) -> None:
        """A copy of a blob in the node's folder. Raises as `placing.place`."""
        from leoronic.blobs.inside import parts_of, shown  # noqa: PLC0415 - see the module
        from leoronic.blobs.placing import place  # noqa: PLC0415 - see the module

        parts = parts_of(file.name)
        if STATE_FOLDER in parts or parts[0] == INBOX:
            raise BadRequest(f"{shown(file.name)}: nothing is put where a node keeps its own files")
        place(self.store, file.digest, self.root, file.name, file.mode, durable=True)

    def _gone(self, digest: str) -> list[object]:
        """What is to be told of a blob that could not be read."""
        return [] if self.store.has(digest) else [FoundCorrupt(digest)]


def failed(message: object, reason: str) -> list[object]:
    """What the machine is told if the disk can do nothing."""
    match message:
        case ListBlobs():
            return [HereNow(whole=True)]
        case BeginPart(digest) | FinishPart(digest):
            return [PartFailed(digest, reason)]
        case ReadList(digest):
            return [ListRead(digest, None)]
        case Place(key):
            return [PlaceFailed(key, reason)]
        case GlobOutputs(key):
            return [OutputsMade(key, (), (reason,))]
        case FindUnneeded():
            return [UnneededTold(())]
    return []


def is_corrupt(error: LeoronicError) -> bool:
    """Whether a blob was found to be damaged, or gone, by this error."""
    from leoronic.blobs.hashing import Corrupt  # noqa: PLC0415 - see the module

    return isinstance(error, Corrupt | NotFound)


def _has_blobs(folder: Path) -> bool:
    """Whether an earlier life has left anything there."""
    try:
        with os.scandir(folder) as found:
            return any(True for entry in found if entry.name != "parts") or any(
                (folder / "parts").iterdir()
            )
    except FileNotFoundError:
        return False


def _told(error: LeoronicError | OSError) -> str:
    return error.message if isinstance(error, LeoronicError) else (error.strerror or str(error))


def _some(problems: list[str]) -> tuple[str, ...]:
    from leoronic.blobs.globbing import PROBLEMS_MAX  # noqa: PLC0415 - see the module

    more = len(problems) - PROBLEMS_MAX
    return (*problems[:PROBLEMS_MAX], *([f"and {more} more"] if more > 0 else ()))
