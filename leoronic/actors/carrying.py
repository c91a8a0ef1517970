"""Beginning anew: the old journal is set aside, and what this node alone had accepted is carried.

The order to begin anew is a file, so that it survives the end of the core that found it out; the
tasks to carry are another, until the cluster has them. Each step can be done twice.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec

from leoronic.actors.nodes import Nodes
from leoronic.core.queue_messages import SubmitSpecs
from leoronic.core.spec import TaskSpec
from leoronic.durable import replace_file
from leoronic.errors import LeoronicError, Unavailable
from leoronic.journal.database import set_aside
from leoronic.journal.leaving import Carried, own_live_specs
from leoronic.runtime.actor import Actor

SLICE_TASKS = 500
LEFT_TOLD_MAX = 20
LOOK_S = 1.0
CALL_S = 60.0

_ORDER = "begin-anew"
_CARRIED = "carried.json"
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[list[Carried]] = msgspec.json.Decoder(list[Carried])
_old_decoder: msgspec.json.Decoder[list[TaskSpec]] = msgspec.json.Decoder(list[TaskSpec])


def note_begin_anew(state_dir: Path, reason: str) -> None:
    """The next life of the core must begin anew."""
    replace_file(state_dir / _ORDER, reason.encode())


def begin_anew(state_dir: Path, since: float) -> str:
    """Do so, if it was ordered: before the journal is opened. What happened, as a sentence, or ''.

    `since`: tasks that were submitted before (seconds since the epoch) are not carried.
    """
    order = state_dir / _ORDER
    try:
        reason = order.read_text()
    except FileNotFoundError:
        return ""
    database = state_dir / "leoronic.db"
    told = f"{reason}; it takes a new identity"
    if database.exists():
        carried = state_dir / _CARRIED
        known = _read(carried) if carried.exists() else []
        # What is read a second time, as a power cut came in between, replaces what it was.
        found, left = own_live_specs(database, since)
        tasks = {one.spec.id: one for one in [*known, *found]}
        # Only once they are safe elsewhere may the journal go.
        replace_file(carried, _encoder.encode(list(tasks.values())))
        aside = set_aside(database, "earlier").name
        told = f"{told}, its old journal is kept as {aside}, {len(tasks)} tasks are carried over"
        if left:
            # Nobody would know any more that a person must look at them first.
            some = ", ".join(left[:LEFT_TOLD_MAX])
            told += f", {len(left)} that were held or must not run twice are left there: {some}"
    # It begins as a new node does: nothing is missing.
    (state_dir / "node").unlink(missing_ok=True)
    order.unlink()
    return told


def _read(carried: Path) -> list[Carried]:
    text = carried.read_bytes()
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError:  # of a version that did not say when they were accepted
        at = carried.stat().st_mtime
        return [Carried(spec, at) for spec in _old_decoder.decode(text)]


class CarryingActor(Actor):
    """Submits what was carried, once this node has caught up with the others.

    Not what was accepted more than `retention_s` ago: others may have done and forgotten it.
    """

    def __init__(self, state_dir: Path, nodes: Nodes, retention_s: float) -> None:
        self._path = state_dir / _CARRIED
        self._nodes = nodes
        self._retention_s = retention_s

    async def started(self) -> None:
        """Begin, if there is anything."""
        if self._path.exists():
            self.context.spawn(self._carry(), "carry")

    async def handle(self, message: Any) -> Any:
        """Nothing is asked of it."""
        return await super().handle(message)

    async def _carry(self) -> None:
        tasks = _read(self._path)
        while True:
            if self._is_ready():
                break
            await asyncio.sleep(LOOK_S)
        for start in range(0, len(tasks), SLICE_TASKS):
            await self._submit(tasks[start : start + SLICE_TASKS])
        self._path.unlink()
        self.context.log.info("tasks carried over", count=len(tasks))

    def _is_ready(self) -> bool:
        member = self._nodes.view.members.get(self._nodes.me)
        return member is not None and member.ready

    async def _submit(self, tasks: list[Carried]) -> None:
        """All of a slice, or if that is refused, one by one: a task may depend on a forgotten one.

        Raises nothing: what is refused is told, and its journal is still there.
        """
        queue = self.context.find("queue")
        while tasks := self._young_enough(tasks):
            specs = [one.spec for one in tasks]
            try:
                await queue.call(SubmitSpecs(specs, "carried"), timeout_s=CALL_S)
            except Unavailable:
                await asyncio.sleep(LOOK_S)
                continue
            except LeoronicError as error:
                if len(tasks) == 1:
                    self._tell(tasks[0], error.message)
                    return
                for one in tasks:
                    await self._submit([one])
            return

    def _young_enough(self, tasks: list[Carried]) -> list[Carried]:
        since = time.time() - self._retention_s
        for one in tasks:
            if one.at < since:
                self._tell(one, "it was accepted so long ago that others may have forgotten it")
        return [one for one in tasks if one.at >= since]

    def _tell(self, one: Carried, reason: str) -> None:
        self.context.log.error("task not carried over", task=one.spec.id, reason=reason)
