"""What the doors ask of the file store: to fetch blobs, to tell how far they are, to keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leoronic.core.effects import Asked, Fail, Reply
from leoronic.core.fetches import Fetches
from leoronic.core.file_effects import FetchBlobs, FetchState, Pin, Progress
from leoronic.core.file_outbox import FileOutbox
from leoronic.errors import NotFound, Refused

PINS_MAX = 65_536
PIN_S_MAX = 24 * 3600.0
CALLS_MAX = 256


class _Call:
    """Somebody waits until these are here."""

    def __init__(self, request: object, missing: set[str]) -> None:
        self.request = request
        self.missing = missing


class FileCalls:
    """See the module. `size_of` gives that of a blob that is here, None of any other."""

    def __init__(
        self, out: FileOutbox, fetches: Fetches, size_of: Callable[[str], int | None]
    ) -> None:
        self._out = out
        self._fetches = fetches
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
        for call in list(self._calls):
            call.missing.discard(digest)
            if not call.missing:
                self._calls.remove(call)
                self._out.add(Reply(call.request, None))

    def failed(self, digest: str, reason: str) -> None:
        """It cannot be had."""
        for call in [call for call in self._calls if digest in call.missing]:
            self._calls.remove(call)
            self._out.add(Fail(call.request, NotFound(f"{digest}: {reason}")))

    def _fetch(self, request: object, digests: Iterable[str]) -> None:
        missing = {digest for digest in digests if self._size_of(digest) is None}
        if not missing:
            self._out.add(Reply(request, None))
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
        if len(self._pins) + len(digests) > PINS_MAX:
            self._out.add(Fail(request, Refused("too many files are pinned already")))
            return
        until = self._out.now + min(for_s, PIN_S_MAX)
        for digest in digests:
            self._pins[digest] = max(until, self._pins.get(digest, 0.0))
        self._out.add(Reply(request, None))
