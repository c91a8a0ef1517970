"""What is removed when there is too much."""

from __future__ import annotations

from collections.abc import Sequence, Set

import pytest

from leoronic.blobs import collecting
from leoronic.blobs.collecting import PART_IDLE_S, YOUNG_S, Collected, collect
from leoronic.blobs.hashing import name_of
from leoronic.blobs.making import make_from_bytes
from leoronic.blobs.store import BlobStore
from leoronic.core.blob import ChunkList


def nothing(_: Sequence[str]) -> Set[str]:
    return set()


def kept(store: BlobStore, clock, count: int, size: int = 100) -> list[str]:
    """So many blobs, each a second younger than the one before."""
    digests = []
    for number in range(count):
        clock.now += 1
        digests.append(make_from_bytes(store, "s2", bytes([number]) * size).digest)
    return digests


def test_within_the_quota_nothing_is_removed(store: BlobStore, clock) -> None:
    """It is a cache."""
    kept(store, clock, 3)
    clock.now += 1e6
    assert Collected((), 0, 0) == collect(store, nothing, quota=300)


def test_the_least_recently_used_go_first(store: BlobStore, clock) -> None:
    """And no more than must."""
    digests = kept(store, clock, 4)
    store.use(digests[0])
    clock.now += 1e6
    assert Collected((digests[1], digests[2]), 200, 0) == collect(store, nothing, quota=250)
    assert [digests[3], digests[0]] == [held.digest for held in store.held()]


def test_what_is_needed_stays(store: BlobStore, clock) -> None:
    """Though it is more than the quota: then it is said how much."""
    digests = kept(store, clock, 3)
    clock.now += 1e6
    needed = set(digests[:2])
    assert Collected((digests[2],), 100, 150) == collect(store, lambda _: needed, quota=50)


def test_what_is_young_stays(store: BlobStore, clock) -> None:
    """Nobody is even asked about it: what needs it may not be known yet."""
    kept(store, clock, 2)
    clock.now += YOUNG_S - 2
    assert Collected((), 0, 200) == collect(store, nothing, quota=0)
    clock.now += 1
    assert 1 == len(collect(store, nothing, quota=0).digests)


def test_a_clock_that_was_set_back_makes_nothing_young(store: BlobStore, clock) -> None:
    """Else it stayed for ever."""
    kept(store, clock, 2)
    clock.now -= 1e6
    assert 200 == collect(store, nothing, quota=0).size


def test_a_blob_that_is_used_meanwhile_stays(store: BlobStore, clock) -> None:
    """A task came while it was asked what is needed."""
    digests = kept(store, clock, 2)
    clock.now += 1e6

    def needed(_: Sequence[str]) -> Set[str]:
        store.use(digests[0])
        return set()

    assert Collected((digests[1],), 100, 100) == collect(store, needed, quota=0)


def test_room_is_made_for_what_comes(store: BlobStore, clock) -> None:
    """Within the quota."""
    digests = kept(store, clock, 3)
    clock.now += 1e6
    assert Collected((digests[0],), 100, 0) == collect(store, nothing, quota=300, wanted=50)


def test_room_is_made_on_the_disk(store: BlobStore, clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the quota would allow more."""
    digests = kept(store, clock, 3)
    clock.now += 1e6
    monkeypatch.setattr(store, "room_left", lambda: -50)
    assert Collected((digests[0],), 100, 0) == collect(store, nothing, quota=1000)
    monkeypatch.setattr(store, "room_left", lambda: 20)
    assert Collected((digests[1],), 100, 0) == collect(store, nothing, quota=1000, wanted=70)


def test_what_is_asked_at_once_is_bounded(
    store: BlobStore, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more is asked than is removed."""
    monkeypatch.setattr(collecting, "ASKED_MAX", 2)
    digests = kept(store, clock, 5)
    clock.now += 1e6
    asked: list[list[str]] = []

    def needed(some: Sequence[str]) -> Set[str]:
        asked.append(list(some))
        return set()

    assert 300 == collect(store, needed, quota=200).size
    assert [digests[:2], digests[2:4]] == asked


def test_there_are_not_too_many_files(
    store: BlobStore, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small they are."""
    monkeypatch.setattr(collecting, "BLOBS_MAX", 3)
    digests = kept(store, clock, 5)
    clock.now += 1e6
    assert tuple(digests[:2]) == collect(store, nothing, quota=1 << 40).digests


def rested(store: BlobStore, clock, chunks: ChunkList, pieces: list[bytes]) -> str:
    """A part that nobody goes on with."""
    part = store.begin(name_of(chunks), chunks)
    part.write_chunk(0, pieces[0])
    clock.now = store.folder.part(part.digest).stat().st_mtime
    part.close()
    return part.digest


def test_a_cut_transfer_may_go_on_for_a_while(
    store: BlobStore, clock, chunks: ChunkList, pieces: list[bytes]
) -> None:
    """Then it goes, though there is room."""
    digest = rested(store, clock, chunks, pieces)
    clock.now += PART_IDLE_S - 5
    assert () == collect(store, nothing, quota=1 << 40).digests
    clock.now += 10
    assert Collected((digest,), chunks.size, 0) == collect(store, nothing, quota=1 << 40)
    assert [] == list(store.folder.parts.iterdir())


def test_a_cut_transfer_goes_before_what_is_whole(
    store: BlobStore, clock, chunks: ChunkList, pieces: list[bytes]
) -> None:
    """Unless it is needed; it counts towards the quota."""
    digest = rested(store, clock, chunks, pieces)
    whole = kept(store, clock, 1)
    clock.now += YOUNG_S + 1
    assert () == collect(store, lambda _: {digest, *whole}, quota=100).digests
    assert chunks.size == collect(store, lambda _: {digest}, quota=0).short
    store.begin(digest, chunks).close()
    assert (digest,) == collect(store, nothing, quota=100).digests


def test_what_is_under_way_is_not_collected(
    store: BlobStore, clock, chunks: ChunkList, pieces: list[bytes]
) -> None:
    """Who fetches it decides."""
    part = store.begin(rested(store, clock, chunks, pieces), chunks)
    clock.now += 1e6
    assert () == collect(store, nothing, quota=0).digests
    assert ((0, 1),) == part.here()
