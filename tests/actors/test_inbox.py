from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors import inbox as inbox_actor
from leoronic.actors.folder_watch import FolderWatch
from leoronic.actors.inbox import Inbox
from leoronic.actors.inbox_files import _has_writer
from leoronic.core import inbox as machine
from leoronic.core.queue_messages import Accepted, SubmitSpecs
from leoronic.core.spec import TaskSpec
from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.errors import BadRequest, CallTimeout, Conflict, DiskFull, LeoronicError
from leoronic.runtime.actor import Actor
from leoronic.runtime.supervisor import Tree

ONE = b'{"command":"echo 1"}'


class FakeQueue(Actor):
    """Keeps what is submitted, by id; raises what `errors` holds first, then accepts."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskSpec] = {}
        self.sources: list[str] = []
        self.errors: list[LeoronicError] = []

    async def handle(self, message: Any) -> Any:
        assert isinstance(message, SubmitSpecs)
        if self.errors:
            raise self.errors.pop(0)
        self.sources.append(message.source)
        for spec in message.specs:
            if self.tasks.setdefault(spec.id, spec) != spec:
                raise Conflict(f"{spec.id} is another task")
        return Accepted([spec.id for spec in message.specs])

    @property
    def commands(self) -> list[str]:
        return sorted(str(spec.command) for spec in self.tasks.values())


class Home:
    """A node's folder with an inbox actor and a queue."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inbox = root / "inbox"
        self.accepted = self.inbox / "accepted"
        self.rejected = self.inbox / "rejected"
        self.queue = FakeQueue()
        self.actor = Inbox(root)

    def drop(self, name: str, content: bytes = ONE) -> None:
        """As `mv` into the inbox does."""
        hidden = self.inbox / f".{name}.tmp"
        hidden.write_bytes(content)
        hidden.rename(self.inbox / name)

    async def until(self, folder: Path, holds: Callable[[], bool]) -> None:
        """Wait until something is so in `folder`, woken by what happens there."""
        changed = asyncio.Event()
        watch = FolderWatch(changed.set)
        try:
            async with asyncio.timeout(20):
                while True:
                    if not watch.armed:
                        watch.arm(folder)
                        await asyncio.sleep(0)  # the watch begins with the loop's next turn
                    changed.clear()
                    if holds():
                        return
                    await changed.wait()
        finally:
            watch.close()

    async def until_there(self, folder: Path, *names: str) -> None:
        await self.until(
            folder,
            lambda: all((folder / name).is_symlink() or (folder / name).exists() for name in names),
        )

    async def until_rejected(self, name: str) -> str:
        """Wait for a file in rejected/; its report."""
        await self.until_there(self.rejected, name)
        return (self.rejected / f"{name}.error.txt").read_text()


@asynccontextmanager
async def running(root: Path, home: Home | None = None) -> AsyncIterator[Home]:
    home = home or Home(root)
    children = (
        ChildSpec(name="queue", factory=lambda: home.queue),
        ChildSpec(name="inbox", factory=lambda: home.actor),
    )
    tree = Tree(SupervisorSpec(name="root", children=children))
    await tree.start()
    try:
        yield home
    finally:
        await tree.stop()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "REFUSED_AFTER_S", 0.05)
    monkeypatch.setattr(machine, "SETTLED_S", 0.02)
    monkeypatch.setattr(machine, "PAUSE_MIN_S", 0.01)
    monkeypatch.setattr(inbox_actor, "RESCAN_S", 0.2)


async def test_a_file_moved_in_becomes_a_task(tmp_path: Path) -> None:
    """A renamed-in file is submitted and kept in accepted/."""
    async with running(tmp_path) as home:
        home.drop("a.json")
        await home.until_there(home.accepted, "a.json")
        assert home.queue.commands == ["echo 1"]
        assert home.queue.sources == ["inbox:a.json"]
        assert (home.accepted / "a.json").read_bytes() == ONE


async def test_files_that_are_there_at_the_start(tmp_path: Path) -> None:
    """What waits in the inbox when the node starts is taken, oldest first."""
    home = Home(tmp_path)
    home.inbox.mkdir()
    for name, mtime in (("b.json", 100), ("a.json", 200)):
        home.drop(name, json.dumps({"command": name}).encode())
        os.utime(home.inbox / name, (mtime, mtime))
    async with running(tmp_path, home):
        await home.until_there(home.accepted, "a.json", "b.json")
    assert home.queue.sources == ["inbox:b.json", "inbox:a.json"]


async def test_a_file_is_not_read_while_it_is_written(tmp_path: Path) -> None:
    """A half-written file is left alone, even if half of it is a task; closing it takes it."""
    async with running(tmp_path) as home:
        with (home.inbox / "slow.json").open("wb", buffering=0) as file:
            file.write(ONE + b"\n")
            home.drop("other.json", b'{"command":"other"}')
            await home.until_there(home.accepted, "other.json")
            assert home.queue.commands == ["other"]
            file.write(b'{"command":"echo 2"}\n')
        await home.until_there(home.accepted, "slow.json")
        assert home.queue.commands == ["echo 1", "echo 2", "other"]


async def test_where_the_system_cannot_tell_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without leases a file is taken once it is unchanged for a while."""
    monkeypatch.setattr("leoronic.actors.inbox_files._has_writer", lambda fd: None)
    async with running(tmp_path) as home:
        home.drop("a.json")
        await home.until_there(home.accepted, "a.json")
        assert home.queue.commands == ["echo 1"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the text is empty"),
        (b"{", "not JSON"),
        (b'[{"command":"a"},{"command":"a","memory":"x"}]', "tasks[1].memory: 'x' is not a size"),
        (b'{"command":"a","memroy":1}', 'memroy: not a field of a task: did you mean "memory"?'),
        (b"\xff\xfe", "not JSON"),
    ],
)
async def test_a_mistake_is_told_beside_the_file(tmp_path: Path, content: bytes, said: str) -> None:
    """A file that cannot be tasks goes to rejected/, with the reasons; the next one is taken."""
    async with running(tmp_path) as home:
        home.drop("bad.json", content)
        home.drop("good.json")
        assert said in await home.until_rejected("bad.json")
        await home.until_there(home.accepted, "good.json")
        assert home.queue.commands == ["echo 1"]
        assert (home.rejected / "bad.json").read_bytes() == content


async def test_what_is_not_a_file_is_moved_aside(tmp_path: Path) -> None:
    """Directories, pipes and links out are rejected unopened; a link to inside is followed."""
    outside = tmp_path / "outside.json"
    outside.write_bytes(ONE)
    root = tmp_path / "root"
    root.mkdir()
    (root / "inside.txt").write_bytes(b'{"command":"inside"}')
    async with running(root) as home:
        (home.inbox / "folder.json").mkdir()
        (home.inbox / "folder.json" / "x").write_text("x")
        os.mkfifo(home.inbox / "pipe.json")
        (home.inbox / "out.json").symlink_to(outside)
        (home.inbox / "up.json").symlink_to("../../outside.json")
        (home.inbox / "nowhere.json").symlink_to("nothing")
        (home.inbox / "device.json").symlink_to("/dev/zero")
        (home.inbox / "in.json").symlink_to("../inside.txt")
        assert "directory" in await home.until_rejected("folder.json")
        assert "not a regular file" in await home.until_rejected("pipe.json")
        assert "leads out" in await home.until_rejected("out.json")
        assert "leads out" in await home.until_rejected("up.json")
        assert "leads nowhere" in await home.until_rejected("nowhere.json")
        assert "leads out" in await home.until_rejected("device.json")
        await home.until_there(home.accepted, "in.json")
        assert home.queue.commands == ["inside"]
    assert outside.read_bytes() == ONE


async def test_a_huge_file_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a file over the limit is read."""
    monkeypatch.setattr("leoronic.actors.inbox_files._read", lambda fd: pytest.fail("was read"))
    async with running(tmp_path) as home:
        with (home.inbox / "huge.json").open("wb") as file:
            file.truncate(100 * 1024 * 1024)
        assert "larger than 16 MiB" in await home.until_rejected("huge.json")


async def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is rejected, and the next one is taken."""
    # Refused by hand: whoever is root may read everything.
    really_open = os.open

    def open_unless_secret(path: Any, flags: int, *more: Any) -> int:
        if str(path).endswith("/secret.json"):
            raise PermissionError(13, "Permission denied")
        return really_open(path, flags, *more)

    async with running(tmp_path) as home:
        monkeypatch.setattr(os, "open", open_unless_secret)
        home.drop("secret.json")
        home.drop("b.json")
        assert await home.until_rejected("secret.json") == "it cannot be read: permission denied\n"
        await home.until_there(home.accepted, "b.json")
        assert home.queue.commands == ["echo 1"]


async def test_a_writer_that_comes_at_the_wrong_moment(tmp_path: Path) -> None:
    """Asking who writes neither disturbs a writer nor hurts the one who asks."""
    path = tmp_path / "x"
    path.write_bytes(ONE)
    reader = os.open(path, os.O_RDONLY)
    assert _has_writer(reader) is False
    writer = os.open(path, os.O_WRONLY)
    assert _has_writer(reader) is True
    os.close(writer)
    assert _has_writer(reader) is False
    os.close(reader)


async def test_a_rescan_finds_what_nobody_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel gives no notices, files are found all the same."""

    class Deaf(FolderWatch):
        def arm(self, folder: Path) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(inbox_actor, "FolderWatch", Deaf)
    async with running(tmp_path) as home:
        home.drop("a.json")
        await home.until_there(home.accepted, "a.json")
        home.drop("b.json")
        await home.until_there(home.accepted, "b.json")


async def test_other_names_are_ignored(tmp_path: Path) -> None:
    """Hidden and unfinished names stay where they are."""
    async with running(tmp_path) as home:
        for name in (".a.json", "a.json.tmp", "a.json.part", "notes.txt"):
            (home.inbox / name).write_bytes(ONE)
        home.drop("b.json")
        await home.until_there(home.accepted, "b.json")
        assert len(home.queue.tasks) == 1
        assert (home.inbox / "notes.txt").exists()


async def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """The same name dropped again gets a number; a fresh file is a new submission."""
    async with running(tmp_path) as home:
        for expected in ("a.json", "a.2.json", "a.3.json", "a.4.json"):
            home.drop("a.json")
            await home.until_there(home.accepted, expected)
        assert len(home.queue.tasks) == 4
        (home.rejected / "bad.json.error.txt").write_text("an older one")
        home.drop("bad.json", b"[")
        assert "not JSON" in await home.until_rejected("bad.2.json")


async def test_long_and_strange_names(tmp_path: Path) -> None:
    """Names as long as the system allows, with spaces, newlines or any bytes, are handled."""
    async with running(tmp_path) as home:
        for name in ("x" * 250 + ".json", "a b\n'c.json", os.fsdecode(b"\xff\xfe.json")):
            (home.inbox / name).write_bytes(ONE)
        await home.until(home.accepted, lambda: len(list(home.accepted.iterdir())) == 3)
        assert len(home.queue.tasks) == 3


async def test_a_crash_between_submitting_and_moving(tmp_path: Path) -> None:
    """A file that is seen again after its tasks were taken adds nothing."""
    home = Home(tmp_path)
    home.inbox.mkdir()
    home.drop("a.json", b'[{"command":"a"},{"command":"a"}]')
    copy = tmp_path / "copy"
    os.link(home.inbox / "a.json", copy)
    async with running(tmp_path, home):
        await home.until_there(home.accepted, "a.json")
    assert len(home.queue.tasks) == 2
    os.link(copy, home.inbox / "a.json")
    home.actor = Inbox(tmp_path)
    async with running(tmp_path, home):
        await home.until_there(home.accepted, "a.2.json")
    assert len(home.queue.sources) == 2
    assert len(home.queue.tasks) == 2


@pytest.mark.parametrize("error", [DiskFull("disk full"), CallTimeout("no answer")])
async def test_files_wait_for_better_times(tmp_path: Path, error: LeoronicError) -> None:
    """A file stays while the queue cannot take it, and is taken when it can."""
    home = Home(tmp_path)
    home.queue.errors = [error] * 3
    async with running(tmp_path, home):
        home.drop("a.json")
        await home.until_there(home.accepted, "a.json")
    assert home.queue.errors == []
    assert list(home.rejected.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "report"),
    [
        (Conflict("x is another task"), "x is another task\n"),
        (BadRequest("2 mistakes", ["after: no b", "after: no c"]), "after: no b\nafter: no c\n"),
    ],
)
async def test_what_the_queue_refuses(tmp_path: Path, error: LeoronicError, report: str) -> None:
    """A refusal of the queue rejects that file, with the reasons, and no other."""
    home = Home(tmp_path)
    home.queue.errors = [error]
    async with running(tmp_path, home):
        home.drop("a.json")
        assert await home.until_rejected("a.json") == report
        home.drop("b.json")
        await home.until_there(home.accepted, "b.json")


async def test_the_folder_is_deleted_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted, moved away or replaced, the inbox is made again and watched: a rescan finds out."""
    monkeypatch.setattr(inbox_actor, "RESCAN_S", 0.05)
    async with running(tmp_path) as home:
        home.drop("a.json")
        await home.until_there(home.accepted, "a.json")
        home.inbox.rename(tmp_path / "old")
        await home.until(tmp_path, home.rejected.exists)
        home.drop("b.json")
        await home.until_there(home.accepted, "b.json")
        for path in (home.accepted / "b.json", home.accepted, home.rejected, home.inbox):
            path.rmdir() if path.is_dir() else path.unlink()
        await home.until(tmp_path, home.inbox.exists)
        await home.until(home.inbox, home.accepted.exists)
        home.drop("c.json")
        await home.until_there(home.accepted, "c.json")
        assert len(home.queue.tasks) == 3


async def test_a_file_that_cannot_be_moved_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be moved is submitted once, and the rest goes on."""
    rename = Path.rename

    def stubborn(path: Path, to: Path) -> Path:
        if path.name == "stuck.json":
            raise PermissionError(13, "Permission denied")
        return rename(path, to)

    async with running(tmp_path) as home:
        (home.inbox / "stuck.json").write_bytes(ONE)
        monkeypatch.setattr(Path, "rename", stubborn)
        home.drop("a.json")
        await home.until_there(home.accepted, "a.json")
        home.drop("b.json")
        await home.until_there(home.accepted, "b.json")
        assert (home.inbox / "stuck.json").exists()
        assert home.queue.sources.count("inbox:stuck.json") == 1


async def test_a_burst_of_files(tmp_path: Path) -> None:
    """Two thousand files at once, a bad one among them, all end where they belong."""
    async with running(tmp_path) as home:
        home.drop("bad.json", b"{")
        for i in range(2000):
            (home.inbox / f"{i}.json").write_bytes(b'{"command":"echo %d"}' % i)
        await home.until(home.accepted, lambda: len(list(home.accepted.iterdir())) == 2000)
        assert "not JSON" in await home.until_rejected("bad.json")
        assert len(home.queue.tasks) == 2000
    assert home.actor.statistics["accepted"] == 2000
    assert home.actor.statistics["rejected"] == 1
