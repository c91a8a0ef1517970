"""What the scheduler, the executors and the doors say to each other."""

from __future__ import annotations

import msgspec

from leoronic.core.queue_messages import Item
from leoronic.core.records import TaskClass
from leoronic.core.resources import Capacity, Need
from leoronic.core.run import AttemptKey


class Held(msgspec.Struct, frozen=True):
    """An attempt that occupies a node."""

    task: str
    attempt: int
    need: Need


class Offer(msgspec.Struct, frozen=True):
    """From an executor, when it starts and when its standing changes: all of it, by level.

    `fresh`: the first since it started; what was assigned to it and is not held never arrived.
    """

    node: str
    name: str
    capacity: Capacity
    tags: frozenset[str]
    draining: bool
    held: list[Held]
    fresh: bool = False


class Freed(msgspec.Struct, frozen=True):
    """From an executor: these attempts no longer occupy it; each names its successor, or None.

    `wants`: how many more tasks of a class (by number) it would queue up behind those that run.
    """

    node: str
    attempts: list[tuple[AttemptKey, AttemptKey | None]]
    wants: dict[int, int] = {}


class Assign(msgspec.Struct, frozen=True):
    """To an executor: run these. It takes each, or gives it back with `Freed`.

    Those in `ahead` take over from running attempts of the same class as these end, so that short
    tasks need not wait for a round trip; they occupy nothing until then.
    """

    items: list[tuple[Item, TaskClass]]
    ahead: list[tuple[Item, TaskClass]] = []


class CheckFiles(msgspec.Struct, frozen=True):
    """To an executor: which of these paths exist? Answer: `FilesPresent`."""

    paths: list[str]


class FilesPresent(msgspec.Struct, frozen=True):
    """From an executor: those of the paths asked for that exist there."""

    node: str
    present: frozenset[str]


class Explain(msgspec.Struct, frozen=True):
    """Why doesn't a task of this class start? Answer: {node name: [reasons]}."""

    class_number: int
