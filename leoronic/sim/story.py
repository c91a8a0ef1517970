"""What happened, in virtual time: kept to be told when something is violated."""

from __future__ import annotations

import re
import zlib
from array import array
from collections import deque

import msgspec

from leoronic.core.effects import Asked, Log

STORY_EVENTS_MAX = 20_000
# What is told is looked at in batches of this size.
FRESH_EVENTS_MAX = 4096
TOLD_EVENTS = 60
LINE_LENGTH_MAX = 260
# Every process and every entry is told; of other things that repeat, the last one.
TOLD_ALWAYS = (".process", ".disk", ".takes")
# What says nothing about any task, or what was told before.
DULL = (
    {"Heartbeat", "Vector", "PeerVector", "Have", "Committed", "Appended", "Spawned", "Written"}
    | {"Probe", "ProbeAnswer", "Interest", "Fired", "Inventory", "TakeInventory", "View"}
    | {"Push", "Take", "Taken", "Entries", "Introduce"}
)

_DIGITS = re.compile(r"\d+")


class Violation(AssertionError):
    """An invariant does not hold. `task` is the one concerned, or ''."""

    def __init__(self, what: str, detail: str, task: str = "") -> None:
        super().__init__(f"{what}: {detail}")
        self.what = what
        self.detail = detail
        self.task = task


class Story:
    """The last events, and a digest of all: equal digests mean equal runs."""

    def __init__(self) -> None:
        self._digest = 0
        self._fresh: list[tuple[float, str, object]] = []
        self._events: deque[tuple[float, str, object]] = deque(maxlen=STORY_EVENTS_MAX)

    def tell(self, now: float, who: str, what: object) -> None:
        """`who` met `what` (a message, or words); it becomes text only if it is ever told."""
        self._fresh.append((now, who, what))
        if len(self._fresh) >= FRESH_EVENTS_MAX:
            self._sift()

    def mark(self, data: bytes) -> None:
        """Make `data` part of the digest."""
        self._digest = zlib.crc32(data, self._digest)

    @property
    def digest(self) -> int:
        """Of all that was told and marked so far."""
        self._sift()
        return self._digest

    def _sift(self) -> None:
        """Digest what is fresh; keep what is not dull."""
        fresh, self._fresh = self._fresh, []
        names = [name_of(what) for _, _, what in fresh]
        self.mark(array("d", [now for now, _, _ in fresh]).tobytes())
        self.mark(" ".join([who for _, who, _ in fresh]).encode())
        self.mark(" ".join(names).encode())
        self._events += [one for one, name in zip(fresh, names, strict=True) if name not in DULL]

    def about(self, task: str, node: str = "") -> list[str]:
        """The last events that concern `task` and node name `node` ('' is any), and the faults."""
        self._sift()
        lines: list[str] = []
        base = task.partition(".")[0]
        seen: set[tuple[str, str]] = set()
        for now, who, what in reversed(self._events):
            text = what if isinstance(what, str) else _text(what)
            if not who.startswith(("fault", node)):
                continue
            if who != "fault" and base not in text:
                continue
            # What is asked over and over, or told at every restart, is told once: the last time.
            alike = (who, _DIGITS.sub("", text))
            if not who.endswith(TOLD_ALWAYS) and alike in seen:
                continue
            seen.add(alike)
            lines.append(f"{now:12.6f}  {who:<18} {_around(text, base)}")
            if len(lines) == TOLD_EVENTS:
                break
        return lines[::-1]


def name_of(what: object) -> str:
    """The words themselves, or the type of a message."""
    if isinstance(what, str):
        return what
    return what.event if isinstance(what, Log) else type(what).__name__


def _text(message: object) -> str:
    """A message as text: its type and what of it is not default."""
    if isinstance(message, Log):
        return f"log {message.event} {message.fields}"
    inner = f" {type(message.message).__name__}" if isinstance(message, Asked) else ""
    json = msgspec.json.encode(message, enc_hook=repr).decode()
    return f"{type(message).__name__}{inner} {json}"


def _around(text: str, word: str) -> str:
    """`text` cut to a line, around the first `word`."""
    if len(text) <= LINE_LENGTH_MAX:
        return text
    at = max(0, text.find(word) - LINE_LENGTH_MAX // 2) if word else 0
    end = at + LINE_LENGTH_MAX
    return ("..." if at else "") + text[at:end] + ("..." if end < len(text) else "")
