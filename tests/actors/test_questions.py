"""Questions to other nodes, through the codec, and what becomes of them when nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from leoronic.actors import questions as questions_module
from leoronic.actors.asking import Answer, ask
from leoronic.actors.node_answers import NodeInfo
from leoronic.actors.nodes import Nodes
from leoronic.actors.peer_commands import PeerCommand, ReadPart
from leoronic.actors.peers_messages import NotAsked
from leoronic.actors.questions import LARGE_MAX, PATIENT_MAX, UNDER_WAY_MAX, QuestionsActor
from leoronic.core import executor_messages
from leoronic.core.commands import Drain, TagAdd, TagList
from leoronic.core.commands import Nodes as NodesCommand
from leoronic.core.executor_messages import SetDraining, SetTag
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.peer import Answered, Ask
from leoronic.core.run import OutputPart, ReadOutput
from leoronic.core.view import DOWN, GhostMember
from leoronic.errors import (
    BadRequest,
    CallTimeout,
    LeoronicError,
    MailboxFull,
    Refused,
    Unavailable,
    from_code,
)
from leoronic.journal.reads import AttemptRow
from leoronic.runtime.ref import ActorRef
from leoronic.runtime.supervisor import Tree
from tests.actors.peered import Pipes, member, view
from tests.actors.recorder import Recorder
from tests.runtime.actors import child, running, until


class Side:
    """One node: its questions, and stand-ins for everything behind them."""

    def __init__(self, node: str, folder: Path) -> None:
        self.id = node
        self.folder = folder
        self.nodes = Nodes(lambda: node, node.upper())
        self.runs: list[AttemptRow] = []
        self.executor = Recorder(self._executor)
        self.host = Recorder(self._runner)
        self.live = b""
        self.gate: asyncio.Event | None = None
        self.actor: QuestionsActor
        self.tree: Tree

    def attempts(self, task: str) -> list[AttemptRow]:
        return [run for run in self.runs if run.task == task]

    def _executor(self, message: Any) -> Any:
        match message:
            case executor_messages.Describe():
                return {
                    "tags": ["t"],
                    "draining": False,
                    "running": [["a", 1]],
                    "cpus": 2.0,
                    "memory": 5,
                    "storage": 6,
                    "resources": {},
                    "free": {"cpus": 1.0},
                }
            case SetTag(tag="bad"):
                return Refused("the tag bad was given at the start")
            case SetTag(tag, on):
                return [tag] if on else []
            case SetDraining():
                return None
        raise AssertionError(message)

    def _runner(self, message: ReadOutput) -> OutputPart:
        data = self.live[message.offset : message.offset + message.limit]
        return OutputPart(message.offset, data, at_end=False)

    @property
    def questions(self) -> ActorRef:
        return self.tree.find("questions")

    async def ask(self, node: str, command: PeerCommand, timeout_s: float = 60.0) -> Answer:
        return await ask(self.questions, node, command, timeout_s)

    @property
    def serving(self) -> int:
        """How many questions of others are being answered."""
        return sum(map(len, self.actor._serving.values()))

    @property
    def pending(self) -> int:
        """How many questions of its own have no answer."""
        return len(self.actor._pending)


async def start(stack: AsyncExitStack, pipes: Pipes, side: Side) -> None:
    info = NodeInfo(
        id=lambda: side.id,
        name=side.id.upper(),
        root=side.folder,
        started_at=0.0,
        statistics=list,
        stop=lambda now: None,
        stopping=lambda: False,
        debug=False,
    )

    def questions() -> QuestionsActor:
        side.actor = QuestionsActor(side.folder, info, side.nodes)
        return side.actor

    side.tree = await stack.enter_async_context(
        running(
            child("journal", lambda: Recorder(lambda message: message(side))),
            child("queue", Recorder),
            child("scheduler", Recorder),
            child("runner", lambda: side.executor),
            child("runner_host", lambda: side.host),
            child("peers", pipes.peers),
            child("questions", questions),
        )
    )
    pipes.trees[side.id] = side.tree


@pytest.fixture
def pipes() -> Pipes:
    return Pipes()


@pytest.fixture
async def sides(tmp_path: Path, pipes: Pipes) -> AsyncIterator[tuple[Side, Side]]:
    async with AsyncExitStack() as stack:
        made = []
        for node in ("a", "b"):
            (tmp_path / node).mkdir()
            side = Side(node, tmp_path / node)
            side.nodes.see(view(node, member("a"), member("b")))
            await start(stack, pipes, side)
            made.append(side)
        yield made[0], made[1]


async def see(side: Side, *states: str) -> None:
    """A view in which `a` and `b` are in these states; taken in when this returns."""
    seen = view(side.id, *(member(n, state=s) for n, s in zip("ab", states, strict=True)))
    side.nodes.see(seen)
    await side.questions.cast(seen)


def hold_answers(pipes: Pipes) -> list[tuple[str, Any]]:
    """From now on no answer arrives; they are collected."""
    held: list[tuple[str, Any]] = []

    def lost(node: str, message: Any) -> bool:
        if isinstance(message, Answered):
            held.append((node, message))
        return isinstance(message, Answered)

    pipes.lost = lost
    return held


# ---- answers ----


async def test_the_other_node_answers_for_itself(sides: tuple[Side, Side]) -> None:
    """Its own object, with what runs there now."""
    a, _ = sides
    answer = await a.ask("b", NodesCommand())
    [node] = answer.result["nodes"]
    assert ("b", "B", 1, {"cpus": 1.0}) == (
        node["id"],
        node["name"],
        node["running"],
        node["free"],
    )


async def test_a_command_is_never_forwarded(sides: tuple[Side, Side]) -> None:
    """A node that is asked for another one's tags tells its own: no question goes in circles."""
    a, b = sides
    assert {"node": "B", "tags": ["t"]} == (await a.ask("b", TagList("a"))).result
    assert {"node": "B", "tags": ["x"]} == (await a.ask("b", TagAdd("x", "a"))).result
    assert (await a.ask("b", Drain("a"))).result["id"] == "b"
    assert [SetTag("x", True), SetDraining(True)] == [
        message
        for message in b.executor.messages
        if not isinstance(message, executor_messages.Describe)
    ]
    assert [] == a.executor.messages


async def test_a_refusal_is_raised_as_such(sides: tuple[Side, Side]) -> None:
    """With its words and its class."""
    a, _ = sides
    with pytest.raises(Refused, match="the tag bad was given"):
        await a.ask("b", TagAdd("bad"))
    with pytest.raises(BadRequest):
        await a.ask("b", TagAdd("no tag at all"))


@pytest.mark.parametrize(
    "command",
    [b'{"type": "submit"}', b'{"type": "stop"}', b'{"type": "from the future"}', b"[]", b"1"],
)
async def test_what_nodes_do_not_ask_of_each_other(
    sides: tuple[Side, Side], pipes: Pipes, command: bytes
) -> None:
    """It is refused, and harms nobody."""
    a, b = sides
    held = hold_answers(pipes)
    await b.questions.cast(Ask("a", request=1, command=msgspec.Raw(command)))
    await until(lambda: bool(held))
    told = msgspec.json.decode(held[0][1].body)["error"]
    assert isinstance(from_code(told["code"], told["message"]), BadRequest)
    pipes.lost = lambda node, message: False
    await a.ask("b", TagList())


# ---- nobody answers ----


async def test_a_time_limit(sides: tuple[Side, Side], pipes: Pipes) -> None:
    """It is kept, and the other node need not answer any more."""
    a, _ = sides
    hold_answers(pipes)
    with pytest.raises(CallTimeout, match="B did not answer within"):
        await a.ask("b", TagList(), timeout_s=0.01)
    assert 0 == a.pending
    assert [False, True] == [m.message.cancel for m in pipes.sent if isinstance(m.message, Ask)]


async def test_who_gives_up_is_not_answered(sides: tuple[Side, Side], pipes: Pipes) -> None:
    """What that node had begun for it ends."""
    a, b = sides
    never = asyncio.Event()
    b.actor._answers.here = lambda command: never.wait()  # type: ignore[method-assign,assignment,return-value]
    asking = asyncio.ensure_future(a.ask("b", TagList()))
    await until(lambda: b.serving == 1)
    asking.cancel()
    await until(lambda: b.serving == 0)
    assert 0 == a.pending
    assert not any(isinstance(m.message, Answered) for m in pipes.sent)


async def test_a_node_that_is_down(sides: tuple[Side, Side], pipes: Pipes) -> None:
    """What was asked fails at once, and so does what is asked then."""
    a, _ = sides
    hold_answers(pipes)
    asking = asyncio.ensure_future(a.ask("b", TagList()))
    await until(lambda: a.pending == 1)
    await see(a, "up", DOWN)
    with pytest.raises(Unavailable, match="B is down"):
        await asking
    with pytest.raises(Unavailable, match="B is down"):
        await a.ask("b", TagList())
    with pytest.raises(Unavailable, match="zzz is not known"):
        await a.ask("zzz", TagList())


async def test_a_ghost_that_goes_to_another_node(sides: tuple[Side, Side], pipes: Pipes) -> None:
    """What was asked by way of the former fails at once: who follows a task there asks again."""
    a, _ = sides
    pipes.lost = lambda node, message: True
    seen = view("a", member("a"), member("b"))
    about = seen.members["b"].about

    async def see_ghost(clairvoyant: str, *, linked: bool = True) -> None:
        ghost = GhostMember("g", about, clairvoyant, linked=linked)
        now = msgspec.structs.replace(seen, ghosts={"g": ghost})
        a.nodes.see(now)
        await a.questions.cast(now)

    await see_ghost("b")
    asking = asyncio.ensure_future(a.ask("g", TagList()))
    await until(lambda: a.pending == 1)
    await see_ghost("b")
    assert 1 == a.pending
    await see_ghost("a")
    with pytest.raises(Unavailable, match="meanwhile: ask again"):
        await asking


async def test_a_node_without_a_connection(sides: tuple[Side, Side], pipes: Pipes) -> None:
    """A question that could not leave fails at once, however patient its asker; others do not."""
    pipes.lost = lambda node, message: True
    asked = asyncio.ensure_future(sides[0].ask("b", TagList()))
    await until(lambda: sides[0].pending == 1)
    await sides[0].questions.cast(NotAsked("c"))
    await sides[0].questions.cast(NotAsked("b"))
    with pytest.raises(Unavailable, match="no connection to B now"):
        await asked
    assert 0 == sides[0].pending
    pipes.lost = lambda node, message: False
    assert ["t"] == (await sides[0].ask("b", TagList())).result["tags"]


async def test_a_connection_that_breaks(sides: tuple[Side, Side], pipes: Pipes) -> None:
    """Both sides give up what was under way; a new question goes by the next connection."""
    a, b = sides
    ends: list[str] = []

    async def never(command: PeerCommand) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("given up")

    here = b.actor._answers.here
    b.actor._answers.here = never  # type: ignore[method-assign]
    asking = asyncio.ensure_future(a.ask("b", TagList()))
    await until(lambda: b.serving == 1)
    pipes.break_link("a", "b")
    with pytest.raises(Unavailable, match="the connection to B broke"):
        await asking
    await until(lambda: ends == ["given up"])
    b.actor._answers.here = here  # type: ignore[method-assign]
    assert "B" == (await a.ask("b", TagList())).result["node"]


async def test_answers_that_nobody_asked_for(sides: tuple[Side, Side], pipes: Pipes) -> None:
    """Those to an earlier life, doubled ones, and one node's in the name of another: dropped."""
    a, _ = sides
    hold_answers(pipes)
    asking = asyncio.ensure_future(a.ask("b", TagList()))
    await until(lambda: a.pending == 1)
    [number] = a.actor._pending
    lie = msgspec.Raw(b'{"result": "a lie"}')
    await a.questions.cast(Answered("c", request=number, body=lie))
    await a.questions.cast(Answered("b", request=number + 1, body=lie))
    await a.questions.cast(Answered("b", request=number, body=msgspec.Raw(b'{"result": 1}')))
    await a.questions.cast(Answered("b", request=number, body=lie))
    assert 1 == (await asking).result


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"error": 1}', b"null"])
async def test_an_answer_that_is_none(sides: tuple[Side, Side], pipes: Pipes, body: bytes) -> None:
    """It fails the question and nothing else."""
    a, _ = sides
    hold_answers(pipes)
    asking = asyncio.ensure_future(a.ask("b", TagList()))
    await until(lambda: a.pending == 1)
    [number] = a.actor._pending
    await a.questions.cast(Answered("b", request=number, body=msgspec.Raw(body)))
    with pytest.raises(Unavailable, match="no answer that can be read"):
        await asking


# ---- bounds ----


async def test_so_many_at_once(sides: tuple[Side, Side], pipes: Pipes) -> None:
    """The rest waits for its turn here, and all are answered."""
    a, b = sides
    gate = asyncio.Event()

    async def here(command: PeerCommand) -> Any:
        await gate.wait()
        return "done"

    b.actor._answers.here = here  # type: ignore[method-assign]
    asking = [asyncio.ensure_future(a.ask("b", TagList())) for _ in range(UNDER_WAY_MAX + 40)]
    await until(lambda: b.serving == UNDER_WAY_MAX and a.pending == len(asking))
    gate.set()
    answers = await asyncio.gather(*asking)
    assert ["done"] * len(asking) == [answer.result for answer in answers]
    assert ({}, 0) == (a.actor._lanes, a.pending)


async def test_a_node_that_asks_too_much(sides: tuple[Side, Side], pipes: Pipes) -> None:
    """It is told so; what it asked before goes on."""
    _, b = sides
    never = asyncio.Event()
    b.actor._answers.here = lambda command: never.wait()  # type: ignore[method-assign,assignment,return-value]
    held = hold_answers(pipes)
    text = msgspec.Raw(b'{"type": "taglist"}')
    for number in range(UNDER_WAY_MAX + 1):
        await b.questions.cast(Ask("a", request=number, command=text))
    await until(lambda: bool(held))
    [(_, answer)] = held
    assert (UNDER_WAY_MAX, "mailbox_full") == (
        answer.request,
        msgspec.json.decode(answer.body)["error"]["code"],
    )
    assert UNDER_WAY_MAX == b.serving


async def test_the_patient_leave_room_for_the_others(
    sides: tuple[Side, Side], pipes: Pipes
) -> None:
    """However many follow output on a node, short questions are answered."""
    a, b = sides
    never = asyncio.Event()
    b.actor._output.answer = lambda question: never.wait()  # type: ignore[method-assign,assignment,return-value]
    part = ReadPart("t", 1, "b", "stdout", 0, 4096, wait_s=20.0)
    asking = [asyncio.ensure_future(a.ask("b", part)) for _ in range(UNDER_WAY_MAX + 20)]
    await until(lambda: a.pending == len(asking) and b.serving == PATIENT_MAX)
    assert "B" == (await a.ask("b", TagList())).result["node"]
    for one in asking:
        one.cancel()
    await until(lambda: a.pending == 0 and b.serving == 0)


async def test_large_answers_come_few_at_a_time(sides: tuple[Side, Side], pipes: Pipes) -> None:
    """They share a connection with all that is urgent."""
    a, b = sides
    gate = asyncio.Event()

    async def answer(question: ReadPart) -> Any:
        await gate.wait()
        return {"offset": 0, "at_end": True, "known": True}, b""

    b.actor._output.answer = answer  # type: ignore[method-assign]
    part = ReadPart("t", 1, "b", "stdout", 0, 256 * 1024)
    asking = [asyncio.ensure_future(a.ask("b", part)) for _ in range(9)]
    await until(lambda: a.pending == 9 and b.serving > 0)
    assert "B" == (await a.ask("b", TagList())).result["node"]
    assert LARGE_MAX == b.serving
    gate.set()
    assert 9 == len(await asyncio.gather(*asking))


async def test_too_many_wait(
    sides: tuple[Side, Side], pipes: Pipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next is refused, and nothing of it was done."""
    monkeypatch.setattr(questions_module, "WAITING_MAX", 2)
    a, _ = sides
    hold_answers(pipes)
    asking = [asyncio.ensure_future(a.ask("b", TagList())) for _ in range(UNDER_WAY_MAX + 2)]
    await until(lambda: a.pending == len(asking))
    with pytest.raises(MailboxFull, match="wait for B already"):
        await a.ask("b", TagList())
    for one in asking:
        one.cancel()


# ---- output ----


def run(task: str, node: str, outcome: Outcome | None, **fields: Any) -> AttemptRow:
    filled: dict[str, Any] = {
        "task": task,
        "attempt": 1,
        "node": node,
        "started_at": 5.0,
        "ended_at": outcome.finished_at if outcome else None,
        "final_state": "succeeded" if outcome else None,
        "lost": None,
        "outcome": outcome,
    }
    return AttemptRow(**{**filled, **fields})


async def read(
    side: Side, node: str, run_on: str, offset: int = 0, limit: int = 4
) -> tuple[bytes, dict[str, Any]]:
    part = ReadPart("t", 1, run_on, "stdout", offset, limit)
    answer = await side.ask(node, part)
    return answer.blob, answer.result


async def test_output_of_what_runs_there(sides: tuple[Side, Side]) -> None:
    """From its runner, as much as was asked for."""
    a, b = sides
    b.runs = [run("t", "b", None)]
    b.live = b"0123456789"
    assert (b"4567", {"offset": 4, "at_end": False, "known": True}) == await read(a, "b", "b", 4)


async def test_output_that_is_kept_there(sides: tuple[Side, Side]) -> None:
    """Its part of a pack, to its end; and a copy of what another node's run printed."""
    a, b = sides
    b.runs = [
        run("t", "b", Outcome(5.0, 6.0, exit_code=0, stdout=StreamRef(6, file="pack", offset=2))),
        run("t", "c", Outcome(5.0, 6.0, exit_code=0, stdout=StreamRef(6, file="pack", offset=9))),
    ]
    (b.folder / "pack").write_bytes(b"--012345----")
    (b.folder / "t.1.stdout@c").write_bytes(b"abcdef")
    assert (b"0123", {"offset": 0, "at_end": False, "known": True}) == await read(a, "b", "b")
    assert (b"45", {"offset": 4, "at_end": True, "known": True}) == await read(a, "b", "b", 4)
    assert (b"ef", {"offset": 4, "at_end": True, "known": True}) == await read(a, "b", "c", 4)


async def test_output_that_is_not_there(sides: tuple[Side, Side]) -> None:
    """Never known, not copied, or only half of it; removed by somebody: each is told."""
    a, b = sides
    assert not (await read(a, "b", "b"))[1]["known"]
    large = Outcome(5.0, 6.0, exit_code=0, stdout=StreamRef(6, file="t.1.stdout"))
    b.runs = [run("t", "b", large), run("t", "c", large)]
    assert not (await read(a, "b", "c"))[1]["known"]
    (b.folder / "t.1.stdout@c").write_bytes(b"abc")
    assert not (await read(a, "b", "c"))[1]["known"]
    with pytest.raises(Refused, match=r"the output is gone: t\.1\.stdout was removed"):
        await read(a, "b", "b")


@pytest.mark.parametrize("fields", [{"stream": "etc"}, {"offset": -1}, {"limit": 0}], ids=str)
async def test_parts_of_nonsense(sides: tuple[Side, Side], fields: dict[str, Any]) -> None:
    """Refused before anything is read."""
    a, _ = sides
    filled = {"stream": "stdout", "offset": 0, "limit": 4, **fields}
    with pytest.raises(LeoronicError) as caught:
        await a.ask("b", ReadPart("t", 1, "b", **filled))
    assert isinstance(caught.value, BadRequest)
