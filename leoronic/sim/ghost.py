"""One simulated ghost: its link, its journal and its executor, a runner process, and their ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from leoronic.core import executor, ghost_link
from leoronic.core.effects import Attached, Detached, Effect
from leoronic.core.executor import ExecutorMachine
from leoronic.core.ghost_journal import GhostJournal
from leoronic.core.ghost_link import GhostLink
from leoronic.core.ghost_notices import (
    Candidates,
)
from leoronic.core.outbound import Outbound
from leoronic.core.peer import PeerMessage
from leoronic.core.resources import Capacity
from leoronic.core.run import FromRunner, ToRunner
from leoronic.core.view import About
from leoronic.errors import LeoronicError
from leoronic.sim.clock import Clock, MachineClock
from leoronic.sim.ghost_net import GhostNet
from leoronic.sim.hosts import ExecutorHost, MachineHost
from leoronic.sim.link import Link
from leoronic.sim.observer import Observer
from leoronic.sim.runner import RunnerHost
from leoronic.sim.story import Story

MAILBOX_MAX = 2000
FIND_S = 3.0
ATTACH_S = 0.3


class SimGhost:
    """See the module. `addresses` gives where nodes can be called just now."""

    def __init__(
        self,
        name: str,
        id: str,
        clock: Clock,
        chance: Random,
        story: Story,
        net: GhostNet,
        *,
        capacity: Capacity,
        observer: Observer,
        addresses: Callable[[], list[str]],
    ) -> None:
        self.id = id
        self.name = name
        self.clock = clock
        self.chance = chance
        self.story = story
        self.net = net
        self.capacity = capacity
        self.observer = observer
        self.turn_s = 0.001
        self.mailbox_max = MAILBOX_MAX
        self.on_message: Callable[[object], None] | None = None
        self.time = MachineClock(clock, uptime_s=chance.uniform(1.0, 1e6))
        self.actors: dict[str, MachineHost] = {}
        self.runner: RunnerHost | None = None
        self.link = Link(clock, chance, 0.002, self._to_runner, self._to_core)
        self.up = False
        self.asleep = False
        self.disturbed_at = 0.0
        self.wanted = chance.choice(("", "", "1", "7"))
        self._addresses = addresses
        self._awake_at = 0.0
        self._deferred: deque[Callable[[], None]] = deque()
        self._life = 0
        net.join(self)

    # ---- what others need ----

    @property
    def listening(self) -> bool:
        """Whether its core does anything."""
        return self.up

    @property
    def clairvoyant(self) -> str:
        """The id of the node that it is attached to, as it believes."""
        host = self.actors.get("membership")
        return (
            host.machine.clairvoyant
            if host is not None and isinstance(host.machine, GhostLink)
            else ""
        )

    @property
    def executor(self) -> ExecutorMachine | None:
        """What runs on it, as its core knows."""
        host = self.actors.get("runner")
        return (
            host.machine if host is not None and isinstance(host.machine, ExecutorMachine) else None
        )

    def well_for_s(self) -> float:
        """For how long it could do its work undisturbed."""
        if not self.up or self.id in self.net.clogged or self.asleep:
            return 0.0
        since = max(self.disturbed_at, self.net.disturbed_at.get(self.id, 0.0))
        return max(0.0, self.clock.now - since)

    def tell(self, who: str, what: object) -> None:
        """For the story."""
        self.story.tell(self.clock.now, f"{self.name}.{who}", what)

    def send(self, to: str, message: object) -> None:
        """Cast to an actor of its own, or say it to the node in `ACTOR@NODE`."""
        actor = self.actors.get(to)
        name, at, node = to.partition("@")
        if actor is not None:
            actor.deliver(message)
        elif at:
            assert isinstance(message, PeerMessage), f"{name}@{node} gets {message}"
            self.send("membership", Outbound(node, message))
        elif to == "wire":
            self.net.from_ghost(self, message)
        elif to == "runner_host":
            self.link.send(message)  # type: ignore[arg-type]
        else:
            assert to in ("file_store", "membership", "journal", "runner"), f"{to} gets {message}"

    def answer(self, request: object, result: object, error: LeoronicError | None) -> None:
        """Nobody asks anything here."""
        raise AssertionError(f"nobody asked {request}: {result} {error}")

    def watch(self, who: str, message: object, effects: list[Effect]) -> None:
        """A machine took a message."""
        self.observer.handled(who, message, effects)

    def when_awake(self, action: Callable[[], None]) -> None:
        """Do `action` now, or when the pause is over."""
        if self.asleep:
            self._deferred.append(action)
        else:
            action()

    # ---- its life ----

    def start_core(self) -> None:
        """Its core begins a life."""
        if self.up:
            return
        self._disturb()
        self.up = True
        self._life += 1
        wall, steady = self.time.wall, self.time.steady
        about = About(self.name, "sim", int(self.clock.now * 1_000_000) + 1, capacity=self.capacity)
        self.actors["journal"] = MachineHost(self, "journal", GhostJournal(self.id), wall)
        link = MachineHost(self, "membership", GhostLink(self.id, about, self.wanted), steady)
        self.actors["membership"] = link
        link.take(ghost_link.Start())
        executing = ExecutorMachine(self.id, self.name, self.capacity, ("fixed",), ghost=True)
        host = ExecutorHost(self, executing, wall, node_id=self.id, ask=self.link.ask, files=set())
        self.actors["runner"] = host
        host.take(executor.Start())
        self._find(self._life)
        self._attach_later()

    def _find(self, life: int) -> None:
        if life == self._life and self.up:
            self.send("membership", Candidates(self._addresses()))
            self.clock.after(FIND_S, lambda: self.when_awake(lambda: self._find(life)))

    def _attach_later(self) -> None:
        life = self._life

        def attach() -> None:
            if life == self._life and self.up and not self.link.connected:
                self._attach()

        self.clock.after(self.chance.random() * ATTACH_S, lambda: self.when_awake(attach))

    def _attach(self) -> None:
        fresh = self.runner is None
        if self.runner is None:
            self.observer.runner_starts()
            self.runner = RunnerHost(
                self.clock, self.time, self.chance, self.link.emit, self.observer, self.tell
            )
        self.link.connect()
        self.send("runner", Attached("runner_host", fresh))

    def _to_runner(self, message: ToRunner) -> None:
        if self.runner is not None:
            self.runner.receive(message)

    def _to_core(self, message: FromRunner) -> None:
        self.send("runner", message)

    # ---- faults ----

    def kill_core(self, *, told: bool = True) -> None:
        """SIGKILL; the runner lives on."""
        self._disturb()
        if not self.up:
            return
        self.up = False
        self._life += 1
        for actor in self.actors.values():
            actor.stop(in_order=False)
        self.actors.clear()
        self.link.disconnect()
        self.asleep, self._awake_at = False, 0.0
        self._deferred.clear()
        self.net.ghost_ended(self, told=told)

    def kill_runner(self) -> None:
        """SIGKILL: the runner and all that ran are gone."""
        if self.runner is None:
            return
        self.runner.kill()
        self.runner = None
        if self.link.connected:
            self.link.runner_died()
            self.send("runner", Detached("runner_host"))
        if self.up:
            self._attach_later()

    def lose_power(self) -> None:
        """The machine is gone at once; nobody tells its clairvoyant."""
        self.kill_core(told=False)
        self.kill_runner()
        self.time.boot()

    def pause(self, for_s: float) -> None:
        """SIGSTOP: the core makes no progress for a while."""
        self._disturb()
        self._awake_at = max(self._awake_at, self.clock.now + for_s)
        self.disturbed_at = self._awake_at
        self.asleep = True
        self.clock.at(self._awake_at, self._wake)

    def _wake(self) -> None:
        if self.clock.now < self._awake_at:
            return
        while self._deferred and self.clock.now >= self._awake_at:
            self._deferred.popleft()()
        self.asleep = self.clock.now < self._awake_at

    def _disturb(self) -> None:
        self.disturbed_at = max(self.disturbed_at, self.clock.now)
