"""What is removed when there is too much: blobs that nothing needs, least recently used first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import NamedTuple

from leoronic.blobs.store import BlobStore, Held

YOUNG_S = 600.0
"""Who made, fetched or used a blob gets this long to say what it is for."""
PART_IDLE_S = 3600.0
"""So long what came of a transfer waits for it to go on, if nothing needs the blob."""
BLOBS_MAX = 200_000
"""Each takes memory and a file, however small it is."""
ASKED_MAX = 500

Needed = Callable[[Sequence[str]], Set[str]]
"""Those among some digests, `ASKED_MAX` at most, that must stay."""


class Collected(NamedTuple):
    """What was removed. `short`: so many bytes are still too many, but needed or young."""

    digests: tuple[str, ...]
    size: int
    short: int


def collect(
    store: BlobStore,
    needed: Needed,
    *,
    quota: int,
    wanted: int = 0,
    remove: Callable[[Held], bool] | None = None,
) -> Collected:
    """Remove until the blobs and `wanted` more bytes are within `quota`, and fit on the disk.

    `remove` is called in place of that for each blob that should go; it tells whether it does.

    What is pinned must be in `needed` as well. A blob that is used while `needed` thinks about it
    stays: whoever relies on `BlobStore.has` must call `BlobStore.use` first. Raises `Refused`.
    """
    parts, held = store.parts_left(), store.held()
    taken = store.bytes_held() + sum(part.size for part in parts)
    sweep = _Sweep(store, needed, remove)
    sweep.excess = max(taken + wanted - quota, wanted - store.room_left())
    sweep.remove_parts(parts)
    sweep.remove_blobs(held, len(held) - BLOBS_MAX)
    return Collected(tuple(sweep.removed), sweep.size, max(0, sweep.excess))


class _Sweep:
    """One collection. `excess`: bytes that are too many."""

    def __init__(
        self, store: BlobStore, needed: Needed, remove: Callable[[Held], bool] | None
    ) -> None:
        self.excess = 0
        self.removed: list[str] = []
        self.size = 0
        self._store = store
        self._needed = needed
        self._remove = remove or self._remove_now

    def remove_parts(self, parts: list[Held]) -> None:
        """Those that nobody goes on with."""
        for part in self._free(parts):
            if self.excess > 0 or self._idle_s(part) >= PART_IDLE_S:
                self._store.remove_part(part.digest)
                self._count(part)

    def remove_blobs(self, held: list[Held], too_many: int) -> None:
        """Until neither the bytes nor the files are too many."""
        if self.excess <= 0 and too_many <= 0:
            return
        for blob in self._free(held):
            if self._remove(blob):
                self._count(blob)
                too_many -= 1
            if self.excess <= 0 and too_many <= 0:
                return

    def _remove_now(self, blob: Held) -> bool:
        return self._store.remove(blob.digest, unused_since=blob.used_at)

    def _free(self, held: list[Held]) -> Iterator[Held]:
        old = [blob for blob in held if self._idle_s(blob) >= YOUNG_S]
        for first in range(0, len(old), ASKED_MAX):
            some = old[first : first + ASKED_MAX]
            needed = self._needed([blob.digest for blob in some])
            yield from (blob for blob in some if blob.digest not in needed)

    def _idle_s(self, held: Held) -> float:
        # A clock that was set back leaves times in the future: those are not young for ever.
        return abs(self._store.now() - held.used_at)

    def _count(self, held: Held) -> None:
        self.removed.append(held.digest)
        self.size += held.size
        self.excess -= held.size
