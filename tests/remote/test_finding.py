"""Where a worker is: what the node says, as the machine of calls hears it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from leoronic.core import commands
from leoronic.core.calls import Disconnected, Ended, Placed, Restarting
from leoronic.errors import CallTimeout, LeoronicError, NodeUnreachable, NotFound
from leoronic.remote import finding as module
from leoronic.remote.finding import Finding


class FakeParty:
    """Answers with what is set; time stands still."""

    def __init__(self) -> None:
        self.loop = self
        self.now = 100.0
        self.answer: dict[str, Any] | LeoronicError = {}
        self.shown: dict[str, Any] = {}
        self.asked: list[Any] = []

    def time(self) -> float:
        return self.now

    async def ask(self, command: Any) -> Any:
        self.asked.append(command)
        if isinstance(command, commands.Locate):
            if isinstance(self.answer, LeoronicError):
                raise self.answer
            return {"state": "running", "attempt": 1, "node": "n", "reason": "", **self.answer}
        return {"state": "failed", "exit_code": 3, "node": "n", "reason": "", **self.shown}

    async def read_logs(self, task: str, stream: str, bytes_max: int) -> bytes:
        return b""


class Bench:
    def __init__(self) -> None:
        self.party = FakeParty()
        self.finding = Finding(cast(Any, self.party), "t")

    def find(self, after: int = 0, attempt: int = 1, *, at_once: bool = False) -> Any:
        found = asyncio.run(self.finding.find(after, attempt, at_once=at_once))
        # Events are tuples: two kinds of the same content are equal.
        return repr(found)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_runs(bench: Bench) -> None:
    """Under the party id that its attempt has."""
    bench.party.answer = {"attempt": 3}
    assert repr(Placed(3, "n", "t.3")) == bench.find(2)


def test_who_has_calls_under_way_is_told_at_once(bench: Bench) -> None:
    """Others wait for a change."""
    bench.find(at_once=True)
    bench.find()
    assert [0.0, module.LOCATE_WAIT_S] == [command.wait_s for command in bench.party.asked]


def test_it_waits_for_its_next_process(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """News is told as such; people are told once why it takes long."""
    bench.party.answer = {"state": "waiting", "attempt": 2, "reason": "no room"}
    assert repr(Restarting(2, "no room")) == bench.find(1, 2)
    assert repr(Disconnected("no room")) == bench.find(2, 3)
    assert "leoronic: calls wait for t: no room\n" == capsys.readouterr().err


def test_it_has_ended(bench: Bench) -> None:
    """How, is asked."""
    bench.party.answer = {"state": "failed"}
    assert repr(Ended("its worker t ended with exit status 3 on n")) == bench.find()


def test_a_task_that_nobody_knows_may_be_a_new_one(bench: Bench) -> None:
    """But not for long."""
    bench.party.answer = NotFound("no such task")
    assert repr(Disconnected("no such task")) == bench.find()
    bench.party.now += module.UNKNOWN_S_MAX
    assert repr(Ended("there is no task t any more")) == bench.find()


def test_the_node_may_be_away_for_a_while(bench: Bench) -> None:
    """Counted from when it was last there."""
    away = NodeUnreachable("no node")
    bench.party.answer = away
    assert repr(Disconnected("no node")) == bench.find()
    bench.party.now += module.NO_NODE_S_MAX + 1
    bench.party.answer = {}
    assert repr(Placed(1, "n", "t.1")) == bench.find()
    bench.party.answer = away
    assert repr(Disconnected("no node")) == bench.find()
    bench.party.now += module.NO_NODE_S_MAX + 1
    assert repr(Ended("no node")) == bench.find()


def test_a_node_that_does_not_answer_is_asked_again(bench: Bench) -> None:
    """That says nothing about the worker."""
    bench.party.answer = CallTimeout("no answer")
    assert repr(Disconnected("no answer")) == bench.find()


@pytest.mark.parametrize(
    ("on_loss", "event", "asked"),
    [
        ("retry", Restarting(2, "lost"), commands.Release(["t"])),
        ("hold", Ended("lost"), commands.Cancel(["t"])),
    ],
)
def test_one_that_was_lost_too_often_is_not_left_to_people(
    bench: Bench, on_loss: str, event: object, asked: object
) -> None:
    """It goes on if it may be restarted, and else it ends."""
    bench.party.answer = {"state": "held", "attempt": 2, "reason": "lost"}
    bench.party.shown = {"on_loss": on_loss}
    assert repr(event) == bench.find(1, 2)
    assert asked == bench.party.asked[-1]
