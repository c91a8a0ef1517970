"""Calls between parties: what the machines of `caller.py` and `callee.py` hear and answer.

Rules, for the calls of one caller to one target (an actor, or a worker that was leased):
- They are numbered 1, 2, 3... for each incarnation (attempt) of the target, and begin there in that
  order.
- One that arrives again is not carried out again: while it runs it is ignored, afterwards it is
  answered from memory, until the caller has acknowledged the answer.
- After a lost connection the caller repeats what is unanswered, if it finds the same incarnation.
  If it finds another one, what was sent may have been carried out: it fails, or is sent again under
  a new number if its retries allow. What was never sent, or was given back, is sent as it is.
So within an incarnation a call is carried out at most once, and over all of them at most
`retries + 1` times.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Result = tuple[int, bool, object]
"""(number of the call, whether it succeeded, payload or failure)."""

CANCELLED = "task_cancelled"
ACTOR_DIED = "actor_died"
ACTOR_UNAVAILABLE = "actor_unavailable"
WORKER_CRASHED = "worker_crashed"


class Call:
    """One call on its way. `body` is what the machines do not look into.

    `retries`: how often it may begin once more, -1 for ever. `seq` is 0 unless it was sent; `turn`
    is its place among all calls of its machine. `size_bytes` need only be given if it is large.
    """

    __slots__ = ("body", "is_cancelled", "number", "retries", "seq", "size_bytes", "turn")

    def __init__(self, number: int, body: object, retries: int = 0, size_bytes: int = 0) -> None:
        self.number = number
        self.body = body
        self.retries = retries
        self.size_bytes = size_bytes
        self.seq = 0
        self.turn = 0
        self.is_cancelled = False

    def __repr__(self) -> str:
        return f"Call({self.number}, seq={self.seq}, retries={self.retries})"


# --- what the caller's machine hears ---


class Submitted(NamedTuple):
    """These calls shall be made, in this order."""

    calls: list[Call]


class Placed(NamedTuple):
    """The target runs there, in this incarnation."""

    attempt: int
    node: str
    party: str


class Restarting(NamedTuple):
    """The target does not run now, and will again; `attempt` is the last one that has ended."""

    attempt: int
    reason: str


class Ended(NamedTuple):
    """The target is gone for good."""

    reason: str


class Connected(NamedTuple):
    """There is a connection with this incarnation."""

    attempt: int


class Disconnected(NamedTuple):
    """There is none any more, or dialling failed, or nobody could say where the target is."""

    reason: str


class Answered(NamedTuple):
    """Results from this incarnation. `is_heavy`: it shall not have to remember them for long."""

    attempt: int
    results: list[Result]
    is_heavy: bool = False


class GivenBack(NamedTuple):
    """These calls were not begun, and will not be by this incarnation."""

    attempt: int
    numbers: list[int]


class Cancelled(NamedTuple):
    """This call is not wanted any more."""

    number: int
    is_forced: bool = False


# --- what the caller's machine wants ---


class Find(NamedTuple):
    """Tell `Placed`, `Restarting` or `Ended`; if it restarts, wait for an attempt after this."""

    after_attempt: int


class Dial(NamedTuple):
    """Connect to that party; tell `Connected` or `Disconnected`."""

    attempt: int
    node: str
    party: str


class Say(NamedTuple):
    """Send these calls, each under its `number` and `seq`."""

    calls: list[Call]


class Acknowledge(NamedTuple):
    """Tell the target that all results up to this one are known here."""

    seq: int


class TellCancel(NamedTuple):
    """Ask the target to cancel this call."""

    number: int
    is_forced: bool


class Done(NamedTuple):
    """These calls are over."""

    results: list[Result]


class Failed(NamedTuple):
    """These calls are over without an answer, and why: (number, code of the error)."""

    calls: list[tuple[int, str]]
    reason: str


class Returned(NamedTuple):
    """These calls of a lease have not begun: whoever made them may send them elsewhere."""

    calls: list[Call]


# --- what the callee's machine hears ---


Arrival = tuple[Any, ...]
"""One call as it arrives: (number, seq, and what the machines do not look into)."""


class Arrived(NamedTuple):
    """Calls of this caller, in the order in which it sent them."""

    caller: str
    calls: list[Arrival]


class Acknowledged(NamedTuple):
    """This caller knows all results up to this one."""

    caller: str
    seq: int


class Finished(NamedTuple):
    """These calls of this caller are over: (seq, result)."""

    caller: str
    results: list[tuple[int, Result]]


class Unstarted(NamedTuple):
    """These calls of this caller will not begin here: (seq, number)."""

    caller: str
    calls: list[tuple[int, int]]


class Left(NamedTuple):
    """There is no connection with this caller any more."""

    caller: str


# --- what the callee's machine wants ---


class Start(NamedTuple):
    """Begin these calls, in this order."""

    caller: str
    calls: list[Arrival]


class Answer(NamedTuple):
    """Send these results; they are lost if there is no connection."""

    caller: str
    results: list[Result]


class Decline(NamedTuple):
    """Tell that these calls were not begun."""

    caller: str
    numbers: list[int]


class Forgotten(NamedTuple):
    """This caller was given up: nothing need be kept for it."""

    caller: str


class Refuse(NamedTuple):
    """Fail these calls: what this caller had sent before is not remembered any more."""

    caller: str
    numbers: list[int]
    reason: str
