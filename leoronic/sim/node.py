"""One simulated node: a core of actors, a runner process, and all the ways they can end.

The order of starting and stopping is that of `leoronic/node.py`, rest for one. `actors.py` says
what each actor is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from leoronic.core.effects import Asked, Attached, Detached, Effect
from leoronic.core.executor import ExecutorMachine
from leoronic.core.executor_messages import Abandon
from leoronic.core.ghost_notices import (
    GhostIds,
    Outward,
)
from leoronic.core.membership_messages import Leave, Remember
from leoronic.core.peer import RECEIVERS, Heartbeat, LinkDown, LinkUp, PeerMessage
from leoronic.core.queue_messages import QueueStarted, Watching
from leoronic.core.replication_messages import Rejoin
from leoronic.core.resources import Capacity
from leoronic.core.run import FromRunner, ToRunner
from leoronic.core.view import About
from leoronic.errors import ActorGone, LeoronicError
from leoronic.journal.leaving import Carried
from leoronic.sim.actors import ACTORS, GHOSTS_AFTER, WITH_FILES, about, make_actor
from leoronic.sim.carrying import Carrier, Told
from leoronic.sim.clock import Clock, MachineClock
from leoronic.sim.disk import Disk
from leoronic.sim.file_actor import FileMix
from leoronic.sim.file_disk import FileDisk
from leoronic.sim.ghost_net import GhostNet
from leoronic.sim.hosts import Mailbox
from leoronic.sim.link import Link
from leoronic.sim.network import Network
from leoronic.sim.observer import Observer
from leoronic.sim.retention import Retention
from leoronic.sim.runner import RunnerHost
from leoronic.sim.story import Story, Violation
from leoronic.sim.trimming import Trimmer

# From telling the others that it leaves to the end of the process.
LEAVE_S = 0.5
# As `leoronic/life.py`.
ABANDON_S = 8.0
ASK_AGAIN_S = 0.05
# A node whose steps take longer is not well.
TURN_S_MAX = 0.02
# A small world never fills a mailbox; one that grows to this is being flooded.
MAILBOX_MAX = 2000


Answer = Callable[[object, LeoronicError | None], None]
"""Told the result of a call, or its error."""


class SimNode:
    """See the module. `turn_s` is the most an actor waits for its turn."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        chance: Random,
        story: Story,
        disk: Disk,
        network: Network,
        *,
        capacity: Capacity,
        observer: Observer,
        retention: Retention | None = None,
    ) -> None:
        self.id = disk.node_id
        self.name = name
        self.clock = clock
        self.chance = chance
        self.disk = disk
        self.network = network
        self.observer = observer
        self.time = MachineClock(clock, uptime_s=chance.uniform(1.0, 1e6))
        self.turn_s = 0.001
        self.mailbox_max = MAILBOX_MAX
        self.capacity = capacity
        self.files: set[str] = set()
        self.blobs: FileDisk | None = None  # where tasks have files
        self.mix: FileMix | None = None
        self.ghosts: GhostNet | None = None  # where there are any
        self.remembered: dict[str, list[str]] = {}  # as discovery keeps it on disk
        self.link = Link(clock, chance, 0.002, self._to_runner, self._to_core)
        self.actors: dict[str, Mailbox] = {}
        self.runner: RunnerHost | None = None
        self.up = False
        self.busy = False  # a restart is under way
        self.gone = False  # for ever
        self.away = False  # until further notice: nobody starts it
        self.retention = retention
        self.carried: dict[str, Carried] = {}  # by id: what it took along as it began anew
        self.on_carried: Told | None = None
        self.on_rejoin: Callable[[SimNode, str], None] | None = None
        self.disturbed_at = 0.0
        self.doubles = False
        self.on_message: Callable[[object], None] | None = None
        self.story = story
        self.life = 0
        self._leaving_life = -1
        self._attaching = 0
        self.asleep = False
        self._awake_at = 0.0
        self._deferred: deque[Callable[[], None]] = deque()
        switches = disk.switches
        self._lets_pass = None if switches.probes and switches.fence else switches.lets_pass
        self._requests = 0
        self._calls: dict[int, tuple[str, Answer]] = {}

    # ---- what the network needs ----

    @property
    def listening(self) -> bool:
        """Whether it answers who wants to connect: not while it starts, or stands still."""
        return self.up and not self.busy and self.clock.now >= self._awake_at

    def about(self) -> About:
        """What it tells of itself when it connects."""
        return about(self)

    def steady(self) -> float:
        """Seconds by its steady clock."""
        return self.time.steady()

    def receive(self, message: object) -> None:
        """A message of another node, or a notice about a connection to it."""
        kind = type(message)
        if kind is Heartbeat and self.turn_s <= TURN_S_MAX and "membership" in self.actors:
            # Most of all messages: they don't wait for a turn on top of their way.
            self.actors["membership"].hand(message)
        elif kind is LinkUp or kind is LinkDown:
            for actor in ("membership", "replication", "file_store"):
                self.send(actor, message)
        else:
            self.send(RECEIVERS[kind], message)

    # ---- what the hosts need ----

    def tell(self, who: str, what: object) -> None:
        """For the story."""
        self.story.tell(self.clock.now, f"{self.name}.{who}", what)

    def send(self, to: str, message: object) -> None:
        """Cast to an actor, here or as `ACTOR@NODE` elsewhere; lost if it cannot be reached."""
        if self._lets_pass is not None and not self._lets_pass(message):
            return
        actor = self.actors.get(to)
        if actor is not None:
            actor.deliver(message)
            return
        name, at, node = to.partition("@")
        if at:
            assert isinstance(message, PeerMessage)
            if self.ghosts is not None and node in self.ghosts.ghosts:
                self.send("relay", Outward(node, message))
                return
            assert node != self.id, f"{message} is sent to oneself by a detour"
            assert RECEIVERS[type(message)] == name, f"{message} is not for {name}"
            assert message.node == self.id, f"{message} names another sender"
            self.network.send(self.id, node, message)
        elif to == "discovery":
            assert isinstance(message, Remember)
            self.remembered.update(message.members)
        elif to == "relay_host" and self.ghosts is not None:
            self.ghosts.from_node(self, message)
        elif to == "peers":
            if isinstance(message, GhostIds):
                return
            if isinstance(message, Rejoin) and self.on_rejoin is not None:
                self.on_rejoin(self, message.reason)
                return
            # Everybody here is honest, and nobody is away for longer than history is kept.
            raise Violation("nobody is taken for a liar", f"{self.name}: {message}")
        elif to == "runner_host":
            self.link.send(message)  # type: ignore[arg-type]
        elif to == "control" and isinstance(message, QueueStarted):
            self.send("queue", Watching(True))

    def answer(self, request: object, result: object, error: LeoronicError | None) -> None:
        """A call was answered."""
        assert isinstance(request, int)
        known = self._calls.pop(request, None)
        assert known is not None, f"request {request} was answered twice, or never asked"
        known[1](result, error)

    def call(self, to: str, message: object, answer: Answer) -> None:
        """Ask an actor."""
        self._requests += 1
        if to not in self.actors:
            answer(None, ActorGone(f"{to} is not running"))
            return
        self._calls[self._requests] = (to, answer)
        self.send(to, Asked(self._requests, message))

    def when_awake(self, action: Callable[[], None]) -> None:
        """Do `action` now, or when the pause is over: in the order of asking."""
        if self.asleep:
            self._deferred.append(action)
        else:
            action()

    def _wake(self) -> None:
        if self.clock.now < self._awake_at:
            return  # another pause began meanwhile
        while self._deferred and self.clock.now >= self._awake_at:
            self._deferred.popleft()()
        self.asleep = self.clock.now < self._awake_at

    def watch(self, who: str, message: object, effects: list[Effect]) -> None:
        """A machine took a message."""
        self.observer.handled(who, message, effects)
        if self.on_message is not None:
            self.on_message(message)

    @property
    def calls(self) -> int:
        """Calls without an answer."""
        return len(self._calls)

    # ---- starting ----

    def start_core(self) -> None:
        """Start the actors one by one, then attach the runner."""
        self._disturb()
        self.up = self.busy = True
        self.life += 1
        self._start_from("journal")
        Carrier(self, self.on_carried).begin()
        if self.retention is not None:
            Trimmer(self, self.retention).begin()

    @property
    def order(self) -> tuple[str, ...]:
        """Its actors, as they are started."""
        names = ACTORS if self.blobs is None else WITH_FILES
        if self.ghosts is None:
            return names
        place = names.index(GHOSTS_AFTER) + 1
        return (*names[:place], "relay", *names[place:])

    def _start_from(self, name: str) -> None:
        life = self.life

        def start(index: int) -> None:
            if life != self.life:
                return
            if index == len(self.order):
                self.busy = False
                self._attach_later(0.01)
                return
            self._start_actor(self.order[index])
            self.clock.after(self.chance.random() * 0.003 + 0.0001, lambda: start(index + 1))

        start(self.order.index(name))

    def _start_actor(self, name: str) -> None:
        self.observer.actor_starts(name)
        make_actor(self, name)

    def _attach_later(self, at_most_s: float) -> None:
        self._attaching += 1
        number, life = self._attaching, self.life

        def attach() -> None:
            if number == self._attaching and life == self.life and not self.busy:
                self._attach()

        self.clock.after(self.chance.random() * at_most_s, lambda: self.when_awake(attach))

    def _attach(self) -> None:
        if self.link.connected:
            return
        fresh = self.runner is None
        if fresh:
            self.observer.runner_starts()
            self.runner = RunnerHost(
                self.clock, self.time, self.chance, self.link.emit, self.observer, self.tell
            )
        assert self.runner is not None
        self.runner.doubles = self.doubles
        self.link.connect()
        self.send("runner", Attached("runner_host", fresh))

    def _to_runner(self, message: ToRunner) -> None:
        if self.runner is not None:
            self.runner.receive(message)

    def _to_core(self, message: FromRunner) -> None:
        self.send("runner", message)

    # ---- ending ----

    def kill_core(self) -> None:
        """SIGKILL: all actors, their mailboxes and an uncommitted transaction are gone."""
        self._disturb()
        if not self.up:
            return
        self.up = self.busy = False
        self.life += 1
        for name in list(self.actors):
            self._end_actor(name, in_order=False)
        self.link.disconnect()
        self._awake_at = 0.0
        self.asleep = False
        self._deferred.clear()
        self.network.process_ended(self.id)
        self._relay_ends(told=True)

    def lose_power(self) -> None:
        """The machine is gone at once; nobody tells the others."""
        self.network.machine_vanished(self.id)
        self._relay_ends(told=False)
        self.kill_core()
        self.kill_runner()
        self.disk.lose_power()
        self.time.boot()

    def leave(self) -> None:
        """It is stopped in order: tells the others, ends what runs, and goes."""
        if not self.up or self.busy or self.clock.now < self._awake_at:
            return
        self._leaving_life = self.life
        self.send("runner", Abandon())
        self._leave_when_idle(self.clock.now + ABANDON_S)

    def _leave_when_idle(self, until: float) -> None:
        """As `leoronic/life.py`: the others are told once nothing runs, or after a while."""
        if self._leaving_life != self.life or not self.up:
            return
        executor = getattr(self.actors.get("runner"), "machine", None)
        idle = isinstance(executor, ExecutorMachine) and executor.is_idle
        if not idle and self.clock.now < until:
            self.clock.after(ASK_AGAIN_S, lambda: self._leave_when_idle(until))
            return
        self.observer.leaves()
        self.send("membership", Leave())
        self.clock.after(LEAVE_S, self.finish_leaving)

    def finish_leaving(self) -> None:
        """If it has told the others that it stops, it stops."""
        if self._leaving_life == self.life:
            self.kill_core()
            self.kill_runner()

    def kill_runner(self) -> None:
        """SIGKILL: the runner and all that ran are gone."""
        if self.runner is None:
            return
        self.runner.kill()
        self.runner = None
        if self.link.connected:
            self.link.runner_died()
            self.send("runner", Detached("runner_host"))
            self._attach_later(0.3)

    def cut(self) -> None:
        """Core and runner lose sight of each other, and connect anew."""
        if self.link.connected and not self.busy:
            self.link.disconnect()
            self.send("runner", Detached("runner_host"))
            self._attach_later(0.5)

    def crash_actor(self, name: str) -> None:
        """An actor raises: it and those after it are restarted."""
        self._disturb()
        if not self.up or self.busy:
            return
        self.busy = True
        life = self.life
        self._end_actor(name, in_order=False)

        def restart() -> None:
            if life != self.life:
                return
            self.link.disconnect()
            # The connections are of an actor that comes after all of these.
            self.network.break_all(self.id, at_most_s=0.01)
            self._relay_ends(told=True)
            later = self.order[self.order.index(name) + 1 :]
            for other in reversed(later):
                self._end_actor(other, in_order=True)
            self.clock.after(self.chance.random() * 0.002, start)

        def start() -> None:
            if life == self.life:
                self._start_from(name)

        self.clock.after(self.chance.random() * 0.002, lambda: self.when_awake(restart))

    def _relay_ends(self, *, told: bool) -> None:
        if self.ghosts is not None:
            self.ghosts.node_ended(self, told=told)

    def pause(self, for_s: float) -> None:
        """SIGSTOP: the core makes no progress for a while."""
        self._awake_at = max(self._awake_at, self.clock.now + for_s)
        self.asleep = True
        self.clock.at(self._awake_at, self._wake)
        self.disturbed_at = self._awake_at

    def well_for_s(self) -> float:
        """For how long it could do its work undisturbed; 0.0 if it can't."""
        if not self.up or self.busy or self.turn_s > TURN_S_MAX:
            return 0.0
        return max(0.0, self.clock.now - self.disturbed_at)

    def _disturb(self) -> None:
        self.disturbed_at = max(self.disturbed_at, self.clock.now)

    def slow_down(self, turn_s: float) -> None:
        """Every step takes up to so long."""
        self.turn_s = turn_s
        self._disturb()

    def _end_actor(self, name: str, *, in_order: bool) -> None:
        actor = self.actors.get(name)
        if actor is None:
            return
        actor.stop(in_order)
        del self.actors[name]
        gone = [number for number, (to, _) in self._calls.items() if to == name]
        for number in gone:
            _, answer = self._calls.pop(number)
            answer(None, ActorGone(f"{name} ended before it answered"))
