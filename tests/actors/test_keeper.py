"""Copies of output: by whom, how, and what becomes of half of one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors import keeper as keeper_module
from leoronic.actors.asking import Answer, Question
from leoronic.actors.keeper import OutputKeeper
from leoronic.actors.keeper_messages import OutputEnded
from leoronic.actors.nodes import Nodes
from leoronic.actors.output_files import Copy, room_left
from leoronic.actors.peer_commands import ReadPart
from leoronic.core.entries import Finished, Kept, Started
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.queue_messages import Append, Appended, AppendFailed
from leoronic.core.view import DOWN, SUSPECT
from leoronic.errors import ActorGone, DiskFull, LeoronicError, Refused, Unavailable
from leoronic.journal.rows import AttemptRow, Uncopied
from tests.actors.node import joined_nodes
from tests.actors.peered import member, view
from tests.actors.recorder import Recorder
from tests.runtime.actors import child, running, until


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class World:
    """The keeper of node `b`, and what it sees of the others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = Nodes(lambda: "b", "B")
        self.uncopied: list[Uncopied] = []
        self.looks = 0
        self.kept: list[Kept] = []
        self.output: dict[str, bytes] = {"stdout": b"0123456789", "stderr": b"oops"}
        self.asked: list[ReadPart] = []
        self.part: Callable[[ReadPart], Any] = self.honest
        self.append_error: LeoronicError | None = None
        self.look_error: LeoronicError | None = None
        self.tree: Any

    def add(self, task: str, node: str, stream: str = "stdout", size: int | None = None) -> None:
        """A run of another node whose output is large."""
        length = len(self.output[stream]) if size is None else size
        self.uncopied.append(Uncopied(task, 1, node, stream, length))

    def outputs_to_keep(self, limit: int) -> list[Uncopied]:
        self.looks += 1
        return self.uncopied[:limit]

    def attempts(self, task: str) -> list[AttemptRow]:
        nodes = {one.node for one in self.uncopied if one.task == task}
        return [AttemptRow(task, 1, n, 5.0, 99.0, None, None, None) for n in sorted(nodes)]

    def honest(self, part: ReadPart) -> Any:
        data = self.output[part.stream][part.offset : part.offset + part.limit]
        return Answer({"offset": part.offset, "at_end": False, "known": True}, data)

    def answer(self, message: Any) -> Any:
        if isinstance(message, Question):
            assert isinstance(message.command, ReadPart)
            assert message.node == message.command.node
            self.asked.append(message.command)
            return self.part(message.command)
        if isinstance(message, Append):
            found: Any = Appended(message.token)
            if self.append_error is not None:
                found = AppendFailed(message.token, self.append_error)
            else:
                for entry in message.entries:
                    assert isinstance(entry, Kept)
                    self.kept.append(entry)
                    key = (entry.task, entry.attempt, entry.node, entry.stream)
                    self.uncopied = [one for one in self.uncopied if one[:4] != key]
            self.tree.find(message.sender).cast_nowait(found)
            return None
        return self.look_error or message(self)

    async def see(self, *states: str, nodes: str = "abc") -> None:
        states = states or ("up",) * len(nodes)
        members = [member(n, state=s) for n, s in zip(nodes, states, strict=True)]
        await self.tree.find("keeper").cast(view("b", *members))

    @property
    def files(self) -> list[str]:
        return names(self.folder)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "GATHER_S", 0.0)
    monkeypatch.setattr(keeper_module, "CHUNK_BYTES", 4)
    monkeypatch.setattr(keeper_module, "RESERVE_BYTES", 0)
    monkeypatch.setattr(keeper_module, "RESERVE_SHARE", 0.0)


@asynccontextmanager
async def keeping(folder: Path) -> AsyncIterator[World]:
    world = World(folder)
    async with running(
        child("journal", lambda: Recorder(world.answer)),
        child("questions", lambda: Recorder(world.answer)),
        child("keeper", lambda: OutputKeeper(folder, world.nodes)),
    ) as tree:
        world.tree = tree
        yield world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with keeping(tmp_path) as made:
        yield made


async def test_the_next_node_keeps_a_copy(world: World) -> None:
    """In parts, whole, under the age of its run; and all nodes are told where it is."""
    world.add("t", "a")
    world.add("t", "a", "stderr")
    await world.see()
    await until(lambda: len(world.kept) == 2)
    assert {Kept("t", 1, "a", "stdout", 10), Kept("t", 1, "a", "stderr", 4)} == set(world.kept)
    assert ["t.1.stderr@a", "t.1.stdout@a"] == world.files
    copy = world.folder / "t.1.stdout@a"
    assert (b"0123456789", 99.0) == (copy.read_bytes(), copy.stat().st_mtime)
    assert [(0, 4), (4, 4), (8, 2)] == [
        (part.offset, part.limit) for part in world.asked if part.stream == "stdout"
    ]


@pytest.mark.parametrize(
    ("nodes", "states", "wards"),
    [
        ("abc", ("up", "up", "up"), ["a"]),
        ("abc", ("up", "up", DOWN), ["a"]),
        ("ab", ("up", "up"), ["a"]),
        ("bc", ("up", "up"), ["c"]),
        ("bcd", ("up", "up", "up"), ["d"]),
        ("abcd", (DOWN, "up", "up", "up"), ["d"]),
        ("abc", (SUSPECT, "up", "up"), ["a"]),
    ],
)
async def test_whose_output_a_node_keeps(
    world: World, nodes: str, states: tuple[str, ...], wards: list[str]
) -> None:
    """That of the node before it in the ring of those that are there: one node for each."""
    for node in nodes:
        world.add("t", node)
    await world.see(*states, nodes=nodes)
    await until(lambda: len(world.kept) == len(wards))
    assert wards == [kept.node for kept in world.kept]


async def test_a_node_alone(world: World) -> None:
    """There is nobody to copy from; when there is, it does."""
    world.add("t", "a")
    await world.see(DOWN, "up", DOWN)
    await world.see(DOWN, "up", "up")
    await until(lambda: world.looks > 0)
    assert [] == world.kept
    await world.see()
    await until(lambda: len(world.kept) == 1)


async def test_a_hint_is_enough(world: World) -> None:
    """What ends later is copied when the hint comes."""
    await world.see()
    await until(lambda: world.looks == 1)
    world.add("t", "a")
    await world.tree.find("keeper").cast(OutputEnded())
    await until(lambda: len(world.kept) == 1)


@pytest.mark.parametrize(
    "part",
    [
        lambda part: Answer({"offset": 0, "at_end": True, "known": False}, b""),
        lambda part: Answer({"offset": 0, "at_end": True, "known": True}, b"01"[part.offset :]),
        lambda part: Answer({"offset": 0, "at_end": True, "known": True}, b"much more than asked"),
        lambda part: Refused("the output is gone"),
        lambda part: Unavailable("A is down"),
    ],
    ids=["unknown", "short", "long", "gone", "down"],
)
async def test_what_cannot_be_copied(
    world: World, part: Callable[[ReadPart], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of it, nothing is said of it, and the others are copied."""
    world.part = lambda asked: part(asked) if asked.task == "bad" else world.honest(asked)
    world.add("bad", "a")
    world.add("good", "a")
    await world.see()
    await until(lambda: len(world.kept) == 1 and "bad" in {one.task for one in world.asked})
    await until(lambda: world.files == ["good.1.stdout@a"])
    assert [Kept("good", 1, "a", "stdout", 10)] == world.kept


async def test_it_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause that grows; not before."""
    monkeypatch.setattr(keeper_module, "RETRY_S_MIN", 0.0)
    failures = [Unavailable("A is slow")] * 2
    world.part = lambda part: failures.pop() if failures else world.honest(part)
    world.add("t", "a")
    await world.see()
    while not world.kept:
        await world.tree.find("keeper").cast(OutputEnded())
        looks = world.looks
        await until(lambda: world.looks > looks or bool(world.kept))  # noqa: B023
    assert [] == failures


async def test_it_is_not_tried_again_at_once(world: World) -> None:
    """A node that is in trouble is not asked without end."""
    world.part = lambda part: Unavailable("A is slow")
    world.add("t", "a")
    await world.see()
    await until(lambda: bool(world.asked))
    for _ in range(3):
        looks = world.looks
        await world.tree.find("keeper").cast(OutputEnded())
        await until(lambda: world.looks > looks)  # noqa: B023
    assert 1 == len(world.asked)


async def test_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy takes what tasks and the journal need; smaller ones still fit."""
    room = room_left(world.folder, 0, 0.0)
    monkeypatch.setattr(keeper_module, "room_left", lambda *args: 5)
    world.add("large", "a")
    world.add("small", "a", "stderr")
    await world.see()
    await until(lambda: len(world.kept) == 1)
    assert ["small.1.stderr@a"] == world.files
    assert "large" not in {part.task for part in world.asked}
    assert room > room_left(world.folder, 1 << 20, 0.0) >= room_left(world.folder, 1 << 20, 1.0)


async def test_more_than_one_look_tells(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is for others, and what fails, does not stand in the way of the rest."""
    monkeypatch.setattr(keeper_module, "LOOK_MAX", 2)
    for number in range(5):
        world.add(f"c{number}", "c")
    world.part = lambda part: Refused("gone") if part.task in ("t0", "t1") else world.honest(part)
    for number in range(7):
        world.add(f"t{number}", "a")
    await world.see()
    await until(lambda: len(world.kept) == 5)
    assert {f"t{number}" for number in range(2, 7)} == {kept.task for kept in world.kept}


@pytest.mark.parametrize("error", [DiskFull("no room"), Unavailable("slow")])
async def test_the_journal_refuses(world: World, error: LeoronicError) -> None:
    """The copy stays, and is told of at the next try without being made again."""
    world.append_error = error
    world.add("t", "a")
    await world.see()
    await until(lambda: world.files == ["t.1.stdout@a"])
    keeper = world.tree.find("keeper").cell._actor
    await until(lambda: bool(keeper._failed))
    world.append_error = None
    keeper._failed.clear()
    asked = len(world.asked)
    await world.tree.find("keeper").cast(OutputEnded())
    await until(lambda: len(world.kept) == 1)
    assert asked == len(world.asked)


async def test_the_journal_between_two_lives(world: World) -> None:
    """It looks again later."""
    world.look_error = ActorGone("restarting")
    await world.see()
    world.add("t", "a")
    world.look_error = None
    await world.tree.find("keeper").cast(OutputEnded())
    await until(lambda: len(world.kept) == 1)
    assert {0} == {line["restarts"] for line in world.tree.statistics()}


async def test_what_an_earlier_life_left(tmp_path: Path) -> None:
    """Half copies are removed; what is whole stays, as does what belongs to tasks."""
    for name in ("t.1.stdout@a.part", "t.1.stdout@a", "x.part", "pack-1"):
        (tmp_path / name).write_bytes(b"x")
    async with keeping(tmp_path):
        assert ["pack-1", "t.1.stdout@a", "x.part"] == names(tmp_path)


def test_a_copy_is_whole_or_not_there(tmp_path: Path) -> None:
    """It gets its name at the end."""
    copy = Copy(tmp_path, "c")
    copy.write(b"half")
    assert ["c.part"] == names(tmp_path)
    copy.close()
    assert [] == names(tmp_path)
    copy = Copy(tmp_path, "c")
    copy.write(b"whole")
    copy.finish(7.0)
    copy.close()
    assert ["c"] == names(tmp_path)


async def test_two_at_once(world: World) -> None:
    """Copies leave room for what people wait for."""
    most = 0

    def part(asked: ReadPart) -> Any:
        nonlocal most
        most = max(most, sum(name.endswith(".part") for name in world.files))
        return world.honest(asked)

    world.part = part
    for number in range(9):
        world.add(f"t{number}", "a")
    await world.see()
    await until(lambda: len(world.kept) == 9)
    assert 2 == most


async def test_output_outlives_its_node(tmp_path: Path) -> None:
    """With real journals: the next node copies it, all know, and read it when its node is gone."""
    async with joined_nodes(tmp_path, "one", "two", "three") as (_, nodes):
        ring = sorted(nodes, key=lambda node: node.id)
        ran, keeps, asked = ring
        async with asked.client() as client:
            await client.ask("submit", b'{"command": "x", "id": "t"}')
            for node in (ran, keeps):
                await asked.copy_to(node)
            (ran.output / "t.1.stdout").write_bytes(b"large enough")
            outcome = Outcome(5.0, 6.0, exit_code=0, stdout=StreamRef(12, file="t.1.stdout"))
            await ran.write(Started("t", 1, ran.id, 5.0), Finished("t", 1, ran.id, outcome, True))
            await ran.copy_to(keeps, asked)
            for node in ring:
                await node.tree.find("keeper").cast(OutputEnded())
            await until(lambda: any(b"kept" in body.text for body in keeps.copied))
            assert [f"t.1.stdout@{ran.id}"] == names(keeps.output)
            assert [] == names(asked.output)
            await keeps.copy_to(ran, asked)
            await asked.see(asked.member, keeps.member, member(ran.id, ran.name, DOWN))
            number = client.send({"type": "logs", "id": "t"})
            *items, _ = await client.result(number)
            assert b"large enough" == b"".join(blob for _, blob in items)
