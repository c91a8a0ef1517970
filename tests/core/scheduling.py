"""A scheduler with what it is told: for the tests of its parts."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from leoronic.core.effects import Asked, Effect, Fired, Reply, Send, SetTimer
from leoronic.core.interests import CALM_S
from leoronic.core.peer import (
    Assign,
    Freed,
    Interest,
    Offer,
)
from leoronic.core.placement import PATIENCE_S
from leoronic.core.queue_messages import (
    Declined,
    Item,
    Offered,
    SchedulerStarted,
    Withdrawn,
)
from leoronic.core.records import ClassTable, TaskClass
from leoronic.core.resources import Capacity
from leoronic.core.scheduler import SchedulerMachine, Start
from leoronic.core.scheduler_messages import Explain
from leoronic.core.spec import TaskSpec
from leoronic.core.view import AskView, View
from tests.core.views import make_view

ORIGIN = "mm"
"""A node that is gone, and that n stands in for, beside m and o as well."""

NODE = Capacity(2000, 100, 100, (("gpu", 1.0),))


class Scheduler:
    """The machine with one node of two cpus, and a clock; nothing is to be heard any more."""

    def __init__(self, *peers: str, **offer: Any) -> None:
        self.machine = SchedulerMachine("n")
        self.now = 100.0
        self.classes = ClassTable()
        self.order = 0
        assert [Send("queue", SchedulerStarted()), Send("membership", AskView("scheduler"))] == (
            self.told(Start())
        )
        self.told(make_view("n", *peers))
        self.offer(**offer)
        other = self.task_class(node="nobody")
        asked = interests(self.told(Offered(other, [self.item("first")])))
        for node, interest in asked.items():
            self.offer(node=node, name=f"name-{node}", seen=interest.number, **offer)
        self.told(Withdrawn(other.number))
        self.now += CALM_S
        self.told(Fired("barrier"))
        self.told(Fired("interest"))
        assert self.machine.pictures.barriers.is_clear("n")

    def told(self, message: object) -> list[Effect]:
        """What it says, timers apart; who asks for the view is told it at once."""
        if isinstance(message, View):
            message = structs.replace(message, at=self.now)
        self.effects = self.machine.handle(message, self.now)
        ask = Send("membership", AskView("scheduler"))
        if ask in self.effects and self.machine.pictures.view is not None:
            self.effects.remove(ask)
            view = structs.replace(self.machine.pictures.view, at=self.now)
            self.effects += self.machine.handle(view, self.now)
        return [effect for effect in self.effects if not isinstance(effect, SetTimer)]

    def timers(self) -> list[Effect]:
        """Those set by the last message."""
        return [effect for effect in self.effects if isinstance(effect, SetTimer)]

    def offer(self, **changes: Any) -> list[Effect]:
        fields: dict[str, Any] = {
            "node": "n",
            "name": "name-n",
            "capacity": NODE,
            "tags": frozenset(),
            "draining": False,
            "held": [],
            "seen": self.machine._out.number,
            **changes,
        }
        return self.told(Offer(**fields))

    def task_class(self, **fields: Any) -> TaskClass:
        return self.classes.intern(TaskSpec("x", **fields), "n")

    def item(self, task: str, order: int | None = None, attempt: int = 1) -> Item:
        self.order += 1
        return Item(task, attempt, 0, self.order if order is None else order)

    def add(self, *tasks: str, **fields: Any) -> list[Effect]:
        """The queue offers these tasks, of one class."""
        items = [self.item(task) for task in tasks]
        return self.told(Offered(self.task_class(**fields), items))

    def started(self, effects: list[Effect]) -> list[str]:
        """The tasks that these effects assign; there is nothing else but what is given back."""
        found: list[str] = []
        for effect in effects:
            assert isinstance(effect, Send), effect
            if isinstance(effect.message, Declined):
                continue
            assert isinstance(effect.message, Assign), effect
            assert [] == effect.message.ahead
            found += [item.task for item in effect.message.items]
        return found

    def free(self, *tasks: str, wants: dict[int, int] | None = None) -> list[Effect]:
        """These attempts ended."""
        return self.told(Freed("n", [((task, 1), None) for task in tasks], wants=wants or {}))


def interests(effects: list[Effect]) -> dict[str, Interest]:
    """Who is asked what it has, and how."""
    found: dict[str, Interest] = {}
    for effect in effects:
        if isinstance(effect, Send) and isinstance(effect.message, Interest):
            found[effect.to.partition("@")[2] or "n"] = effect.message
    return found


def reserved(scheduler: Scheduler) -> None:
    """`big` waits for both cpus, of which `r` has one, and has been passed by for too long."""
    scheduler.add("r", cpus=1.0)
    scheduler.add("big", cpus=2.0)
    assert ["s"] == scheduler.started(scheduler.add("s", cpus=0.5))
    scheduler.now += PATIENCE_S
    assert [] == scheduler.told(Fired("patience"))


def ahead(effects: list[Effect]) -> list[str]:
    found: list[str] = []
    for effect in effects:
        if isinstance(effect, Send) and isinstance(effect.message, Assign):
            found += [item.task for item in effect.message.ahead]
    return found


def explain(scheduler: Scheduler, **fields: Any) -> list[str]:
    [answer] = scheduler.told(Asked(1, Explain(scheduler.task_class(**fields).number)))
    assert isinstance(answer, Reply)
    return answer.result["name-n"]  # type: ignore[index, no-any-return]


def placed(effects: list[Effect]) -> dict[str, list[str]]:
    """The tasks that are assigned, by node."""
    found: dict[str, list[str]] = {}
    for effect in effects:
        if isinstance(effect, Send) and isinstance(effect.message, Assign):
            node = effect.to.partition("@")[2] or "n"
            found[node] = [item.task for item in effect.message.items]
    return found


def declines(effects: list[Effect]) -> list[str]:
    """The tasks that the queue gets back."""
    return [
        task
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, Declined)
        for task in effect.message.tasks
    ]


def two(**offer: Any) -> Scheduler:
    """This node and `m`, two cpus each; the others' room is known, as there is a task too many."""
    scheduler = Scheduler("m")
    scheduler.add("a", "b")
    asked = interests(scheduler.add("c"))
    assert {"n", "m"} == asked.keys()
    effects = scheduler.offer(node="m", name="name-m", seen=asked["m"].number, **offer)
    if not offer:
        assert {"m": ["c"]} == placed(effects)
    return scheduler
