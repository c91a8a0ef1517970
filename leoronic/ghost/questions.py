"""What nodes ask a ghost: what its tasks print, its tags, to drain, to take files, how it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from leoronic import __version__
from leoronic.actors.own_output import (
    CHUNK_BYTES,
    WAIT_S_MAX,
    RunnerOutput,
    check_part,
    read_stream,
)
from leoronic.actors.peer_commands import PlaceFile, ReadPart
from leoronic.core.commands import Drain, Nodes, TagAdd, TagDel, TagList
from leoronic.core.conditions import checked_tag
from leoronic.core.executor_messages import Describe, SetDraining, SetTag
from leoronic.core.ghost_notices import (
    AskLink,
)
from leoronic.core.outbound import Outbound
from leoronic.core.outcome import StreamRef
from leoronic.core.peer import Answered, Ask
from leoronic.core.run import OutputPart
from leoronic.errors import BadRequest, LeoronicError, MailboxFull, Refused, Unavailable
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.wire.codec import to_json

if TYPE_CHECKING:
    from leoronic.actors.placings import Placings

UNDER_WAY_MAX = 256
CALL_S = 60.0

GhostCommand = ReadPart | PlaceFile | TagAdd | TagDel | TagList | Drain | Nodes
_decoder: msgspec.json.Decoder[GhostCommand] = msgspec.json.Decoder(GhostCommand)


class GhostQuestions(Actor):
    """Answers for the ghost `node`, called `name`. `stopping`: whether it will end by itself."""

    def __init__(
        self, node: str, name: str, output_dir: Path, stopping: Callable[[], bool]
    ) -> None:
        self._node = node
        self._name = name
        self._folder = output_dir
        self._stopping = stopping
        self._serving: dict[tuple[str, int], asyncio.Task[None]] = {}

    async def started(self) -> None:
        """Find those who know the answers."""
        self._executor = self.context.find("runner")
        self._link = self.context.find("membership")
        self._running = RunnerOutput(self.context.find("runner_host"))
        self._placings: Placings | None = None

    async def handle(self, message: Any) -> Any:
        """Questions; it asks none itself."""
        if not isinstance(message, Ask):
            return await super().handle(message)
        key = (message.node, message.request)
        if message.cancel:
            if (task := self._serving.get(key)) is not None:
                task.cancel()
        elif len(self._serving) >= UNDER_WAY_MAX:
            busy = MailboxFull(f"{self._name} answers {UNDER_WAY_MAX} questions already")
            self._answer(message, {"error": _error(busy)})
        elif key not in self._serving:
            task = self._serving[key] = self.context.spawn(self._serve(message), "answer")
            task.add_done_callback(lambda _: self._serving.pop(key, None))
        return NO_REPLY

    async def _serve(self, question: Ask) -> None:
        try:
            try:
                command = _decoder.decode(question.command)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise BadRequest(
                    f"{self._name} is a ghost, and does not do this: ask a node"
                ) from error
            result, blob = await self._result(command)
        except LeoronicError as error:
            self._answer(question, {"error": _error(error)})
        else:
            self._answer(question, {"result": result}, blob)

    def _answer(self, question: Ask, body: dict[str, Any], blob: bytes = b"") -> None:
        answered = Answered(
            self._node, request=question.request, body=msgspec.Raw(to_json(body)), blob=blob
        )
        peers = self.context.get("peers")
        if peers is not None:
            # What does not get there is noticed by its time limit.
            with contextlib.suppress(Unavailable):
                peers.cast_nowait(Outbound(question.node, answered))

    async def _result(self, command: GhostCommand) -> tuple[Any, bytes]:
        match command:
            case ReadPart():
                part = await self._read(command)
                told = {"offset": part.offset, "at_end": part.at_end, "known": part.known}
                return told, part.data
            case PlaceFile():
                return await self._place(command), b""
            case TagAdd(tag) | TagDel(tag):
                return await self._tag(tag, on=isinstance(command, TagAdd)), b""
            case TagList():
                about = await self._executor.call(Describe(), timeout_s=CALL_S)
                return {"node": self._name, "tags": about["tags"]}, b""
            case Drain(undo=undo):
                if undo and self._stopping():
                    raise Refused("the ghost is stopping: start it again when it has")
                await self._executor.call(SetDraining(not undo), timeout_s=CALL_S)
                return await self._node_object(), b""
            case Nodes():
                return {"nodes": [await self._node_object()]}, b""

    async def _place(self, command: PlaceFile) -> dict[str, Any]:
        if self._placings is None:
            # What it takes is imported with the first file: an idle ghost is to stay small.
            from leoronic.actors.placings import Placings  # noqa: PLC0415

            self._placings = Placings(self.context, self.context.find("file_store"))
        return await self._placings.place(command)

    async def _tag(self, tag: str, *, on: bool) -> dict[str, Any]:
        try:
            checked_tag(tag)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        tags = await self._executor.call(SetTag(tag, on), timeout_s=CALL_S)
        return {"node": self._name, "tags": tags}

    async def _node_object(self) -> dict[str, Any]:
        """As that of a node (`core/commands.py`), as far as a ghost has it."""
        about = await self._executor.call(Describe(), timeout_s=CALL_S)
        link = await self._link.call(AskLink(), timeout_s=CALL_S)
        return {
            "id": self._node,
            "name": self._name,
            "address": None,
            "state": "draining" if about["draining"] else "up",
            "kind": "ghost",
            **{key: about[key] for key in ("cpus", "memory", "storage", "resources", "free")},
            "tags": about["tags"],
            "running": len(about["running"]),
            "version": __version__,
            "seen_s": 0.0,
            "reason": "",
            "clairvoyant": link["name"],
            "owner_of": [],
            "ready": True,
            # psutil would take 2 MiB for it.
            "load": round(os.getloadavg()[0], 2),
        }

    async def _read(self, question: ReadPart) -> OutputPart:
        check_part(question)
        limit = min(question.limit, CHUNK_BYTES)
        if question.ref is not None:
            return self._kept(question.ref, question.offset, limit)
        wait_s = min(question.wait_s, WAIT_S_MAX)
        where = (question.task, question.attempt, question.stream, question.offset)
        part = await self._running.live(*where, limit, wait_s)
        return part or OutputPart(question.offset, b"", at_end=False, known=False)

    def _kept(self, ref: StreamRef, offset: int, limit: int) -> OutputPart:
        if "/" in ref.file or ref.file.startswith("."):
            raise BadRequest(f"{ref.file!r} is no file of output")
        data = read_stream(self._folder, ref, offset, limit)
        return OutputPart(offset, data, at_end=not data or offset + len(data) >= ref.size)


def _error(error: LeoronicError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "definite": error.definite}
