"""Output: inline, packed, or in a file of its own; whole, in order, not lost to a full disk."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.outcome import INLINE_BYTES_MAX, StreamRef
from leoronic.runner import output
from leoronic.runner.output import OutputStore, read_pack
from leoronic.runner.stream import Stream


class Log:
    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **fields: self.events.append(event)


class Place:
    """A store, and streams whose pipes the test fills."""

    def __init__(self, folder: Path, **options: int) -> None:
        self.folder = folder
        self.log = Log()
        self.room: list[Stream] = []
        limits = {"memory_bytes_max": 64 * 1024, "pack_bytes_max": 1 << 20, **options}
        self.store = OutputStore(folder, log=self.log, on_room=self.room.append, **limits)
        self.store.open()
        self.count = 0

    def stream(self, data: bytes = b"", name: str = "stdout") -> Stream:
        """A stream that was read to its end."""
        self.count += 1
        read_fd, write_fd = os.pipe()
        os.set_blocking(read_fd, False)
        stream = Stream(self.store, (f"t{self.count}", 1), name, read_fd)
        for start in range(0, len(data), 4096):
            os.write(write_fd, data[start : start + 4096])
            stream.read()
        os.close(write_fd)
        stream.read()
        return stream

    async def keep(self, stdout: Stream, stderr: Stream | None = None) -> tuple[StreamRef, ...]:
        """Keep both and wait until they are durable."""
        done: asyncio.Future[tuple[StreamRef, ...]] = asyncio.get_running_loop().create_future()
        self.store.keep(stdout, stderr or self.stream(), lambda *refs: done.set_result(refs))
        return await done

    def content(self, ref: StreamRef) -> bytes:
        return self.store.read(ref, 0, 1 << 30)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_short_streams_touch_no_file(place: Place) -> None:
    """What is short travels in the outcome."""
    data = b"x" * INLINE_BYTES_MAX
    refs = await place.keep(place.stream(data), place.stream(b"err"))
    assert (StreamRef(len(data), data), StreamRef(3, b"err")) == refs
    assert [] == list(place.folder.iterdir())


async def test_packs(place: Place) -> None:
    """Middling streams share a file that describes itself."""
    contents = [bytes([65 + i]) * (3000 + i) for i in range(5)]
    refs = [(await place.keep(place.stream(data)))[0] for data in contents]
    assert {"pack-1"} == {ref.file for ref in refs}
    assert contents == [place.content(ref) for ref in refs]
    assert [(ref.offset, ref.size) for ref in refs] == [
        (offset, length) for _, offset, length in read_pack(place.folder / "pack-1")
    ]


async def test_packs_are_rolled(tmp_path: Path) -> None:
    """A pack that is large enough is followed by another; a new store begins a new one."""
    place = Place(tmp_path, pack_bytes_max=5000)
    refs = [(await place.keep(place.stream(b"y" * 3000)))[0] for _ in range(4)]
    assert ["pack-1", "pack-1", "pack-2", "pack-2"] == [ref.file for ref in refs]
    await place.store.close()
    again = Place(tmp_path)
    assert "pack-3" == (await again.keep(again.stream(b"z" * 3000)))[0].file
    assert b"y" * 3000 == again.content(refs[2])


async def test_damaged_pack(place: Place) -> None:
    """Reading a pack stops at the first record that is not intact."""
    for _ in range(3):
        await place.keep(place.stream(b"y" * 3000))
    pack = place.folder / "pack-1"
    data = bytearray(pack.read_bytes())
    data[-2000] ^= 1
    pack.write_bytes(data)
    assert 2 == len(list(read_pack(pack)))


async def test_large_stream(place: Place) -> None:
    """A stream beyond what memory may hold goes to its own file as it comes."""
    data = os.urandom(300_000)
    stream = place.stream(data)
    assert stream.written > 200_000
    ref = (await place.keep(stream))[0]
    assert StreamRef(len(data), file="t1.1.stdout") == ref
    assert data == place.content(ref)
    assert data[100:200] == place.store.read(ref, 100, 100)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def old_stream(place: Place, data: bytes) -> Stream:
    """A stream that was read to its end after its attempt had got old."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    stream = Stream(place.store, ("old", 1), "stderr", read_fd)
    stream.age()
    os.write(write_fd, data)
    os.close(write_fd)
    while not stream.at_end:
        stream.read()
    stream.close()
    return stream


async def test_old_stream(place: Place) -> None:
    """A stream that is not young goes to its file as it comes, what it had before included."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    stream = Stream(place.store, ("t", 1), "stderr", read_fd)
    os.write(write_fd, b"a")
    stream.read()
    assert 0 == stream.written
    stream.age()
    assert b"a" == (place.folder / "t.1.stderr").read_bytes()
    os.write(write_fd, b"b")
    stream.read()
    assert b"ab" == (place.folder / "t.1.stderr").read_bytes()
    assert b"b" == stream.part(1, 10)
    os.close(write_fd)
    stream.read()
    stream.close()


async def test_small_old_stream(place: Place) -> None:
    """A short stream with a file travels in the outcome; its file goes once that is safe."""
    before = open_files()
    stream = old_stream(place, b"x" * INLINE_BYTES_MAX)
    stdout = place.stream(b"out")
    stdout.close()
    refs = await place.keep(stdout, stream)
    assert (StreamRef(3, b"out"), StreamRef(2048, b"x" * 2048)) == refs
    assert before == open_files()
    assert ["old.1.stderr"] == [path.name for path in place.folder.iterdir()]
    place.store.forget(("other", 1))
    assert ["old.1.stderr"] == [path.name for path in place.folder.iterdir()]
    place.store.forget(stream.key)
    place.store.forget(stream.key)
    assert [] == list(place.folder.iterdir())


async def test_small_old_stream_beside_a_large_one(place: Place) -> None:
    """One stream of an attempt in the outcome, the other in its file; descriptors are closed."""
    before = open_files()
    small = old_stream(place, b"few")
    large = place.stream(b"y" * 100_000)
    large.close()
    refs = await place.keep(large, small)
    assert (StreamRef(100_000, file=large.name), StreamRef(3, b"few")) == refs
    assert before == open_files()
    place.store.forget(small.key)
    assert [large.name] == [path.name for path in place.folder.iterdir()]


async def test_middling_old_stream(place: Place) -> None:
    """A stream that has a file of its own does not move into a pack."""
    stream = old_stream(place, b"y" * 3000)
    assert StreamRef(3000, file="old.1.stderr") == (await place.keep(place.stream(), stream))[1]
    place.store.forget(stream.key)
    assert b"y" * 3000 == (place.folder / "old.1.stderr").read_bytes()


async def test_full_disk_does_not_hold_up_a_short_stream(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits into the outcome is told although its file could not be written, then or later."""
    monkeypatch.setattr(output, "RETRY_S", 0.0)
    pwrite = os.pwrite
    room = asyncio.Event()
    place.store._on_room = lambda stream: room.set()

    def refuse(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    stream = old_stream(place, b"few")
    assert StreamRef(3, b"few") == (await place.keep(place.stream(), stream))[1]
    monkeypatch.setattr(os, "pwrite", pwrite)
    await room.wait()
    assert -1 == stream.file
    place.store.forget(stream.key)
    assert [] == list(place.folder.iterdir())


async def test_folder_that_was_removed(place: Place) -> None:
    """Somebody who removes the folder of old output does no harm to what runs."""
    place.folder.rmdir()
    old_stream(place, b"few")
    assert b"few" == (place.folder / "old.1.stderr").read_bytes()


async def test_one_sync_serves_all(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while a sync is under way is served by the next one, all together."""
    syncs: list[int] = []
    sync = output._sync_files

    def counting(fds: list[int], folder: Path | None) -> OSError | None:
        syncs.append(len(fds))
        return sync(fds, folder)

    monkeypatch.setattr(output, "_sync_files", counting)
    keeping = [place.keep(place.stream(b"x" * 3000)) for _ in range(20)]
    refs = await asyncio.gather(*keeping)
    assert 20 == len(refs)
    assert len(syncs) <= 2


async def test_full_disk(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no room a stream waits and is not read; with room it goes on, and nothing is lost."""
    monkeypatch.setattr(output, "RETRY_S", 0.0)
    full = True
    pwrite = os.pwrite

    def writes_half(fd: int, data: memoryview, offset: int) -> int:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data[: max(1, len(data) // 2)], offset)

    monkeypatch.setattr(os, "pwrite", writes_half)
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    stream = Stream(place.store, ("big", 1), "stdout", read_fd)
    data = os.urandom(100_000)
    for start in range(0, len(data), 10_000):
        os.write(write_fd, data[start : start + 10_000])
        stream.read()
    os.close(write_fd)
    assert stream.blocked
    assert not stream.ended
    assert stream.size < len(data)
    assert data[: stream.size] == stream.part(0, 1 << 20)
    packed = asyncio.ensure_future(place.keep(place.stream(b"p" * 5000)))
    await asyncio.sleep(0)
    full = False
    ref = (await packed)[0]
    assert b"p" * 5000 == place.content(ref)
    assert [stream] == place.room
    while not stream.at_end:
        stream.read()
    assert data == place.content((await place.keep(stream))[0])
    assert ["disk_full", "disk_has_room"] == place.log.events


async def test_failed_sync_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails to sync, the outcome says how much may be lost."""
    monkeypatch.setattr(output, "_sync_files", lambda fds, folder: OSError(errno.EIO, "I/O error"))
    ref = (await place.keep(place.stream(b"x" * 3000)))[0]
    assert 3000 == ref.lost
    assert ["output_lost"] == place.log.events


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=4096), max_size=30), st.booleans(), st.data())
def test_any_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], old: bool, data: st.DataObject
) -> None:
    """Whatever is written, in whatever pieces, is read back whole and in order, at any offset."""

    async def scenario() -> None:
        place = Place(tmp_path_factory.mktemp("output"), memory_bytes_max=20_000)
        read_fd, write_fd = os.pipe()
        os.set_blocking(read_fd, False)
        stream = Stream(place.store, ("t", 1), "stdout", read_fd)
        if old:
            stream.age()
        for chunk in chunks:
            os.write(write_fd, chunk)
            stream.read()
        os.close(write_fd)
        stream.read()
        whole = b"".join(chunks)
        offset = data.draw(st.integers(0, len(whole)))
        assert whole[offset : offset + 100][: len(stream.part(offset, 100))] == stream.part(
            offset, 100
        )
        ref = (await place.keep(stream))[0]
        assert len(whole) == ref.size
        assert whole == place.content(ref)
        assert whole[offset : offset + 100] == place.store.read(ref, offset, 100)
        stream.close()
        await place.store.close()

    asyncio.run(scenario())
