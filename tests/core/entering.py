"""Live tasks that have heard some entries: for the tests of what follows from these."""

from __future__ import annotations

from typing import Any

from leoronic.core.arrays import ArrayRecord
from leoronic.core.effects import Send
from leoronic.core.entries import (
    Entry,
    Numbered,
    Submitted,
)
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import Offered
from leoronic.core.records import Record, _Rare
from leoronic.core.spec import TaskSpec
from leoronic.core.tasks import Tasks
from leoronic.core.view import View
from tests.core.views import make_view

NOW = 100.0

GOOD = Outcome(1.0, 2.0, exit_code=0)

BAD = Outcome(1.0, 2.0, exit_code=1)


def submitted(task: str = "a", **fields: object) -> Submitted:
    fields.setdefault("command", "x")
    return Submitted(task, TaskSpec(**fields), 0.0)  # type: ignore[arg-type]


def tasks_of(*entries: Entry, view: View | None = None) -> Tasks:
    """Node `n`, alone unless there is a view, having heard these of itself."""
    tasks = Tasks()
    tasks.now = NOW
    tasks.see(view or make_view("n"))
    for number, entry in enumerate(entries, 1):
        tasks.apply(Numbered("n", number, entry))
    return tasks


def sent(tasks: Tasks) -> list[tuple[str, Any]]:
    """What was sent since this was last asked."""
    effects, tasks.effects[:] = list(tasks.effects), []
    return [(effect.to, effect.message) for effect in effects if isinstance(effect, Send)]


def offered(tasks: Tasks) -> list[str]:
    """The tasks that the scheduler is told of now."""
    tasks.windows.feed()
    told = [message for _, message in sent(tasks)]
    return [item.task for message in told if isinstance(message, Offered) for item in message.items]


def stopped(tasks: Tasks) -> list[str]:
    """The attempts that are ended now, in words."""
    told = [message for to, message in sent(tasks) if to == "runner"]
    return [f"{stop.task} {stop.attempt} {stop.reason}" for stop in told]


def seen(record: Record) -> dict[str, object]:
    """All that a record holds, but for its class's number."""
    rare = [name for name, value in vars(Record).items() if isinstance(value, _Rare)]
    apart = ("_rare", "_status", "parent", "task_class")
    names = [name for name in Record.__slots__ if name not in apart] + rare
    found = {name: getattr(record, name) for name in [*names, "status"]}
    found["runs"] = record.runs.phases()
    found["why_held"], found["not_before"] = record.why_held(), record.not_before
    found["class"] = (record.task_class.origin, record.task_class.need)
    if isinstance(record, ArrayRecord):
        found["ended"] = dict(record.ended)
        found["open"] = [record.is_open(index) for index in range(record.count)]
        found["elements"] = {i: seen(e) for i, e in sorted(record.elements.items())}
    return found


def state(tasks: Tasks) -> dict[str, object]:
    return {"ended": dict(tasks.ended), **{task: seen(r) for task, r in tasks.live.items()}}


def cluster(me: str, *members: str) -> Tasks:
    """Node `me`, that sees `members`, and has heard of task `a` of node `a`, ..., `c` of `c`."""
    tasks = tasks_of(view=make_view(me, *members))
    hear(tasks, *((node, submitted(node)) for node in "abc"))
    return tasks


def hear(tasks: Tasks, *told: tuple[str, Entry]) -> None:
    """Entries, each with its origin."""
    for number, (origin, entry) in enumerate(told, 1):
        tasks.apply(Numbered(origin, number, entry))
