"""One call inside the process that carries it out, and what is known while it runs."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from leoronic.remote.errors import Failure
from leoronic.remote.serial import Payload

STREAM = -1
"""As `n_returns`: a generator, whose items travel one by one."""


class Running(NamedTuple):
    """The call that the code which asks belongs to. `caller` is a party id."""

    number: int
    caller: str
    name: str
    label: str


class Job:
    """A call from its arrival to its end.

    It is *claimed* once: by whoever runs it, gives it back or cancels it. `tops` are the values of
    the arguments that are references, as (ok, payload or failure).
    """

    # Of nearly all calls these stay as they are.
    tops: list[tuple[bool, Any]] | None = None
    is_ready = True
    is_cancelled = False
    cancel: Callable[[], None] | None = None  # how what runs it can be made to stop
    taken = 0  # how many of a generator's items
    on_taken: Callable[[], None] | None = None
    items: dict[int, Payload] | None = None  # of those, what was sent and not taken, by index

    def __init__(
        self,
        caller: str,
        number: int,
        seq: int,
        name: str,
        payload: Payload,
        n_returns: int,
        flags: dict[str, Any] | None,
    ) -> None:
        self.caller = caller
        self.number = number
        self.seq = seq
        self.name = name
        self.payload = payload
        self.n_returns = n_returns
        self.flags = flags
        self._claims = [None]

    def claim(self) -> bool:
        """True for the first who asks, from whatever thread."""
        try:
            self._claims.pop()  # One operation of the interpreter, so one thread succeeds.
        except IndexError:
            return False
        return True

    @property
    def is_claimed(self) -> bool:
        """Whether somebody runs it, or it is over."""
        return not self._claims

    @property
    def label(self) -> str:
        """What people call it."""
        return (self.flags or {}).get("label") or self.name


running_job: contextvars.ContextVar[Job | None] = contextvars.ContextVar("running", default=None)
"""Set by what runs a call, for its thread or asyncio task."""


def current() -> Running | None:
    """What runs in this thread or asyncio task; None outside of calls."""
    job = running_job.get()
    return Running(job.number, job.caller, job.name, job.label) if job is not None else None


Outcome = tuple[bool, Any, Sequence[Any]]
"""How a call ended: (True, payload of RESULTS) or (False, failure); references that it holds."""


def failed(failure: Failure) -> Outcome:
    """A call that ended with a failure."""
    return False, failure, ()
