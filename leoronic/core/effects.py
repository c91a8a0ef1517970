"""What a pure machine says it wants done, and what the world tells it.

A machine takes `(message, now)` and returns effects; a host performs them. Times are seconds on
whatever clock the host passes as `now`. The same machine runs in an actor and in the simulator.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from leoronic.errors import LeoronicError


class Send(NamedTuple):
    """Cast `message` to the actor registered as `to`, or as `ACTOR@NODE` on another node."""

    to: str
    message: object


class Reply(NamedTuple):
    """Answer the call that arrived as `Asked(request, ...)`; it may come much later."""

    request: object
    result: object


class Fail(NamedTuple):
    """Answer the call `request` with an error."""

    request: object
    error: LeoronicError


class SetTimer(NamedTuple):
    """Deliver `Fired(name)` at time `at` (seconds); setting it again replaces it."""

    name: str
    at: float


class CancelTimer(NamedTuple):
    """Forget the timer `name`; harmless if there is none."""

    name: str


class Log(NamedTuple):
    """Write one log line. `level` is debug, info, warning or error."""

    event: str
    level: str
    fields: dict[str, object]


Effect = Send | Reply | Fail | SetTimer | CancelTimer | Log


class Asked(NamedTuple):
    """A call: `message` came from someone who waits for `Reply` or `Fail` with `request`."""

    request: object
    message: object


class Fired(NamedTuple):
    """The timer `name` is due."""

    name: str


class Attached(NamedTuple):
    """The runtime tells the owner of a hosted actor: its process can be reached (again).

    `fresh` if it was just started and so knows nothing; else it has lived on, and what it emitted
    meanwhile is lost: ask it.
    """

    name: str
    fresh: bool


class Detached(NamedTuple):
    """The runtime tells the owner of a hosted actor: its process cannot be reached now."""

    name: str


class Machine(Protocol):
    """A decider without clock, chance or sockets: all that it knows came in as messages."""

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message (a plain one, or one of those above); return what is to be done."""
        ...
