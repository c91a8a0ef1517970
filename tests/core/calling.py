"""Callers and a target that restarts, with connections that break at any moment, by chance."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from leoronic.core import calls as said
from leoronic.core.callee import CalleeMachine
from leoronic.core.caller import CallerMachine
from leoronic.core.calls import Arrival, Call
from leoronic.core.effects import CancelTimer, Fired, SetTimer


class Connection:
    """Two pipes. The caller may believe it broken while the callee still reads from it."""

    def __init__(self, caller: str, attempt: int) -> None:
        self.caller = caller
        self.attempt = attempt
        self.to_callee: deque[Any] = deque()
        self.to_caller: deque[Any] = deque()
        self.open_at_caller = True
        self.open_at_callee = True


class Incarnation:
    """One life of the target: its machine, and what it carries out."""

    def __init__(self) -> None:
        self.machine = CalleeMachine()
        self.started: list[tuple[str, int]] = []
        self.queue: list[tuple[str, Arrival]] = []
        self.running: list[tuple[str, Arrival]] = []
        self.is_closing = False
        self.current: dict[str, Connection] = {}


class CallingWorld:
    """One target and some callers; `step` lets one thing happen."""

    def __init__(self, seed: int, callers: int = 2, *, is_lease: bool = False) -> None:
        self.random = random.Random(seed)
        self.is_lease = is_lease
        self.now = 0.0
        self.attempt = 1
        self.target: Incarnation | None = Incarnation()
        self.ended = False
        self.lives = [self.target]
        self.machines = {
            f"c{n}": CallerMachine(
                "t", is_lease=is_lease, window=self.random.choice((3, 10, 10_000))
            )
            for n in range(callers)
        }
        self.connections: list[Connection] = []
        self.finding: dict[str, int] = {}
        self.dialling: dict[str, int] = {}
        self.timers: dict[tuple[str, str], float] = {}
        self.submitted: dict[tuple[str, int], int] = {}  # -> retries
        self.results: dict[tuple[str, int], list[Any]] = {}
        self.numbers = 0

    # ---- callers ----

    def submit(self, caller: str, count: int, retries: int = 0) -> None:
        calls = []
        for _ in range(count):
            self.numbers += 1
            self.submitted[caller, self.numbers] = retries
            calls.append(Call(self.numbers, self.numbers, retries))
        self.tell(caller, said.Submitted(calls))

    def tell(self, caller: str, event: Any) -> None:
        for effect in self.machines[caller].handle(event, self.now):
            self.perform(caller, effect)

    def perform(self, caller: str, effect: Any) -> None:  # noqa: PLR0912 - one case each
        match effect:
            case said.Find(after):
                assert caller not in self.finding
                self.finding[caller] = after
            case said.Dial(attempt, _, _):
                self.dialling[caller] = attempt
            case said.Say(calls):
                items = [(call.number, call.seq, call.body) for call in calls]
                self.send(caller, said.Arrived(caller, items))
            case said.Acknowledge(seq):
                self.send(caller, said.Acknowledged(caller, seq))
            case said.TellCancel():
                pass
            case said.Done(results):
                for number, ok, payload in results:
                    assert ok
                    self.over(caller, number, payload)
            case said.Failed(failed, _):
                for number, code in failed:
                    self.over(caller, number, code)
            case said.Returned(calls):
                for call in calls:
                    self.over(caller, call.number, "returned")
            case SetTimer(name, at):
                self.timers[caller, name] = at
            case CancelTimer(name):
                self.timers.pop((caller, name), None)
            case _:
                raise AssertionError(effect)

    def over(self, caller: str, number: int, how: Any) -> None:
        self.results.setdefault((caller, number), []).append(how)

    def send(self, caller: str, message: Any) -> None:
        link = self.link_of(caller)
        assert link is not None
        link.to_callee.append(message)

    def link_of(self, caller: str) -> Connection | None:
        return next((c for c in self.connections if c.caller == caller and c.open_at_caller), None)

    # ---- the target ----

    def hear(self, life: Incarnation, link: Connection | None, event: Any) -> None:
        if link is not None and isinstance(event, said.Arrived):
            life.current[link.caller] = link
        for effect in life.machine.handle(event, self.now):
            match effect:
                case said.Start(caller, calls):
                    life.queue += [(caller, call) for call in calls]
                    if life.is_closing:
                        self.give_all_back(life)
                case said.Answer(caller, results):
                    self.answer(life, caller, said.Answered(self.life_number(life), results))
                case said.Decline(caller, numbers):
                    self.answer(life, caller, said.GivenBack(self.life_number(life), numbers))
                case SetTimer():
                    pass
                case _:
                    raise AssertionError(effect)

    def life_number(self, life: Incarnation) -> int:
        return self.lives.index(life) + 1

    @staticmethod
    def answer(life: Incarnation, caller: str, message: Any) -> None:
        link = life.current.get(caller)
        if link is not None and link.open_at_callee:
            link.to_caller.append(message)

    # ---- what may happen ----

    def step(self, *, calm: bool = False) -> None:
        """One thing, by chance; if `calm`, nothing breaks any more."""
        choices = [self.deliver] * 8 + [self.find, self.dial, self.fire]
        choices += [self.begin, self.begin, self.finish, self.finish]
        if not calm:
            choices += [self.cut, self.give_back]
            if self.random.random() < 0.05:
                choices += [self.restart]
        self.now += 0.01
        self.random.choice(choices)()

    def deliver(self) -> None:
        links = [c for c in self.connections if c.to_callee or c.to_caller]
        if not links:
            return
        link = self.random.choice(links)
        life = self.lives[link.attempt - 1]
        if link.to_callee and self.random.random() < 0.5:
            event = link.to_callee.popleft()
            if link.open_at_callee and life is self.target:
                self.hear(life, link, event)
        elif link.to_caller:
            event = link.to_caller.popleft()
            if link.open_at_caller:
                self.tell(link.caller, event)

    def find(self) -> None:
        if not self.finding:
            return
        caller = self.random.choice(list(self.finding))
        after = self.finding[caller]
        if self.ended:
            event: Any = said.Ended("it has ended")
        elif self.target is None:
            event = said.Restarting(self.attempt, "it was killed")
        elif self.attempt > after:
            event = said.Placed(self.attempt, "n", f"t.{self.attempt}")
        else:
            return
        del self.finding[caller]
        self.tell(caller, event)

    def dial(self) -> None:
        if not self.dialling:
            return
        caller = self.random.choice(list(self.dialling))
        attempt = self.dialling.pop(caller)
        if self.target is None or attempt != self.attempt or self.link_of(caller) is not None:
            self.tell(caller, said.Disconnected("nobody listens"))
            return
        self.connections.append(Connection(caller, attempt))
        self.tell(caller, said.Connected(attempt))

    def fire(self) -> None:
        for (caller, name), at in list(self.timers.items()):
            if at <= self.now:
                del self.timers[caller, name]
                self.tell(caller, Fired(name))

    def finish(self) -> None:
        life = self.target
        if life is None or not life.running:
            return
        caller, call = life.running.pop(self.random.randrange(min(3, len(life.running))))
        result = (call[0], True, f"done {call[0]}")
        self.hear(life, None, said.Finished(caller, [(call[1], result)]))

    def begin(self) -> None:
        life = self.target
        if life is not None and life.queue:
            caller, call = life.queue.pop(0)
            life.started.append((caller, call[0]))
            life.running.append((caller, call))

    def give_back(self) -> None:
        """A worker that waits gives back its queue; an actor does when it is about to end."""
        life = self.target
        if life is None or self.random.random() < 0.8:
            return
        life.is_closing = not self.is_lease
        self.give_all_back(life)

    def give_all_back(self, life: Incarnation) -> None:
        queue, life.queue = life.queue, []
        for caller, call in queue:
            self.hear(life, None, said.Unstarted(caller, [(call[1], call[0])]))

    def cut(self) -> None:
        """A connection breaks; the callee sees it later, or reads what is left in it."""
        links = [c for c in self.connections if c.open_at_caller or c.open_at_callee]
        if not links or self.random.random() < 0.6:
            return
        link = self.random.choice(links)
        if link.open_at_caller:
            link.open_at_caller = False
            self.tell(link.caller, said.Disconnected("cut"))
        else:
            self.close_at_callee(link)

    def close_at_callee(self, link: Connection) -> None:
        link.open_at_callee = False
        life = self.lives[link.attempt - 1]
        if life is self.target and life.current.get(link.caller) is link:
            del life.current[link.caller]
            self.hear(life, None, said.Left(link.caller))

    def restart(self) -> None:
        """The target dies, or comes back."""
        if self.target is None:
            self.attempt += 1
            self.target = Incarnation()
            self.lives.append(self.target)
            return
        self.target = None
        for link in self.connections:
            link.open_at_callee = False
            if link.open_at_caller and self.random.random() < 0.7:
                link.open_at_caller = False
                self.tell(link.caller, said.Disconnected("reset"))

    def heal(self, *, end: bool = False) -> None:
        """Nothing breaks any more: let everything come to its end."""
        if end:
            self.ended = True
            self.target = None
        elif self.target is None:
            self.restart()
        elif self.target.is_closing:
            self.restart()
            self.restart()
        for link in self.connections:
            if not link.open_at_callee or self.lives[link.attempt - 1] is not self.target:
                link.open_at_callee = False
                if link.open_at_caller:
                    link.open_at_caller = False
                    self.tell(link.caller, said.Disconnected("reset"))
        for _ in range(20_000):
            if set(self.results) == set(self.submitted) and not any(
                map(len, self.machines.values())
            ):
                return
            self.step(calm=True)
        raise AssertionError(f"unanswered: {set(self.submitted) - set(self.results)}")
