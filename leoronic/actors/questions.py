"""Questions to other nodes, and the answers to theirs.

A question is numbered, has a time limit, and fails at once when its node is gone; one that nobody
waits for any more is taken back. At most `UNDER_WAY_MAX` are under way with a node in each
direction, some of that kept free of those that wait patiently for output. There are no streams:
whoever wants more asks again, so nobody is sent more than was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from leoronic.actors.asking import Abandon, Answer, Question
from leoronic.actors.node_answers import NodeInfo
from leoronic.actors.nodes import Nodes
from leoronic.actors.peer_commands import PeerCommand, ReadPart
from leoronic.actors.peers_messages import NotAsked
from leoronic.actors.surface import make_surface
from leoronic.actors.views import error_object
from leoronic.core.outbound import Outbound
from leoronic.core.peer import Answered, Ask, LinkDown, LinkUp, PeerMessage
from leoronic.core.view import GhostMember, View
from leoronic.errors import (
    BadRequest,
    CallTimeout,
    LeoronicError,
    MailboxFull,
    Unavailable,
    from_code,
)
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.ref import Call
from leoronic.wire.codec import to_json

UNDER_WAY_MAX = 64
PATIENT_MAX = 48
WAITING_MAX = 1024
# Large answers travel on the connection that everything else needs: so many of a node at once.
LARGE_MAX = 2
LARGE_BYTES = 64 * 1024

# What can be wrong with JSON that came raw: its text, too, and how deep it nests.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_decoder: msgspec.json.Decoder[PeerCommand] = msgspec.json.Decoder(PeerCommand)


class _Pending:
    """A question that waits for its turn, or for its answer."""

    __slots__ = ("call", "number", "question", "timer")

    def __init__(self, question: Question, call: Call, number: int) -> None:
        self.question = question
        self.call = call
        self.number = number
        self.timer: asyncio.TimerHandle

    @property
    def kind(self) -> str:
        command = self.question.command
        if not isinstance(command, ReadPart):
            return "short"
        return "patient" if command.wait_s else "large" if command.limit > LARGE_BYTES else "short"


class _Lane:
    """The questions to one node: how many of a kind are under way, and which wait, by kind."""

    def __init__(self) -> None:
        self.under_way = {"short": 0, "patient": 0, "large": 0}
        self.waiting: dict[str, deque[_Pending]] = {kind: deque() for kind in self.under_way}

    def next(self) -> _Pending | None:
        """Take the next whose turn it is."""
        if sum(self.under_way.values()) >= UNDER_WAY_MAX:
            return None
        for kind, most in (
            ("short", UNDER_WAY_MAX),
            ("large", LARGE_MAX),
            ("patient", PATIENT_MAX),
        ):
            if self.waiting[kind] and self.under_way[kind] < most:
                self.under_way[kind] += 1
                return self.waiting[kind].popleft()
        return None

    @property
    def length(self) -> int:
        """How many wait."""
        return sum(map(len, self.waiting.values()))


class QuestionsActor(Actor):
    """Carries questions to other nodes and answers theirs, by `Answers`, for this node alone."""

    def __init__(self, output_dir: Path, info: NodeInfo, nodes: Nodes) -> None:
        self._output_dir = output_dir
        self._info = info
        self._nodes = nodes
        # An answer to an earlier life must not be taken for one to this.
        self._numbers = itertools.count(time.time_ns() // 1000)
        self._pending: dict[int, _Pending] = {}
        self._by_token: dict[int, _Pending] = {}
        self._lanes: dict[str, _Lane] = {}
        self._serving: dict[str, dict[int, asyncio.Task[None]]] = {}
        self._ways: dict[str, tuple[str, bool]] = {}

    async def started(self) -> None:
        """Find those who know the answers."""
        # Without a way to ask others: what came from another node goes no further.
        surface = make_surface(self.context, self._info, self._nodes, self._output_dir, None)
        self._answers, self._output = surface.answers, surface.local

    async def handle(self, message: Any) -> Any:
        """Questions from here, questions and answers from there, and who is gone."""
        match message:
            case Question():
                assert self.context.request is not None
                self._ask(message, self.context.request)
            case Abandon(token):
                if (pending := self._by_token.get(token)) is not None:
                    self._end(pending)
            case Answered():
                self._on_answer(message)
            case Ask():
                self._on_ask(message)
            case LinkDown(node, reason):
                why = f" ({reason})" if reason else ""
                self._gone(node, f"the connection to {self._nodes.name(node)} broke{why}")
            case NotAsked(node):
                name = self._nodes.name(node)
                self._gone(node, f"this node has no connection to {name} now: ask on another one")
            case LinkUp():
                pass
            case View():
                for node in {*self._lanes, *self._serving}:
                    if why := self._nodes.why_gone(node) or self._why_lost(node, message):
                        self._gone(node, why)
                self._ways = {ghost: _way(member) for ghost, member in message.ghosts.items()}
            case _:
                return await super().handle(message)
        return NO_REPLY

    def _why_lost(self, ghost: str, view: View) -> str:
        """What was asked of a ghost by way of a node that has it no more is not answered."""
        before, member = self._ways.get(ghost), view.ghosts.get(ghost)
        if before is None or member is None or not before[1] or _way(member) == before:
            return ""
        return f"{self._nodes.name(ghost)} lost {self._nodes.name(before[0])} meanwhile: ask again"

    # ---- asking ----

    def _ask(self, question: Question, call: Call) -> None:
        self._nodes.check_there(question.node)
        lane = self._lanes.setdefault(question.node, _Lane())
        if lane.length >= WAITING_MAX:
            name = self._nodes.name(question.node)
            raise MailboxFull(f"{WAITING_MAX} questions wait for {name} already: try again later")
        pending = _Pending(question, call, next(self._numbers))
        pending.timer = self.context.call_after(question.timeout_s, partial(self._late, pending))
        self._pending[pending.number] = pending
        self._by_token[question.token] = pending
        lane.waiting[pending.kind].append(pending)
        self._send_next(question.node)

    def _send_next(self, node: str) -> None:
        lane = self._lanes.get(node)
        while lane is not None and (pending := lane.next()) is not None:
            command = msgspec.Raw(msgspec.json.encode(pending.question.command))
            self._send(node, Ask(self._nodes.me, request=pending.number, command=command))
        if lane is not None and not lane.length and not any(lane.under_way.values()):
            del self._lanes[node]

    def _late(self, pending: _Pending) -> None:
        name, limit_s = self._nodes.name(pending.question.node), pending.question.timeout_s
        self._end(pending, CallTimeout(f"{name} did not answer within {limit_s:g} s"))

    def _end(self, pending: _Pending, error: LeoronicError | None = None) -> None:
        """Nobody waits for it (any more), and that node need not answer."""
        if self._forget(pending):
            me = self._nodes.me
            self._send(pending.question.node, Ask(me, request=pending.number, cancel=True))
        if error is not None:
            self.context.fail(pending.call, error)
        self._send_next(pending.question.node)

    def _forget(self, pending: _Pending) -> bool:
        """Take it out everywhere. Whether it was under way."""
        pending.timer.cancel()
        self._pending.pop(pending.number, None)
        self._by_token.pop(pending.question.token, None)
        lane = self._lanes.get(pending.question.node)
        if lane is None:
            return False
        if pending in lane.waiting[pending.kind]:
            lane.waiting[pending.kind].remove(pending)
            return False
        lane.under_way[pending.kind] -= 1
        return True

    def _on_answer(self, answer: Answered) -> None:
        pending = self._pending.get(answer.request)
        if pending is None or pending.question.node != answer.node:
            return  # It was given up.
        self._forget(pending)
        try:
            body: dict[str, Any] = msgspec.json.decode(answer.body, type=dict[str, Any])
        except UNREADABLE:
            body = {}
        if "result" in body:
            self.context.reply(pending.call, Answer(body["result"], answer.blob))
        else:
            self.context.fail(pending.call, self._error(answer.node, body.get("error")))
        self._send_next(answer.node)

    def _error(self, node: str, told: Any) -> LeoronicError:
        if not isinstance(told, dict):
            return Unavailable(f"{self._nodes.name(node)} gave no answer that can be read")
        return from_code(str(told.get("code", "")), str(told.get("message", "")))

    def _gone(self, node: str, why: str) -> None:
        """Whatever was asked of it, or by it, ends."""
        for pending in [p for p in self._pending.values() if p.question.node == node]:
            self._forget(pending)
            self.context.fail(pending.call, Unavailable(why))
        self._lanes.pop(node, None)
        for task in self._serving.pop(node, {}).values():
            task.cancel()

    def _send(self, node: str, message: PeerMessage) -> None:
        # What does not get there is noticed by its time limit.
        peers = self.context.get("peers")
        if peers is not None:
            with contextlib.suppress(Unavailable):
                peers.cast_nowait(Outbound(node, message))

    # ---- answering ----

    def _on_ask(self, message: Ask) -> None:
        serving = self._serving.setdefault(message.node, {})
        if message.cancel:
            if (task := serving.get(message.request)) is not None:
                task.cancel()
        elif len(serving) >= UNDER_WAY_MAX:
            busy = MailboxFull(f"{self._info.name} answers {UNDER_WAY_MAX} questions already")
            self._answer(message, {"error": error_object(busy)})
        elif message.request not in serving:
            task = self.context.spawn(self._serve(message), "answer")
            serving[message.request] = task
            task.add_done_callback(lambda _: serving.pop(message.request))

    async def _serve(self, message: Ask) -> None:
        try:
            try:
                command = _decoder.decode(message.command)
            except UNREADABLE as error:
                raise BadRequest(f"{self._info.name} does not answer this: {error}") from error
            if isinstance(command, ReadPart):
                result, blob = await self._output.answer(command)
            else:
                result, blob = await self._answers.here(command), b""
        except LeoronicError as error:
            self._answer(message, {"error": error_object(error)})
        else:
            self._answer(message, {"result": result}, blob)

    def _answer(self, question: Ask, body: dict[str, Any], blob: bytes = b"") -> None:
        text = msgspec.Raw(to_json(body))
        self._send(
            question.node,
            Answered(self._nodes.me, request=question.request, body=text, blob=blob),
        )


def _way(ghost: GhostMember) -> tuple[str, bool]:
    """By which node it is asked, and whether it can be."""
    return ghost.clairvoyant, ghost.linked
