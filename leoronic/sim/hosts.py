"""Hosts of the core's machines: a mailbox, timers, and the effects performed.

They do what `runtime/machine.py` and `actors/runner.py` do, in virtual time: one message at a time,
in the order of arrival; each actor takes its turn after a delay of its own, so that the seeds see
every interleaving.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from leoronic.core.effects import (
    Attached,
    CancelTimer,
    Detached,
    Effect,
    Fail,
    Fired,
    Log,
    Machine,
    Reply,
    Send,
    SetTimer,
)
from leoronic.core.executor_messages import RunnerDown
from leoronic.core.peer import CheckFiles, FilesPresent
from leoronic.errors import LeoronicError
from leoronic.sim.clock import Clock, Handle
from leoronic.sim.story import Story, Violation

# As in `runtime/machine.py`: a timer that comes too early is set again, for so long at least.
AGAIN_S_MIN = 0.001


# Whose decisions the invariants judge.
WATCHED = ("queue", "scheduler", "membership")


class Node(Protocol):
    """What an actor's host needs of the node around it."""

    name: str
    clock: Clock
    chance: Random
    turn_s: float
    mailbox_max: int
    story: Story
    on_message: Callable[[object], None] | None
    asleep: bool
    """Its process stands still: `when_awake` puts off what it is asked for."""

    def send(self, to: str, message: object) -> None:
        """Cast to the actor `to`, or `ACTOR@NODE`; lost if it does not run or is not connected."""

    def answer(self, request: object, result: object, error: LeoronicError | None) -> None:
        """A call was answered."""

    def when_awake(self, action: Callable[[], None]) -> None:
        """Do `action` now, or when the pause of this process is over."""

    def watch(self, who: str, message: object, effects: list[Effect]) -> None:
        """A machine handled a message: let the invariants see."""


class Mailbox:
    """One actor: handles one message at a time, a little later. Subclasses say how."""

    def __init__(self, node: Node, name: str) -> None:
        self.name = name
        self.alive = True
        self.node = node
        self._clock = node.clock
        self._tell = node.story.tell
        self._who = f"{node.name}.{name}"
        self._items: deque[object] = deque()
        self._turn_set = False

    def __len__(self) -> int:
        return len(self._items)

    def deliver(self, message: object) -> None:
        """Put `message` into the mailbox."""
        items = self._items
        items.append(message)
        if len(items) > self.node.mailbox_max:
            raise Violation("mailboxes are bounded", f"{self.name} has {len(items)} messages")
        if not self._turn_set:
            self._set_turn()

    def hand(self, message: object) -> None:
        """As `deliver`, but without a delay of its own if nothing waits before it.

        For what has been under way for a random time already, and comes often.
        """
        if self._items or self._turn_set:
            self.deliver(message)
        else:
            self._handle(message)

    def _set_turn(self) -> None:
        self._turn_set = True
        node = self.node
        self._clock.after(node.chance.random() * node.turn_s, self._turn)

    def _turn(self) -> None:
        if self.node.asleep:
            self.node.when_awake(self._take)
        else:
            self._take()

    def _take(self) -> None:
        self._turn_set = False
        items = self._items
        count = len(items)
        if count > 1:
            count = self.node.chance.randint(1, count)  # some of what waits, at one go
        while count and self.alive:
            self._handle(items.popleft())
            count -= 1
        if items and not self._turn_set:
            self._set_turn()

    def _handle(self, message: object) -> None:
        self._tell(self._clock.now, self._who, message)
        self.take(message)

    def take(self, message: object) -> None:
        """Handle one message."""
        raise NotImplementedError

    def stop(self, in_order: bool) -> None:
        """End this life: `in_order` handles what is in the mailbox first."""
        while in_order and self._items:
            self._handle(self._items.popleft())
        self.alive = False
        self._items.clear()


class MachineHost(Mailbox):
    """An actor around a pure machine; `time` is the clock that its machine lives by."""

    def __init__(self, node: Node, name: str, machine: Machine, time: Callable[[], float]) -> None:
        super().__init__(node, name)
        self.machine = machine
        self._time = time
        self._watched = name in WATCHED
        self._timers: dict[str, Handle] = {}

    def take(self, message: object) -> None:
        """Let the machine handle it, and do what it says."""
        node = self.node
        effects = self.machine.handle(message, self._time())
        if self._watched or node.on_message is not None:
            node.watch(self.name, message, effects)
        for effect in effects:
            if type(effect) is Send:
                node.send(effect.to, effect.message)
            else:
                self._perform(effect)

    @property
    def timers(self) -> int:
        """How many are set."""
        return len(self._timers)

    def stop(self, in_order: bool) -> None:
        """Its timers end with it."""
        super().stop(in_order)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _perform(self, effect: Effect) -> None:
        node = self.node
        match effect:
            case Reply(request, result):
                node.answer(request, result, None)
            case Fail(request, error):
                node.answer(request, None, error)
            case SetTimer(name, at):
                self._set_timer(name, at)
            case CancelTimer(name):
                self._cancel_timer(name)
            case Log():
                self._tell(self._clock.now, self._who, effect)

    def _set_timer(self, name: str, at: float, delay_s_min: float = 0.0) -> None:
        self._cancel_timer(name)
        delay_s = max(delay_s_min, at - self._time())
        self._timers[name] = self._clock.timer(delay_s, lambda: self._due(name, at))

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _due(self, name: str, at: float) -> None:
        del self._timers[name]
        if self._time() < at:
            self._set_timer(name, at, AGAIN_S_MIN)  # Rounding, or the clock was set back.
        else:
            self.deliver(Fired(name))


class ExecutorHost(MachineHost):
    """The executor: also looks for files, and asks the runner for its inventory when attached."""

    def __init__(
        self,
        node: Node,
        machine: Machine,
        time: Callable[[], float],
        *,
        node_id: str,
        ask: Callable[[], None],
        files: set[str],
    ) -> None:
        super().__init__(node, "runner", machine, time)
        self._node_id = node_id
        self._ask = ask
        self._files = files

    def take(self, message: object) -> None:
        """Notices about the runner process and questions about files; the rest is the machine's."""
        match message:
            case Attached():
                self._ask()
            case Detached():
                super().take(RunnerDown())
            case CheckFiles(node, paths):
                present = frozenset(path for path in paths if path in self._files)
                to = "scheduler" if node == self._node_id else f"scheduler@{node}"
                self.node.send(to, FilesPresent(self._node_id, present))
            case _:
                super().take(message)
