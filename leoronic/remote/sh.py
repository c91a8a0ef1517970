"""`sh`: a bash task as a call.

    counted = leoronic.sh("wc -l < access.log", cpus=2, files=["access.log"])
    print(int(leoronic.get(counted)))

It is a task like any other: durable, seen by `leoronic list`, run again as its options say, and it
goes on if the process that called it ends. What it returns is what it printed.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from leoronic.client.asking import tasks_blob
from leoronic.client.outcomes import exit_code, how_it_ended
from leoronic.core import commands
from leoronic.core.spec import TaskSpec
from leoronic.errors import BadRequest, LeoronicError
from leoronic.remote import context, serial
from leoronic.remote.context import Context
from leoronic.remote.errors import TaskError, failure_of
from leoronic.remote.refs import INDEX_BITS, ObjectRef
from leoronic.remote.sh_door import ShDoor

OUTPUT_BYTES_MAX = 64 * 1024 * 1024
TAIL_BYTES = 16 * 1024
TAIL_LINES = 10
KIND_LABEL, JOB_LABEL = "leoronic.kind", "leoronic.job"

# A call has one command, and one output; the rest is the node's own business.
_NOT_OPTIONS = {
    "command", "count", "items", "only", "redo_of", "node", "cache_key", "cached_from",
}  # fmt: skip
OPTIONS = frozenset(TaskSpec.__struct_fields__) - _NOT_OPTIONS | {"text", "cwd", "output_bytes_max"}


class ShError(LeoronicError):
    """The task did not succeed; the message has the last lines that it printed.

    `exit_code` as a shell has it (128+N for signal N, 124 for the time limit, 1 if it never ran),
    `state`, `task` (its id), `stdout` and `stderr`: the ends of what it printed.
    """

    code = "sh"

    def __init__(
        self,
        message: str,
        *,
        task: str = "",
        state: str = "",
        exit_code: int = 1,
        stdout: str = "",
        stderr: str = "",
    ) -> None:
        super().__init__(message)
        self.task = task
        self.state = state
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


class ShRef(ObjectRef):
    """What the task of `task` (its id) prints: text, once it has ended."""

    __slots__ = ("task",)

    def __init__(self, key: serial.RefKey, task: str) -> None:
        super().__init__(key)
        self.task = task

    def left(self, path: str) -> str:
        """A file that the task leaves (see `outputs`), as one of the `files` of another."""
        return f"task:{self.task}/{path}"

    def cancel_task(self) -> None:
        """End the task, also if it runs. Does not wait; `get` raises `ShError` then."""
        found = context.current()
        door = _door(found)
        found.party.post(door.begin, door.ask(commands.Cancel([self.task])))

    def value(self) -> Any:
        """As that of `ObjectRef`; raises `ShError` itself."""
        try:
            return super().value()
        except TaskError as error:
            if isinstance(error.cause, LeoronicError):
                raise error.cause from None
            raise


serial.register_ref(ShRef)


class Sh:
    """Calls bash on the cluster: `sh(command, **options)` gives a reference to what it prints.

    Options are the fields of a task (`docs/commands.md`): `cpus`, `memory`, `files`, `conditions`,
    `env`, `stdin`, `time_limit`, `retries`, `outputs`... and `text` (False: bytes instead of text),
    `cwd` (where paths in `files` count from), `output_bytes_max` (64 MiB: of what is printed). In
    `after` may be references of other such calls. A list as command stops at the first failure.
    """

    def __init__(self, **defaults: Any) -> None:
        self._defaults = _checked(defaults)

    def options(self, **options: Any) -> Sh:
        """The same with other defaults. Raises `TypeError` for an unknown option."""
        return Sh(**{**self._defaults, **options})

    def __call__(self, command: str | Sequence[str], **options: Any) -> ShRef:
        """Submit it. Refusals of the node, and `ShError`, are raised where its value is asked for.

        Raises `TypeError` for an unknown option, `BadRequest` for what cannot be sent at all.
        """
        found = {**self._defaults, **_checked(options)}
        here = context.current()
        node, party = here.owner
        ref = ShRef((node, party, next(here.numbers) << INDEX_BITS), str(found.get("id") or _id()))
        is_text = found.pop("text", True)
        output_bytes_max = found.pop("output_bytes_max", OUTPUT_BYTES_MAX)
        cwd = os.path.abspath(found.pop("cwd", "."))  # noqa: PTH100 - links stay as they are
        task = {**_task(command, found, here), "id": ref.task}
        call = _Call(_door(here), ref, is_text, output_bytes_max)
        here.party.post(call.door.announce, ref.task)
        blob = tasks_blob((task,), {})
        # Workers with nothing to do would keep it waiting.
        here.party.post(here.pools.release_idle)
        here.party.post(call.door.begin, call.run(cwd, blob, _earlier(task)))
        return ref


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise TypeError(f"sh() has no option {name!r}{hint}")
    return options


def _id() -> str:
    return f"sh{uuid4().hex[:12]}"


def _task(command: str | Sequence[str], options: dict[str, Any], here: Context) -> dict[str, Any]:
    task = {**options, "command": command if isinstance(command, str) else list(command)}
    if "after" in task:
        after = task["after"]
        several = [after] if isinstance(after, str | ShRef | dict) else after
        task["after"] = [one.task if isinstance(one, ShRef) else one for one in several]
    if "files" in task:
        task["files"] = [os.fspath(file) for file in _several(task["files"])]
    labels = {KIND_LABEL: "sh", JOB_LABEL: str(here.about.get("job", ""))}
    task["labels"] = {**labels, **task.get("labels", {})}
    return task


def _earlier(task: dict[str, Any]) -> list[str]:
    """Ids of the tasks that this one names."""
    after = [one["id"] if isinstance(one, dict) else one for one in task.get("after", ())]
    files = [file for file in task.get("files", ()) if file.startswith("task:")]
    return [*after, *(file.removeprefix("task:").partition("/")[0] for file in files)]


def _several(files: str | Path | Iterable[str | Path]) -> Iterable[str | Path]:
    return [files] if isinstance(files, str | Path) else files


_doors: weakref.WeakKeyDictionary[Context, ShDoor] = weakref.WeakKeyDictionary()


def _door(here: Context) -> ShDoor:
    found = _doors.get(here)
    if found is None:
        found = _doors.setdefault(here, ShDoor(here.party.root))
        here.at_end.append(found.end)
    return found


class _Call:
    """One task, from its submission to the value of `ref`. On the loop's thread."""

    def __init__(self, door: ShDoor, ref: ShRef, is_text: bool, output_bytes_max: int) -> None:
        self.door = door
        self._ref = ref
        self._is_text = is_text
        self._output_bytes_max = output_bytes_max

    async def run(self, cwd: str, blob: bytes, earlier: list[str]) -> None:
        """Submit it after `earlier` ones, and wait for its end, however long that takes."""
        try:
            await self._submit(cwd, blob, earlier)
            payload = serial.dump(await self._value())
        except LeoronicError as error:
            self._ref.settle(False, failure_of(error))
        except asyncio.CancelledError:
            gone = LeoronicError(f"nobody waits for {self._ref.task} any more: it goes on")
            self._ref.settle(False, failure_of(gone))
            raise
        except Exception as error:  # A bug; but nobody shall wait for ever.
            self._ref.settle(False, failure_of(error))
            raise
        else:
            self._ref.settle(True, payload)

    async def _submit(self, cwd: str, blob: bytes, earlier: list[str]) -> None:
        try:
            await self.door.wait_submitted(earlier)
            # With an id of its own it may be submitted again, if the node went away meanwhile.
            await self.door.ask(commands.Submit(cwd=cwd, progress=True), blob)
        finally:
            self.door.submitted(self._ref.task)

    async def _value(self) -> str | bytes:
        [task] = (await self.door.ask(commands.Wait([self._ref.task])))["tasks"]
        if task["state"] != "succeeded":
            raise await self._error(task)
        if task["stdout_bytes"] > self._output_bytes_max:
            raise BadRequest(
                f"{task['id']} printed {task['stdout_bytes']:,} bytes, output_bytes_max is "
                f"{self._output_bytes_max:,}: `leoronic logs {task['id']}` has them"
            )
        data = await self.door.read(commands.Logs(task["id"]))
        return data.decode(errors="replace") if self._is_text else data

    async def _error(self, task: dict[str, Any]) -> ShError:
        if task["state"] == "blocked":
            why = await self.door.ask(commands.Why(task["id"]))
            # Its caller is told that it failed, so it must not run after all when that changes.
            await self.door.ask(commands.Cancel([task["id"]]))
            how = f"can never start: {'; '.join(why['reasons'])}"
        else:
            how = f"{task['state']}: {how_it_ended(task) or task['state']}"
        stdout = await self._tail(task, "stdout")
        stderr = await self._tail(task, "stderr")
        lines = (stderr or stdout).splitlines()[-TAIL_LINES:]
        text = "\n  ".join([f"{task['id']} {how}", *lines])
        return ShError(
            text,
            task=task["id"],
            state=task["state"],
            exit_code=exit_code(task),
            stdout=stdout,
            stderr=stderr,
        )

    async def _tail(self, task: dict[str, Any], stream: str) -> str:
        printed = task.get(f"{stream}_bytes") or 0
        if not printed:
            return ""
        offset = max(printed - TAIL_BYTES, 0)
        try:
            data = await self.door.read(commands.Logs(task["id"], stream, offset=offset))
        except LeoronicError as error:
            return f"({stream} cannot be read: {error.message})"
        return data.decode(errors="replace")


sh = Sh()
