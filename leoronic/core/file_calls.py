"""What the doors ask of the file store: to fetch blobs, to tell how far they are, to keep them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from leoronic.core.effects import Asked, Fail, Reply
from leoronic.core.fetches import Fetches
from leoronic.core.file_effects import FetchBlobs, FetchState, Pin, Progress, WhoHas
from leoronic.core.file_outbox import FileOutbox
from leoronic.core.whereabouts import Whereabouts
from leoronic.errors import Refused, Unavailable

PINS_MAX = 65_536
PIN_S_MAX = 24 * 3600.0
CALLS_MAX = 256


class _Call:
    """Somebody waits until each of these is here, or given up."""

    def __init__(self, request: object, missing: set[str]) -> None:
        self.request = request
        self.missing = missing
        self.failed: dict[str, str] = {}


class FileCalls:
    """See the module. `size_of` gives that of a blob that is here, None of any other."""

    def __init__(
        self,
        out: FileOutbox,
        fetches: Fetches,
        whereabouts: Whereabouts,
        size_of: Callable[[str], int | None],
    ) -> None:
        self._out = out
        self._fetches = fetches
        self._whereabouts = whereabouts
        self._size_of = size_of
        self._calls: list[_Call] = []
        self._pins: dict[str, float] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits."""
        return not self._calls

    def asked(self, asked: Asked) -> None:
        """Answer, now or later."""
        match asked.message:
            case FetchBlobs(digests):
                self._fetch(asked.request, digests)
            case FetchState(digests):
                self._out.add(Reply(asked.request, self._state(digests)))
            case WhoHas(digests):
                request = asked.request
                found = lambda lost: self._out.add(Reply(request, lost))  # noqa: E731
                self._whereabouts.ask(digests, found)
            case Pin(digests, for_s):
                self._pin(asked.request, digests, for_s)
            case other:
                raise AssertionError(f"nobody asks the file store {other!r}")

    def digests(self) -> Iterable[str]:
        """What must stay here; pins that have run out are forgotten."""
        now = self._out.now
        self._pins = {digest: until for digest, until in self._pins.items() if until > now}
        return self._pins

    def arrived(self, digest: str) -> None:
        """It is here now."""
        self._settle(digest, "")

    def failed(self, digest: str, reason: str) -> None:
        """It cannot be had."""
        self._settle(digest, reason)

    def _settle(self, digest: str, reason: str) -> None:
        for call in [call for call in self._calls if digest in call.missing]:
            call.missing.discard(digest)
            if reason:
                call.failed[digest] = reason
            if not call.missing:
                self._calls.remove(call)
                self._out.add(Reply(call.request, call.failed))

    def forget(self, request: object) -> list[str]:
        """Nobody waits for its answer any more: which blobs it was waiting for."""
        found = next((call for call in self._calls if call.request is request), None)
        if found is None:
            return []
        self._calls.remove(found)
        return sorted(found.missing)

    def waits_for(self, digest: str) -> bool:
        """Whether somebody does."""
        return any(digest in call.missing for call in self._calls)

    def needed(self, digests: Iterable[str]) -> None:
        """The journal says what these are for: they stay without us."""
        for digest in digests:
            self._pins.pop(digest, None)

    def _fetch(self, request: object, digests: Iterable[str]) -> None:
        missing = {digest for digest in digests if self._size_of(digest) is None}
        if not missing:
            self._out.add(Reply(request, {}))
        elif len(self._calls) >= CALLS_MAX:
            self._out.add(Fail(request, Refused("too many wait for files already")))
        elif not all(self._fetches.fetch(digest) for digest in sorted(missing)):
            self._out.add(Fail(request, Refused("too many files are being fetched already")))
        else:
            self._calls.append(_Call(request, missing))

    def _state(self, digests: Iterable[str]) -> dict[str, Progress]:
        found: dict[str, Progress] = {}
        for digest in digests:
            size = self._size_of(digest)
            if size is not None:
                found[digest] = Progress(size, size)
            elif digest in self._fetches:
                found[digest] = self._fetches.progress(digest)
        return found

    def _pin(self, request: object, digests: tuple[str, ...], for_s: float) -> None:
        new = sum(digest not in self._pins for digest in digests)
        if len(self._pins) + new > PINS_MAX:
            self.digests()
            new = sum(digest not in self._pins for digest in digests)
        if new > PINS_MAX:
            what = f"{new} different files at once: at most {PINS_MAX} can be kept: use fewer"
            self._out.add(Fail(request, Refused(what)))
            return
        if len(self._pins) + new > PINS_MAX:
            first = sorted(self._pins.values())[len(self._pins) + new - PINS_MAX - 1]
            again_s = max(1, math.ceil(first - self._out.now))
            self._out.add(
                Fail(
                    request,
                    Unavailable(
                        f"this node keeps {len(self._pins)} files that no task refers to yet, "
                        f"{PINS_MAX} at most: nothing was done; try again in {again_s} s"
                    ),
                )
            )
            return
        until = self._out.now + min(for_s, PIN_S_MAX)
        for digest in digests:
            self._pins[digest] = max(until, self._pins.get(digest, 0.0))
        self._out.add(Reply(request, None))
