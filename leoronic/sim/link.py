"""The connection between core and runner: frames in order, late, and lost when it breaks.

Every message goes through the real codec both ways.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from leoronic.core.run import FromRunner, Inventory, TakeInventory, ToRunner
from leoronic.sim.clock import Clock
from leoronic.wire.codec import Codec

_to_runner: Codec[ToRunner] = Codec(ToRunner)
_from_runner: Codec[FromRunner] = Codec(FromRunner)


class Link:
    """`to_runner` and `to_core` are told what arrives; `delay_s` is the most a frame takes."""

    def __init__(
        self,
        clock: Clock,
        chance: Random,
        delay_s: float,
        to_runner: Callable[[ToRunner], None],
        to_core: Callable[[FromRunner], None],
    ) -> None:
        self.connected = False
        self.delay_s = delay_s
        self._clock = clock
        self._chance = chance
        self._to_runner = to_runner
        self._to_core = to_core
        self._life = 0
        self._down: deque[bytes] = deque()  # towards the runner
        self._up: deque[bytes] = deque()
        self._down_at = self._up_at = 0.0

    def connect(self) -> None:
        """From now on frames pass."""
        assert not self.connected
        self.connected = True
        self._life += 1

    def disconnect(self) -> None:
        """What the core wrote last may still be read by the runner, up to some point."""
        if not self.connected:
            return
        self.connected = False
        self._life += 1
        arrives = self._chance.randint(0, len(self._down))
        down = [self._down.popleft() for _ in range(arrives)]
        self._down.clear()
        self._up.clear()
        for frame in down:
            self._to_runner(_to_runner.decode(frame))

    def runner_died(self) -> None:
        """Nobody reads what was written."""
        self.connected = False
        self._life += 1
        self._down.clear()
        self._up.clear()

    def send(self, message: ToRunner) -> None:
        """From the core; dropped while there is no connection, as any cast."""
        if not self.connected:
            return
        self._down.append(_to_runner.encode(message))
        self._down_at = max(self._down_at, self._arrival())
        life = self._life
        self._clock.at(self._down_at, lambda: self._arrive_down(life))

    def emit(self, message: FromRunner) -> None:
        """From the runner; dropped while there is no connection."""
        if not self.connected:
            return
        frame = _from_runner.encode(message)
        life = self._life
        if isinstance(message, Inventory):
            # It answers a call: whoever asked wakes up a little later than a mailbox is filled.
            self._up_at = max(self._up_at, self._arrival())
            at = self._up_at + self._chance.random() * 0.001
            self._clock.at(at, lambda: self._answer(life, frame))
            return
        self._up.append(frame)
        self._up_at = max(self._up_at, self._arrival())
        self._clock.at(self._up_at, lambda: self._arrive_up(life))

    def ask(self) -> None:
        """From the core: what does the runner hold?"""
        self.send(TakeInventory())

    def _arrival(self) -> float:
        return self._clock.now + self._chance.random() * self.delay_s

    def _arrive_down(self, life: int) -> None:
        if life == self._life:
            self._to_runner(_to_runner.decode(self._down.popleft()))

    def _arrive_up(self, life: int) -> None:
        if life == self._life:
            self._to_core(_from_runner.decode(self._up.popleft()))

    def _answer(self, life: int, frame: bytes) -> None:
        if life == self._life:
            self._to_core(_from_runner.decode(frame))
