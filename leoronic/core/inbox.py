"""The inbox: dropped files become tasks. Decides; the actor looks, submits and moves.

    queued -> looking -> taken -> gone        submitted or refused, then moved out of the inbox
                 |          |
              waiting      left               being written, or not understood yet | cannot be moved

Listings are the truth, told again and again; what was noticed in between is only a reason to list
early. A file is taken when nobody has it open for writing and it can be read as tasks. Where the
system cannot tell who writes, it has to be unchanged for `SETTLED_S` instead. What cannot be read
as tasks may be half of something, so it is refused only once unchanged for `REFUSED_AFTER_S`.

The same file seen twice, because the node died between submitting and moving it, is harmless: a
task without an id of its own gets one made from the file's name, size, time of change and content
and its place in the file, and the queue knows an id that it has. A fresh copy of a file has a new
time of change, so it is a new submission; a copy that keeps the time (`cp -p`) is not.
"""

from __future__ import annotations

import hashlib
from heapq import heappop, heappush
from typing import NamedTuple

import msgspec

from leoronic.core.effects import Effect as CommonEffect
from leoronic.core.effects import Fired, Log, SetTimer
from leoronic.core.quantity import format_size
from leoronic.core.spec import TaskSpec

FILE_BYTES_MAX = 16 * 1024 * 1024
LOOKS_MAX = 500
"""Files looked at in one go, and about how many may be in hand at a time."""
SETTLED_S = 0.3
REFUSED_AFTER_S = 2.0
PAUSE_MIN_S = 0.5
PAUSE_MAX_S = 30.0
TIMER = "inbox"
_NAMES_LOGGED_MAX = 3

_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LETTERS = 12


class Seen(NamedTuple):
    """A name in the inbox, as it stands: two that are equal have the same content.

    `kind` is `file` (also a link to one inside the node's folder), `directory`, `outside` (a link
    that leads out), `dangling` (a link that leads nowhere) or `other`.
    """

    kind: str
    size: int
    mtime_ns: int
    inode: int


# ---- what the machine is told ----


class Listed(NamedTuple):
    """All names in the inbox that `is_candidate`, in the order in which they are to be taken."""

    files: list[tuple[str, Seen]]


class Looked(NamedTuple):
    """One file was looked at. `seen` is None if it is gone.

    `writer` says whether somebody has it open for writing, None that this cannot be told. `specs`
    (with their ids) or `problems` if it was read; `unreadable` is the reason why it cannot be.
    """

    name: str
    seen: Seen | None
    writer: bool | None = None
    unreadable: str = ""
    specs: list[TaskSpec] | None = None
    problems: tuple[str, ...] = ()


class LookedAt(NamedTuple):
    """Answer to `Look`. `skipped` names were too much for one go."""

    looked: list[Looked]
    skipped: list[str]


class Answered(NamedTuple):
    """The queue's answer for one file: number of tasks, or why not, for good or for now."""

    name: str
    tasks: int = 0
    refused: tuple[str, ...] = ()
    unavailable: str = ""


class Moved(NamedTuple):
    """What became of one `Move`. `how` is `moved`, `gone`, `changed` or `failed` (`reason`)."""

    name: str
    how: str
    reason: str = ""


class AnsweredAll(NamedTuple):
    """The queue's answers for several files."""

    answers: list[Answered]


class MovedAll(NamedTuple):
    """Answers to several `Move`s."""

    moves: list[Moved]


# ---- what the machine wants ----


class Wanted(NamedTuple):
    """Look at `name`. If writers cannot be told, read it only if it still is `settled`."""

    name: str
    settled: Seen | None


class Look(NamedTuple):
    """Look at these files, in this order."""

    files: list[Wanted]


class Submit(NamedTuple):
    """Hand the tasks of one file to the queue. `source` is for people."""

    name: str
    specs: list[TaskSpec]
    source: str


class Move(NamedTuple):
    """Move a file that still is as `seen` to `folder`, with `report` beside it if there is one."""

    name: str
    seen: Seen
    folder: str
    report: str


Effect = CommonEffect | Look | Submit | Move


def is_candidate(name: str) -> bool:
    """Whether a file of this name is for the node: `*.json`, and not hidden."""
    return name.endswith(".json") and not name.startswith(".")


def shown(name: str) -> str:
    """A file's name for people: what is not UTF-8 in it is replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def with_ids(specs: list[TaskSpec], name: str, seen: Seen, content: bytes) -> list[TaskSpec]:
    """`specs` where each without an id has one that the same file gives again."""
    file = hashlib.blake2b(digest_size=16)
    file.update(f"{seen.size}/{seen.mtime_ns}/".encode())
    file.update(name.encode("utf-8", "surrogateescape") + b"\0")
    file.update(content)
    key = file.digest()
    return [
        spec if spec.id else msgspec.structs.replace(spec, id=_derived_id(key, index))
        for index, spec in enumerate(specs)
    ]


def _derived_id(key: bytes, index: int) -> str:
    digest = hashlib.blake2b(b"%d" % index, key=key, digest_size=8).digest()
    bits = int.from_bytes(digest, "big")
    return "".join([_ID_ALPHABET[(bits >> shift) & 31] for shift in range(0, 5 * _ID_LETTERS, 5)])


class _File:
    """What is known of one name. `since` is when it was first seen as it is."""

    __slots__ = ("at", "phase", "seen", "since", "writer")

    def __init__(self, seen: Seen, now: float) -> None:
        self.seen = seen
        self.since = now
        self.phase = "queued"
        self.at = 0.0
        self.writer = False


class Inbox:
    """The machine. Times are seconds on any steady clock."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._queued: dict[str, None] = {}
        self._looking = False
        self._in_hand = 0
        self._due: list[tuple[float, str]] = []
        self._timer_at: float | None = None
        self._paused_until: float | None = None
        self._pauses = 0
        self._accepted = 0
        self._rejected = 0

    @property
    def has_backlog(self) -> bool:
        """Whether files wait to be looked at: until they were, another listing tells nothing."""
        return bool(self._queued)

    @property
    def statistics(self) -> dict[str, int]:
        """Files in the inbox, and accepted and rejected since the start."""
        return {"files": len(self._files), "accepted": self._accepted, "rejected": self._rejected}

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message and return what is to be done."""
        effects: list[Effect] = []
        match message:
            case Listed(files):
                self._on_listed(files, now)
            case LookedAt(looked, skipped):
                self._looking = False
                for name in skipped:
                    self._queue(name)
                for one in looked:
                    effects += self._on_looked(one, now)
            case AnsweredAll(answers):
                for answer in answers:
                    effects += self._on_answered(answer, now)
                effects += _told_of(answers)
            case MovedAll(moves):
                for moved in moves:
                    effects += self._on_moved(moved, now)
            case Fired():
                self._timer_at = None
                self._on_timer(now)
            case _:
                raise TypeError(f"the inbox takes no {type(message).__name__}")
        effects += self._next(now)
        return effects

    def _on_listed(self, files: list[tuple[str, Seen]], now: float) -> None:
        names = {name for name, _ in files}
        for name, file in list(self._files.items()):
            if name not in names and file.phase not in ("looking", "taken"):
                self._forget(name)
        for name, seen in files:
            known = self._files.get(name)
            if known is None:
                self._files[name] = _File(seen, now)
                self._queue(name)
            elif known.phase in ("waiting", "left"):
                if seen != known.seen:
                    known.seen, known.since = seen, now
                    self._queue(name)
                elif known.writer:
                    self._queue(name)

    def _on_looked(self, looked: Looked, now: float) -> list[Effect]:
        name, seen = looked.name, looked.seen
        file = self._files[name]
        if seen is None:
            self._forget(name)
            return []
        if seen != file.seen:
            file.seen, file.since = seen, now
        file.writer = bool(looked.writer)
        if seen.kind != "file":
            return self._reject(name, file, (_REASONS[seen.kind],))
        if file.writer:
            # The next listing looks again; closing it is noticed.
            file.phase, file.at = "waiting", 0.0
            return []
        if looked.specs is not None:
            self._take(file)
            return [Submit(name, looked.specs, f"inbox:{shown(name)}")]
        problems, after_s = _why_not(looked, seen)
        if problems and now >= file.since + after_s:
            return self._reject(name, file, problems)
        self._wait(name, file, max(file.since + after_s, now))
        return []

    def _on_answered(self, answer: Answered, now: float) -> list[Effect]:
        file = self._files[answer.name]
        if answer.unavailable:
            self._in_hand -= 1
            self._queue(answer.name)
            return self._pause(answer.unavailable, now)
        effects: list[Effect] = []
        if self._pauses:
            self._pauses = 0
            effects.append(Log("inbox_resumed", "info", {}))
        if answer.refused:
            self._in_hand -= 1
            return effects + self._reject(answer.name, file, answer.refused)
        self._accepted += 1
        return [*effects, Move(answer.name, file.seen, "accepted", "")]

    def _on_moved(self, moved: Moved, now: float) -> list[Effect]:
        self._in_hand -= 1
        file = self._files[moved.name]
        match moved.how:
            case "changed":
                file.since = now
                self._queue(moved.name)
            case "failed":
                # Once for each file; it is tried again when it changes, or after a restart.
                file.phase = "left"
                reason: dict[str, object] = {"file": shown(moved.name), "reason": moved.reason}
                return [Log("inbox_file_cannot_be_moved", "error", reason)]
            case _:
                self._forget(moved.name)
        return []

    def _on_timer(self, now: float) -> None:
        if self._paused_until is not None and now >= self._paused_until:
            self._paused_until = None
        while self._due and self._due[0][0] <= now:
            at, name = heappop(self._due)
            file = self._files.get(name)
            if file is not None and file.phase == "waiting" and file.at == at:
                self._queue(name)

    def _next(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        ready = self._queued and not self._looking and self._paused_until is None
        if ready and self._in_hand < LOOKS_MAX:
            wanted = []
            for name in list(self._queued)[:LOOKS_MAX]:
                del self._queued[name]
                file = self._files[name]
                file.phase = "looking"
                settled = file.seen if now >= file.since + SETTLED_S else None
                wanted.append(Wanted(name, settled))
            self._looking = True
            effects.append(Look(wanted))
        times = [self._due[0][0]] if self._due else []
        if self._paused_until is not None:
            times.append(self._paused_until)
        if times and (self._timer_at is None or min(times) < self._timer_at):
            self._timer_at = min(times)
            effects.append(SetTimer(TIMER, self._timer_at))
        return effects

    def _reject(self, name: str, file: _File, problems: tuple[str, ...]) -> list[Effect]:
        self._take(file)
        self._rejected += 1
        fields: dict[str, object] = {"file": shown(name), "problems": list(problems[:3])}
        report = "\n".join(problems) + "\n"
        return [
            Log("inbox_rejected", "warning", fields),
            Move(name, file.seen, "rejected", report),
        ]

    def _take(self, file: _File) -> None:
        file.phase = "taken"
        self._in_hand += 1

    def _wait(self, name: str, file: _File, until: float) -> None:
        file.phase, file.at = "waiting", until
        heappush(self._due, (until, name))

    def _queue(self, name: str) -> None:
        self._files[name].phase = "queued"
        self._queued[name] = None

    def _forget(self, name: str) -> None:
        del self._files[name]
        self._queued.pop(name, None)

    def _pause(self, reason: str, now: float) -> list[Effect]:
        """Leave the files where they are for a while: the node cannot take tasks just now."""
        if self._paused_until is not None:
            return []
        first = not self._pauses
        self._paused_until = now + min(PAUSE_MIN_S * 2**self._pauses, PAUSE_MAX_S)
        self._pauses = min(self._pauses + 1, 16)
        return [Log("inbox_waits", "warning", {"reason": reason})] if first else []


def _told_of(answers: list[Answered]) -> list[Effect]:
    """One line for all that was accepted together: a burst of files must not flood the log."""
    accepted = [answer for answer in answers if answer.tasks]
    if not accepted:
        return []
    names = [shown(answer.name) for answer in accepted[:_NAMES_LOGGED_MAX]]
    tasks = sum(answer.tasks for answer in accepted)
    fields: dict[str, object] = {"count": len(accepted), "tasks": tasks, "files": names}
    return [Log("inbox_accepted", "info", fields)]


def _why_not(looked: Looked, seen: Seen) -> tuple[tuple[str, ...], float]:
    """What is wrong with a file, and for how long it must be so before it is refused."""
    if seen.size > FILE_BYTES_MAX:
        return (_TOO_LARGE,), SETTLED_S if looked.writer is None else 0.0
    if looked.unreadable:
        return (looked.unreadable,), REFUSED_AFTER_S
    if looked.problems:
        return looked.problems, REFUSED_AFTER_S
    return (), SETTLED_S


_REASONS = {
    "directory": "it is a directory: drop the files themselves",
    "outside": "it is a link that leads out of the node's folder: copy the file instead",
    "dangling": "it is a link that leads nowhere",
    "other": "it is not a regular file",
}
_TOO_LARGE = f"it is larger than {format_size(FILE_BYTES_MAX)}: use several files, or an array"
