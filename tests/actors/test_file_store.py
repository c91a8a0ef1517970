"""The actor `file_store` on a real disk, with stand-ins for those around it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors.file_calls import Fetch, FindLost, MakeBlobs, PutFile, ReadBlob
from leoronic.actors.file_disk import FileDisk, Limits
from leoronic.actors.file_store import FileStoreActor
from leoronic.actors.file_work import FileWork
from leoronic.actors.peer_port import PeerPort
from leoronic.blobs import collecting
from leoronic.core.blob import FileRef
from leoronic.core.file_effects import RoomWanted
from leoronic.core.file_messages import (
    FilesPlaced,
    FilesStarted,
    ForgetFiles,
    KeepOutputs,
    OutputsKept,
    PlaceFiles,
)
from leoronic.core.view import DOWN, UP, About, AskView, Member, View
from leoronic.errors import BadRequest, LeoronicError, MailboxFull, NotFound, Refused
from leoronic.runtime.supervisor import Tree
from leoronic.wire.bulk import FILES
from tests.actors.recorder import Recorder
from tests.runtime.actors import child, running, until

KEY = ("t1", 1)


class Reads:
    """What the journal knows."""

    def __init__(self, needs: set[str]) -> None:
        self._needs = needs

    def needed(self, digests: list[str]) -> set[str]:
        return self._needs & set(digests)


class Node:
    """`needs`: digests that the journal says are needed."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root = root
        self.disk = FileDisk(root, limits)
        self.limits = limits
        self.work = FileWork()
        self.port = PeerPort()
        self.needs: set[str] = set()
        self.runner = Recorder()
        self.membership = Recorder()
        self.journal = Recorder(lambda ask: ask(Reads(self.needs)) if callable(ask) else None)
        self.tree: Tree

    def make(self) -> FileStoreActor:
        self.disk = FileDisk(self.root, self.limits)
        self.actor = FileStoreActor(lambda: "aaa", self.disk, self.port, self.work)
        return self.actor

    async def call(self, message: Any) -> Any:
        return await self.tree.find("file_store").call(message, timeout_s=10)

    async def tell(self, message: Any) -> None:
        await self.tree.find("file_store").cast(message)

    async def keep(self, name: str, data: bytes) -> FileRef:
        """A file of the node, as a blob."""
        (self.root / name).write_bytes(data)
        [made] = await self.call(MakeBlobs(self.root, (name,)))
        assert not isinstance(made, LeoronicError), made
        return FileRef(name, name, made.blob.digest, made.blob.size, made.mode)


@asynccontextmanager
async def node_in(root: Path, limits: Limits | None = None) -> AsyncIterator[Node]:
    node = Node(root, limits or Limits(reserve=0))
    (root / ".leoronic").mkdir(exist_ok=True)
    async with running(
        child("runner", lambda: node.runner),
        child("membership", lambda: node.membership),
        child("journal", lambda: node.journal),
        child("file_store", node.make),
    ) as tree:
        node.tree = tree
        yield node


def member(node: str, *digests: str) -> Member:
    return Member(node, About(node, "1", 1, digests=list(digests)), UP, True)


def test_it_says_that_it_has_begun(tmp_path: Path) -> None:
    """The executor is told, membership is asked, and no blob is looked for where there is none."""

    async def story() -> None:
        async with node_in(tmp_path) as node:
            assert [FilesStarted()] == await node.runner.first(1)
            assert [AskView("file_store")] == await node.membership.first(1)
            await until(lambda: node.work.is_idle)
            assert node.disk.is_untouched
            assert not (tmp_path / ".leoronic" / "blobs").exists()

    asyncio.run(story())


def test_files_are_made_placed_and_forgotten(tmp_path: Path) -> None:
    """In a folder of the attempt, which is gone with it."""

    async def story() -> None:
        async with node_in(tmp_path) as node:
            file = await node.keep("f.txt", b"content")
            folder = ".leoronic/work/t1.1"
            left_over = tmp_path / folder / "old"
            left_over.parent.mkdir(parents=True)
            left_over.touch()
            await node.tell(PlaceFiles(KEY, folder, (file,)))
            await node.runner.until(lambda found: FilesPlaced(KEY) in found)
            assert ["f.txt"] == [path.name for path in (tmp_path / folder).iterdir()]
            assert b"content" == (tmp_path / folder / "f.txt").read_bytes()
            await node.tell(ForgetFiles((KEY,)))
            await until(lambda: not (tmp_path / folder).exists())

    asyncio.run(story())


def test_outputs_are_kept(tmp_path: Path) -> None:
    """What matches is here as a blob, and may be read."""

    async def story() -> None:
        async with node_in(tmp_path) as node:
            folder = tmp_path / "task"
            folder.mkdir()
            (folder / "out").write_bytes(b"result")
            await node.tell(KeepOutputs(KEY, str(folder), ("o*", "no*")))
            found = await node.runner.until(lambda found: isinstance(found[-1], OutputsKept))
            kept = found[-1]
            [file] = kept.outputs
            assert ("out", 6) == (file.path, file.size)
            assert ("no file matches no*",) == kept.problems
            shutil.rmtree(folder)
            assert b"sult" == await node.call(ReadBlob(file.digest, 2, 100))
            assert b"" == await node.call(ReadBlob(file.digest, 6, 100))

    asyncio.run(story())


def test_each_mistake_is_told(tmp_path: Path) -> None:
    """Of files that cannot be kept, beside those that are."""

    async def story() -> None:
        async with node_in(tmp_path) as node:
            (tmp_path / "good").write_bytes(b"1")
            told: list[tuple[int, int]] = []
            made = await node.call(
                MakeBlobs(tmp_path, ("good", "bad", "."), lambda *one: told.append(one))
            )
            assert [False, True, True] == [isinstance(one, LeoronicError) for one in made]
            assert [NotFound, BadRequest] == [type(one) for one in made[1:]]
            assert told[-1][0] == 1

    asyncio.run(story())


def test_no_file_ends_the_actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong with a file, or the folder it is looked for in, is an answer."""

    def no_descriptor(*_arguments: object, **_options: object) -> None:
        raise OSError(24, "Too many open files")

    async def story() -> None:
        async with node_in(tmp_path) as node:
            [made] = await node.call(MakeBlobs(tmp_path / "zero\0byte", ("file",)))
            assert isinstance(made, BadRequest)
            file = await node.keep("f.txt", b"content")
            monkeypatch.setattr(node.disk, "read", no_descriptor)
            with pytest.raises(Refused, match="Too many open files"):
                await node.call(ReadBlob(file.digest, 0, 100))
            assert [FilesStarted()] == await node.runner.first_of(1)

    asyncio.run(story())


def test_what_all_can_check(tmp_path: Path) -> None:
    """New blobs are named with blake3 only if every known node can check that."""

    async def story() -> None:
        async with node_in(tmp_path) as node:
            assert "s2" == (await node.keep("1", b"1")).digest[:2]
            await node.tell(View("aaa", {"aaa": member("aaa", "b3", "s2")}))
            assert "b3" == (await node.keep("1", b"1")).digest[:2]
            members = {"aaa": member("aaa", "b3", "s2"), "bbb": member("bbb")}
            await node.tell(View("aaa", members))
            assert "s2" == (await node.keep("2", b"2")).digest[:2]
            # One that is only remembered may be gone for good.
            remembered = Member("bbb", About("bbb", "", 0), DOWN, False)
            await node.tell(View("aaa", members | {"bbb": remembered}))
            assert "b3" == (await node.keep("3", b"3")).digest[:2]

    asyncio.run(story())


def test_it_begins_anew(tmp_path: Path) -> None:
    """A store that was restarted has what was there."""

    async def story() -> None:
        async with node_in(tmp_path) as node:
            file = await node.keep("f", b"kept")
        async with node_in(tmp_path) as node:
            await node.call(Fetch((file,)))
            assert b"kept" == await node.call(ReadBlob(file.digest, 0, 9))

    asyncio.run(story())


def test_it_crashes(tmp_path: Path) -> None:
    """It begins anew at once: it tells so, serves others again, and has what was there."""

    async def story() -> None:
        async with node_in(tmp_path) as node:
            file = await node.keep("f", b"kept")
            await node.runner.first(1)
            before = node.port.taker(FILES)
            await node.tell(object())
            assert [FilesStarted()] == await node.runner.first(1)
            await node.call(Fetch((file,)))
            assert b"kept" == await node.call(ReadBlob(file.digest, 0, 9))
            assert node.port.taker(FILES) not in (None, before)

    asyncio.run(story())


def test_a_file_is_put(tmp_path: Path) -> None:
    """In the node's folder, but not into what is the node's own."""

    async def story() -> None:
        async with node_in(tmp_path) as node:
            file = await node.keep("f", b"put")
            await node.call(PutFile(FileRef("f", "a/b", file.digest, file.size, 0o640)))
            assert b"put" == (tmp_path / "a" / "b").read_bytes()
            for name in (".leoronic/cookie", "../x", "/x"):
                with pytest.raises(BadRequest):
                    await node.call(PutFile(FileRef("f", name, file.digest, file.size)))

    asyncio.run(story())


def test_damage_is_found(tmp_path: Path) -> None:
    """A blob that was spoilt is not read, and counts as not here."""

    async def story() -> None:
        async with node_in(tmp_path) as node:
            file = await node.keep("f", b"whole")
            path = node.disk.store.path(file.digest)
            path.chmod(0o600)
            path.write_bytes(b"spoil")
            with pytest.raises(NotFound, match="damaged"):
                await node.call(ReadBlob(file.digest, 0, 9))
            assert not node.disk.store.has(file.digest)

    asyncio.run(story())


def test_what_is_not_needed_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is no room: not what the journal needs, nor what was made just now."""
    monkeypatch.setattr("leoronic.actors.file_doors.PIN_S", -1.0)

    async def story() -> None:
        async with node_in(tmp_path, Limits(quota=1, reserve=0)) as node:
            old, needed = await node.keep("1", b"old"), await node.keep("2", b"needed")
            monkeypatch.setattr(collecting, "YOUNG_S", 0.0)
            node.needs = {needed.digest}
            store = node.disk.store
            await node.tell(RoomWanted(1))
            await until(lambda: not store.has(old.digest))
            assert store.has(needed.digest)
            monkeypatch.setattr(collecting, "YOUNG_S", 600.0)
            young = await node.keep("3", b"young")
            await node.tell(RoomWanted(1))
            await until(lambda: node.work.is_idle)
            assert store.has(young.digest)

    asyncio.run(story())


def test_room_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk, what is not needed goes before anything is refused."""
    monkeypatch.setattr("leoronic.actors.file_doors.PIN_S", -1.0)

    async def story() -> None:
        async with node_in(tmp_path) as node:
            monkeypatch.setattr(collecting, "YOUNG_S", 0.0)
            for name in ("made", "left"):
                old = await node.keep("old", name.encode())
                store = node.disk.store
                left = lambda store=store, old=old: 0 if store.has(old.digest) else 2**40  # noqa: E731
                monkeypatch.setattr(store, "room_left", left)
                if name == "made":
                    await node.keep("new", b"new")
                else:
                    await node.tell(KeepOutputs(KEY, str(tmp_path), ("n*",)))
                    kept = await node.runner.until(lambda m: isinstance(m[-1], OutputsKept))
                    assert (1, ()) == (len(kept[-1].outputs), kept[-1].problems)
                assert not store.has(old.digest)
                (tmp_path / "new").write_bytes(b"newer")
                monkeypatch.undo()
                monkeypatch.setattr("leoronic.actors.file_doors.PIN_S", -1.0)
                monkeypatch.setattr(collecting, "YOUNG_S", 0.0)

    asyncio.run(story())


def test_who_is_gone_is_not_fetched_for(tmp_path: Path) -> None:
    """Nor is it told of; another who wants the same is."""
    digest = "s2:" + "0" * 64

    async def story() -> None:
        async with node_in(tmp_path) as node:
            await node.tell(View("aaa", {one: member(one, "s2") for one in ("aaa", "bbb")}))
            store = node.tree.find("file_store")
            calls = [
                asyncio.ensure_future(store.call(Fetch((FileRef("f", digest=digest),)), 60))
                for _ in range(2)
            ]
            fetches = node.actor.machine._fetches  # type: ignore[attr-defined]
            await until(lambda: len(node.actor.machine._calls._calls) == 2)  # type: ignore[attr-defined]
            calls[0].cancel()
            await until(lambda: len(node.actor.machine._calls._calls) == 1)  # type: ignore[attr-defined]
            assert digest in fetches
            calls[1].cancel()
            await until(lambda: digest not in fetches)

    asyncio.run(story())


def test_a_journal_that_does_not_keep_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once in a collection, and nothing goes; at the next it is asked again."""
    monkeypatch.setattr("leoronic.actors.file_doors.PIN_S", -1.0)
    monkeypatch.setattr(collecting, "ASKED_MAX", 1)

    async def story() -> None:
        async with node_in(tmp_path, Limits(quota=1, reserve=0)) as node:
            files = [await node.keep(str(number), b"%d" % number) for number in range(5)]
            monkeypatch.setattr(collecting, "YOUNG_S", 0.0)
            asked = []

            def refuse(ask: Any) -> Any:
                asked.append(ask)
                raise MailboxFull("journal is not keeping up")

            answer, node.journal.answer = node.journal.answer, refuse
            await node.tell(RoomWanted(1))
            await until(lambda: bool(asked) and node.work.is_idle)
            assert 1 == len(asked)
            assert all(node.disk.store.has(file.digest) for file in files)
            node.journal.answer = answer
            await node.tell(RoomWanted(1))
            await until(lambda: not any(node.disk.store.has(file.digest) for file in files))

    asyncio.run(story())


def test_a_full_disk(tmp_path: Path) -> None:
    """A file that does not fit is refused, and nothing of it is left."""

    async def story() -> None:
        async with node_in(tmp_path, Limits(reserve=2**60)) as node:
            (tmp_path / "f").write_bytes(b"x")
            [made] = await node.call(MakeBlobs(tmp_path, ("f",)))
            assert "no room" in made.message
            assert not list((tmp_path / ".leoronic" / "blobs" / "parts").iterdir())

    asyncio.run(story())


def test_nobody_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that comes to nothing says why, for each."""
    monkeypatch.setattr("leoronic.core.transfer.GIVE_UP_S", 0.0)

    async def story() -> None:
        async with node_in(tmp_path) as node:
            digests = ["s2:" + "0" * 64, "s2:" + "1" * 64]
            files = tuple(FileRef("some/file", digest=digest) for digest in digests)
            told = await node.call(Fetch(files))
            assert dict.fromkeys(digests, "no node that can be reached has it") == told
            assert frozenset(digests) == await node.call(FindLost(tuple(digests)))

    asyncio.run(story())
