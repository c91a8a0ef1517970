"""How to ask another node something; the actor `questions` carries it there."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any, NamedTuple

from leoronic.actors.peer_commands import PeerCommand
from leoronic.errors import CallTimeout, Unavailable
from leoronic.runtime.ref import ActorRef

ASK_S = 10.0

_tokens = itertools.count(1)


class Question(NamedTuple):
    """Asked of the actor: put `command` to `node`. Answer: an `Answer`. `token` is its name."""

    token: int
    node: str
    command: PeerCommand
    timeout_s: float


class Abandon(NamedTuple):
    """To the actor: nobody waits for the answer to question `token` any more."""

    token: int


class Answer(NamedTuple):
    """The result, and bytes that came with it."""

    result: Any
    blob: bytes


async def ask(
    questions: ActorRef, node: str, command: PeerCommand, timeout_s: float = ASK_S
) -> Answer:
    """Ask another node.

    Raises what it refused with; `Unavailable` if it is gone; `CallTimeout` if it doesn't answer
    within `timeout_s` seconds, what it waits for its turn here included.
    """
    token = next(_tokens)
    try:
        found: Answer = await questions.call(
            Question(token, node, command, timeout_s), timeout_s=timeout_s + 1.0
        )
    except (asyncio.CancelledError, CallTimeout):
        with contextlib.suppress(Unavailable):
            questions.cast_nowait(Abandon(token))
        raise
    return found
