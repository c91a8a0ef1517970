"""Files of attempts: what is placed before one starts, and what it leaves is kept.

Asked for by level: a request that is known is answered again, or goes on. What an attempt brings is
held until it is forgotten, since another try of the same task may well come here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from leoronic.core.blob import is_digest
from leoronic.core.fetches import Fetches
from leoronic.core.file_effects import (
    DropFolders,
    DropOtherFolders,
    GlobOutputs,
    OutputsMade,
    Place,
    Placed,
    PlaceFailed,
)
from leoronic.core.file_messages import (
    FilesMissing,
    FilesOf,
    FilesPlaced,
    ForgetFiles,
    KeepOutputs,
    OutputsKept,
    PlaceFiles,
)
from leoronic.core.file_outbox import FileOutbox
from leoronic.core.peer import DIGESTS_MAX, KeepBlobs
from leoronic.core.run import AttemptKey

RUNNER = "runner"
PLACE_TRIES_MAX = 3
# A ghost's outputs are safe only with its clairvoyant.
HANDOVER_AGAIN_S = 2.0
HANDOVER_S = 120.0
# While somebody fetches them, which may take long; but not for ever, if it never gets them.
HANDOVER_S_MAX = 3600.0


class _Stage(Enum):
    FETCHING = 0
    PLACING = 1
    PLACED = 2


class _Job:
    def __init__(self, request: PlaceFiles) -> None:
        self.request = request
        self.stage = _Stage.FETCHING
        self.tries = 0
        self.missing: set[str] = set()
        self.fetched = False

    def name_of(self, digest: str) -> str:
        return next(file.path for file in self.request.files if file.digest == digest)


class _Outputs:
    """What an attempt left. `unsafe`: blobs that must be elsewhere, too, before it is told."""

    def __init__(self) -> None:
        self.kept: OutputsKept | None = None
        self.unsafe: set[str] = set()
        self.made_at = 0.0
        self.asked_at = 0.0  # when they were last asked for, or somebody came who may take them


class FileJobs:
    """See the module. `holds` tells whether a blob is on this disk. `hand_over`: outputs count as
    kept only once another node has them, too (this is a ghost).
    """

    def __init__(
        self,
        out: FileOutbox,
        fetches: Fetches,
        holds: Callable[[str], bool],
        *,
        hand_over: bool = False,
    ) -> None:
        self._out = out
        self._fetches = fetches
        self._holds = holds
        self._hand_over = hand_over
        self._jobs: dict[AttemptKey, _Job] = {}
        self._outputs: dict[AttemptKey, _Outputs] = {}
        self._keeper = ""
        self._tell_at: float | None = None

    def digests(self) -> Iterator[str]:
        """What must stay here."""
        for job in self._jobs.values():
            for file in job.request.files:
                yield file.digest
        for outputs in self._outputs.values():
            if outputs.kept is not None:
                for file in outputs.kept.outputs:
                    yield file.digest

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of any attempt."""
        return not self._jobs and not self._outputs

    # ---- placing ----

    def place(self, request: PlaceFiles) -> None:
        """The executor wants the files of an attempt."""
        job = self._jobs.get(request.key)
        if job is not None:
            if job.stage is _Stage.PLACED:
                self._out.send(RUNNER, FilesPlaced(request.key))
            return
        job = self._jobs[request.key] = _Job(request)
        for file in request.files:
            if not is_digest(file.digest):
                self._give_up(request.key, f"{file.path}: it is not known what this is")
                return
        self._fetch(job)

    def _fetch(self, job: _Job) -> None:
        wanted = dict.fromkeys(file.digest for file in job.request.files)
        job.missing = {digest for digest in wanted if not self._holds(digest)}
        if not job.missing:
            job.stage = _Stage.PLACING
            self._out.disk(Place(*job.request))
            return
        job.fetched = True
        for digest in wanted:
            if digest in job.missing and not self._fetches.fetch(digest):
                self._give_up(job.request.key, "too many files are being fetched already")
                return

    def arrived(self, digest: str) -> None:
        """It is here now."""
        for job in list(self._jobs.values()):
            if digest in job.missing:
                job.missing.discard(digest)
                if not job.missing:
                    self._fetch(job)  # Some may have gone since.

    def failed(self, digest: str, reason: str, *, lost: bool) -> None:
        """It cannot be had; `lost`: nor ever."""
        for key, job in list(self._jobs.items()):
            if digest in job.missing:
                self._give_up(key, f"{job.name_of(digest)}: {reason}", lost=lost)

    def waits_for(self, digest: str) -> bool:
        """Whether an attempt does."""
        return any(digest in job.missing for job in self._jobs.values())

    def _give_up(self, key: AttemptKey, reason: str, *, lost: bool = False) -> None:
        del self._jobs[key]
        self._out.send(RUNNER, FilesMissing(key, reason, lost))

    def on_placed(self, message: Placed) -> None:
        """The disk has done it."""
        job = self._jobs.get(message.key)
        if job is not None and job.stage is _Stage.PLACING:
            job.stage = _Stage.PLACED
            self._out.send(RUNNER, FilesPlaced(message.key, job.fetched))

    def on_place_failed(self, message: PlaceFailed) -> None:
        """The disk could not. What turned out to be missing is fetched again."""
        job = self._jobs.get(message.key)
        if job is None or job.stage is not _Stage.PLACING:
            return
        job.tries += 1
        if message.missing and job.tries < PLACE_TRIES_MAX:
            job.stage = _Stage.FETCHING
            self._fetch(job)
        else:
            self._give_up(message.key, message.reason)

    # ---- keeping ----

    def keep(self, request: KeepOutputs) -> None:
        """The executor wants what an attempt left to be kept."""
        known = self._outputs.get(request.key)
        if known is None:
            self._outputs[request.key] = _Outputs()
            self._out.disk(GlobOutputs(*request))
        elif known.kept is not None and not known.unsafe:
            self._out.send(RUNNER, known.kept)

    def on_made(self, message: OutputsMade) -> None:
        """They are on this disk."""
        outputs = self._outputs.get(message.key)
        if outputs is None or outputs.kept is not None:
            return
        outputs.kept = OutputsKept(*message)
        outputs.made_at = outputs.asked_at = self._out.now
        if self._hand_over:
            outputs.unsafe = {file.digest for file in message.outputs}
            self._tell_at = self._out.now
        if not outputs.unsafe:
            self._out.send(RUNNER, outputs.kept)

    def see(self, peers: list[str]) -> None:
        """These can be reached: of a ghost, its clairvoyant."""
        keeper = peers[0] if peers else ""
        if keeper != self._keeper:
            self._keeper = keeper
            for outputs in self._outputs.values():
                outputs.made_at = outputs.asked_at = self._out.now
            if self._tell_at is not None:
                self._tell_at = self._out.now

    def asked_for(self, digest: str) -> None:
        """Another node fetches that from here."""
        for outputs in self._outputs.values():
            if digest in outputs.unsafe:
                outputs.asked_at = self._out.now

    def elsewhere(self, digests: Iterable[str]) -> None:
        """Another node has these, too."""
        for outputs in self._outputs.values():
            if outputs.unsafe:
                outputs.unsafe.difference_update(digests)
                if not outputs.unsafe and outputs.kept is not None:
                    self._out.send(RUNNER, outputs.kept)

    def _tell_keeper(self) -> None:
        """Have outputs fetched from here, again and again until it has them."""
        unsafe: dict[str, None] = {}
        for outputs in self._outputs.values():
            if outputs.unsafe and outputs.kept is not None:
                if self._keeper and self._is_overdue(outputs):
                    self._keep_without(outputs, outputs.kept)
                    continue
                for digest in sorted(outputs.unsafe):
                    unsafe[digest] = None
        wanted = list(unsafe)
        if self._keeper and wanted:
            self._out.tell(self._keeper, KeepBlobs(self._out.me, wanted[:DIGESTS_MAX]))
        self._tell_at = self._out.now + HANDOVER_AGAIN_S if wanted else None

    def _is_overdue(self, outputs: _Outputs) -> bool:
        """Whether nobody will take them. Time counts while there is somebody who might."""
        due = min(outputs.asked_at + HANDOVER_S, outputs.made_at + HANDOVER_S_MAX)
        return self._out.now >= due

    def _keep_without(self, outputs: _Outputs, kept: OutputsKept) -> None:
        """Nobody would take some of them: these are lost with this node."""
        safe = [file for file in kept.outputs if file.digest not in outputs.unsafe]
        lost = [file for file in kept.outputs if file.digest in outputs.unsafe]
        problems = [f"{file.path}: no other node has taken it" for file in lost]
        outputs.unsafe = set()
        outputs.kept = OutputsKept(kept.key, tuple(safe), (*kept.problems, *problems))
        self._out.send(RUNNER, outputs.kept)

    # ---- forgetting ----

    def forget(self, message: ForgetFiles) -> list[str]:
        """The executor needs them no longer. Which blobs they were waiting for."""
        missing: set[str] = set()
        for key in message.keys:
            job = self._jobs.pop(key, None)
            if job is not None:
                missing |= job.missing
            self._outputs.pop(key, None)
        self._out.disk(DropFolders(message.keys))
        return sorted(missing)

    def forget_others(self, message: FilesOf) -> list[str]:
        """The executor has these attempts, and no others. Which blobs those waited for."""
        keys = set(message.keys)
        others = [job for key, job in self._jobs.items() if key not in keys]
        self._jobs = {key: job for key, job in self._jobs.items() if key in keys}
        self._outputs = {key: made for key, made in self._outputs.items() if key in keys}
        self._out.disk(DropOtherFolders(message.keys))
        return sorted({digest for job in others for digest in job.missing})

    # ---- time ----

    def due(self) -> float | None:
        """When `look` is to be called next."""
        return self._tell_at

    def look(self) -> None:
        """Do what is due."""
        if self._tell_at is not None and self._out.now >= self._tell_at:
            self._tell_keeper()
