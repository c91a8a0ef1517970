"""What an executor is asked and told, and what it says to others."""

from __future__ import annotations

import msgspec

from leoronic.core.resources import Need


class LoadOpen(msgspec.Struct, frozen=True):
    """Asked of the journal: attempts on this node without an end. Answer: `Open`.

    `life` comes back with the answer: one meant for an earlier life of the asker is void. `node`:
    of that ghost instead.
    """

    sender: str
    life: int = 0
    node: str = ""


class OpenAttempt(msgspec.Struct, frozen=True):
    """An attempt that started here and has no end in the journal.

    `stop_reason`: its task is final without it (it was cancelled), so it is to be ended.
    `has_folder`, `outputs`, `private`: see `leoronic.core.holding.Attempt`.
    """

    task: str
    attempt: int
    need: Need
    retries_left: int
    hold_if_lost: bool
    runner: str = ""
    stop_reason: str = ""
    has_folder: bool = False
    outputs: tuple[str, ...] = ()
    private: bool = False


class Open(msgspec.Struct, frozen=True):
    """The journal's answer to `LoadOpen`: open attempts and the tags of this node.

    `number` is that of the last entry in this node's own journal.
    """

    attempts: list[OpenAttempt]
    tags: list[str]
    life: int = 0
    number: int = 0


class RunnerDown(msgspec.Struct, frozen=True):
    """The connection to the runner process is gone; an `Inventory` follows when it is back."""


class SetTag(msgspec.Struct, frozen=True):
    """Asked: add or remove a tag of this node. Answer: the tags, sorted, once it is on disk."""

    tag: str
    on: bool


class SetDraining(msgspec.Struct, frozen=True):
    """Asked: start nothing more here, or undo that. Answer: None."""

    on: bool


class Relaying(msgspec.Struct, frozen=True):
    """The node serves ghosts (or no longer): it has the tag `clairvoyant`, and needs a cpu for it.

    That cpu is not offered, if there is another.
    """

    on: bool


class WaitIdle(msgspec.Struct, frozen=True):
    """Asked: answered once nothing runs here."""


class Abandon(msgspec.Struct, frozen=True):
    """The node stops at once: nothing starts any more, and what runs is ended and counts as lost.

    That is told once it has ended, so that nobody starts it elsewhere before.
    """


class Describe(msgspec.Struct, frozen=True):
    """Asked: {"tags", "draining", "running": [[task, attempt]], "free", "capacity", "staging"}.

    `staging` are those of `running` that wait for their files.
    """
