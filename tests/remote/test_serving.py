"""Calls from their connections to where they run, and back, without processes or threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from leoronic.remote import said, serial
from leoronic.remote.code import CodeShelf
from leoronic.remote.errors import failure
from leoronic.remote.jobs import Job, failed
from leoronic.remote.serving import Serving


class Peer(NamedTuple):
    party: str


class Link:
    """A connection with one caller; what is said to it is kept."""

    def __init__(self, party: str) -> None:
        self.peer = Peer(party)
        self.told: list[tuple[int, Any]] = []

    def say_item(self, kind: int, item: Any, *, is_large: bool = False) -> None:
        self.told.append((kind, item))

    def say(self, kind: int, body: Any) -> None:
        self.told += [(kind, item) for item in body]

    def of(self, kind: int) -> list[Any]:
        return [item for each, item in self.told if each == kind]


class FakeParty:
    def __init__(self) -> None:
        self.handlers: dict[int, Callable[..., None]] = {}

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)


class Queue:
    """A place in which nothing runs by itself."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def put(self, job: Job) -> None:
        self.jobs.append(job)


class Served:
    def __init__(self, *, keeps_order: bool = True) -> None:
        self.party = FakeParty()
        self.fetches: list[tuple[list[Any], Callable[..., None]]] = []
        self.serving = Serving(
            self.party,  # type: ignore[arg-type]
            "t",
            CodeShelf(),
            fetch=lambda keys, then: self.fetches.append((keys, then)),
            keeps_order=keeps_order,
        )
        self.place = Queue()
        self.serving.place = self.place  # type: ignore[assignment]
        self.link = Link("c")

    def say(self, kind: int, *items: Any, link: Link | None = None) -> None:
        self.party.handlers[kind](link or self.link, list(items))

    def call(self, *numbers: int, payload: Any = ((1,),), target: str = "t", n: int = 1) -> None:
        """Calls whose seq is their number."""
        self.say(said.CALLS, *((each, each, target, "f", payload, n, None) for each in numbers))

    def waiting(self) -> list[int]:
        return [job.number for job in self.place.jobs if not job.is_claimed]

    def run(self, value: Any = "done", found: Any = ()) -> None:
        """The first of those that wait begins and ends."""
        job = next(job for job in self.place.jobs if job.claim())
        self.serving.finish(job, (True, (value,), found))


@pytest.fixture
def served() -> Served:
    """A worker that keeps the order of calls."""
    return Served()


def test_a_call_and_its_answer(served: Served) -> None:
    """One way and the other."""
    served.call(1, 2)
    assert [1, 2] == served.waiting()
    served.run("x")
    assert [(1, True, ("x",))] == served.link.of(said.RESULTS)
    assert (1, 0) == (served.serving.waiting, served.serving.running)


def test_a_repeat_is_answered_from_memory(served: Served) -> None:
    """On the connection by which it came, and it does not begin again."""
    served.call(1)
    served.run("x")
    again = Link("c")
    served.say(said.CALLS, (1, 1, "t", "f", ((1,),), 1, None), link=again)
    assert [(1, True, ("x",))] == again.of(said.RESULTS)
    assert 1 == len(served.place.jobs)


REF = ("n", "p", 7)


def test_calls_behind_one_that_waits_for_its_arguments(served: Served) -> None:
    """Keep their turn."""
    served.call(1, payload=(b"", [], [], [(REF, None), (REF, ("inline",))]))
    served.call(2)
    assert [] == served.waiting()
    ((keys, then),) = served.fetches
    assert [REF] == keys
    then([(True, ("fetched",))])
    assert [1, 2] == served.waiting()
    assert [(True, ("fetched",)), (True, ("inline",))] == served.place.jobs[0].tops


def test_functions_do_not_wait_for_the_arguments_of_others() -> None:
    """There is no order among them."""
    served = Served(keeps_order=False)
    served.call(1, payload=(b"", [], [], [(REF, None)]))
    served.call(2)
    assert [2] == served.waiting()
    served.fetches[0][1]([(True, (1,))])
    assert [2, 1] == served.waiting()


def test_a_cancelled_call_does_not_hold_up_others(served: Served) -> None:
    """Even if its arguments never come."""
    served.call(1, payload=(b"", [], [], [(REF, None)]))
    served.call(2)
    served.say(said.CANCEL, (1, False))
    ((number, ok, why),) = served.link.of(said.RESULTS)
    assert (1, False, "task_cancelled") == (number, ok, why[0])
    assert [2] == served.waiting()


def test_giving_back(served: Served) -> None:
    """What has not begun is given back, what has begun goes on."""
    served.call(1, 2, 3)
    assert served.place.jobs[0].claim()
    served.serving.decline_all()
    assert [2, 3] == served.link.of(said.DECLINE)
    served.call(4)
    assert [2, 3, 4] == served.link.of(said.DECLINE)
    served.serving.accept()
    served.call(5)
    assert [5] == served.waiting()
    served.serving.finish(served.place.jobs[0], (True, (None,), ()))
    assert [(1, True, (None,))] == served.link.of(said.RESULTS)


def test_failing_all(served: Served) -> None:
    """Nobody waits for an actor that could not be made."""
    served.call(1, 2)
    served.serving.fail_all(failure("actor_died", "no way"))
    served.call(3)
    assert [1, 2, 3] == [number for number, ok, _ in served.link.of(said.RESULTS) if not ok]


def test_the_wrong_process(served: Served) -> None:
    """A call for another task fails."""
    served.call(1, target="u")
    assert "actor_died" == served.link.of(said.RESULTS)[0][2][0]


def test_cancel_of_what_runs(served: Served) -> None:
    """Whatever runs it is asked; by force, the process ends, and gives back the others."""
    served.call(1, 2)
    asked: list[str] = []
    job = served.place.jobs[0]
    assert job.claim()
    job.cancel = lambda: asked.append("cancel")
    served.serving.on_force = lambda reason: asked.append("force")
    served.say(said.CANCEL, (1, False), (9, False))
    assert ["cancel"] == asked
    served.say(said.CANCEL, (1, True))
    assert ["cancel", "force"] == asked
    assert [2] == served.link.of(said.DECLINE)
    # What it still says afterwards is not a second answer.
    served.serving.finish(job, failed(failure("task_cancelled", "late")))
    assert 1 == len(served.link.of(said.RESULTS))


def test_references_in_results_are_held_until_they_are_known(served: Served) -> None:
    """The caller borrows them before it acknowledges."""

    class Held:
        alive = 0

        def __init__(self) -> None:
            Held.alive += 1

        def __del__(self) -> None:
            Held.alive -= 1

    served.call(1)
    served.run("x", [Held()])
    assert 1 == Held.alive
    served.say(said.ACK, ("u", 1))
    assert 1 == Held.alive
    served.say(said.ACK, ("t", 1))
    assert 0 == Held.alive


def test_items_are_sent_again_until_they_are_taken(served: Served) -> None:
    """By the connection by which the call is repeated, and before its end."""
    served.call(1, n=-1)
    job = served.place.jobs[0]
    assert job.claim()
    for index in range(4):
        served.serving.send_item(job, index, (index,))
    served.say(said.TAKEN, (1, 2))
    assert 2 == job.taken
    served.serving.finish(job, (True, (4,), ()))
    served.link = Link("c")
    served.call(1, n=-1)
    assert [
        (said.ITEM, (1, 2, True, (2,))),
        (said.ITEM, (1, 3, True, (3,))),
        (said.RESULTS, (1, True, (4,))),
    ] == served.link.told
    served.say(said.ACK, ("t", 1))
    served.link = Link("c")
    served.call(1, n=-1)
    assert [] == served.link.told


def test_the_loss_of_an_old_connection(served: Served) -> None:
    """The newer one counts."""
    served.call(1)
    old, served.link = served.link, Link("c")
    served.call(1)
    served.serving.lost(old)  # type: ignore[arg-type]
    served.run("x")
    assert [(1, True, ("x",))] == served.link.of(said.RESULTS)


def test_a_caller_that_left_and_came_back(served: Served) -> None:
    """Its result waits for it."""
    served.call(1)
    served.serving.place = served.place  # type: ignore[assignment]
    loop = type("Loop", (), {"call_later": staticmethod(lambda *args: None)})
    served.party.loop = loop  # type: ignore[attr-defined]
    served.serving.lost(served.link)  # type: ignore[arg-type]
    served.run("x")
    assert [] == served.link.told
    served.link = Link("c")
    served.call(1)
    assert [(1, True, ("x",))] == served.link.of(said.RESULTS)
    assert "x" == serial.load(served.link.of(said.RESULTS)[0][2])


def test_items_come_before_their_end(served: Served) -> None:
    """Also if the end of another call is told in the same turn, before them."""
    posted: list[tuple[Callable[..., Any], Any]] = []
    served.call(1)
    served.call(2, n=-1)
    first, second = served.place.jobs
    assert first.claim()
    assert second.claim()
    served.party.post = lambda function, *args: posted.append((function, args))  # type: ignore[method-assign]
    served.serving.finish(first, (True, (1,), ()))
    for index in range(3):
        served.serving.send_item(second, index, (index,))
    served.serving.finish(second, (True, (3,), ()))
    for function, args in posted:
        function(*args)
    assert [0, 1, 2] == [item[1] for item in served.link.of(said.ITEM)]
    kinds = [(kind, item[0]) for kind, item in served.link.told]
    assert kinds.index((said.RESULTS, 2)) > kinds.index((said.ITEM, 2))
    assert (said.ITEM, 2) not in kinds[kinds.index((said.RESULTS, 2)) :]
