"""Carrying out one call: its arguments, the user's code, and what becomes of its result.

Whatever the user's code does is turned into an outcome here: it raises, exits, returns what cannot
be pickled, or forks and comes back twice.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Callable
from types import CoroutineType
from typing import Any, Protocol

from leoronic.remote import serial
from leoronic.remote.code import CodeShelf
from leoronic.remote.errors import (
    AsyncioActorExit,
    TaskCancelledError,
    TaskError,
    error_of,
    failure,
    failure_of,
)
from leoronic.remote.jobs import STREAM, Job, Outcome, current, failed, running_job

__all__ = ["Actor", "Functions", "TaskError", "Work", "current", "run_async", "run_sync"]

# Names of calls that every actor answers.
READY = "__leoronic_ready__"
CALL = "__leoronic_call__"
TERMINATE = "__leoronic_terminate__"


class Work(Protocol):
    """What this process carries out calls of."""

    where: str

    def find(self, name: str) -> Callable[..., Any]:
        """What a call of that name calls. Raises anything."""
        ...

    def exited(self, job: Job, error: BaseException) -> Outcome | None:
        """What it means that the code of a call raised this; None if nothing special."""
        ...


class Functions:
    """The work of a leased worker: functions that were sent."""

    def __init__(self, where: str, shelf: CodeShelf) -> None:
        self.where = where
        self.find: Callable[[str], Callable[..., Any]] = shelf.load

    def exited(self, job: Job, error: BaseException) -> Outcome | None:
        """A function that exits has failed, and takes nothing else with it."""
        return None


class Actor:
    """The work of an actor: methods of one instance. `end(code)` ends the process, soon."""

    def __init__(self, where: str, name: str, end: Callable[[int], None]) -> None:
        self.where = where
        self.instance: Any = None
        self._name = name
        self._end = end

    def find(self, name: str) -> Callable[..., Any]:
        """The method. Raises `AttributeError`."""
        if name.startswith("__leoronic_"):
            own: dict[str, Callable[..., Any]] = {
                READY: _ready,
                CALL: self._call,
                TERMINATE: _terminate,
            }
            return own[name]
        method: Callable[..., Any] = getattr(self.instance, name)
        return method

    def exited(self, job: Job, error: BaseException) -> Outcome | None:
        """An actor may end itself; the call with which it does so tells that."""
        if isinstance(error, AsyncioActorExit):
            code = 0
        elif isinstance(error, SystemExit):
            code = _exit_status(error)
        else:
            return None
        self._end(code)
        how = "ended itself" if code == 0 else f"exited with status {code}"
        return failed(failure("actor_died", f"{self._name} {how} in {job.label}"))

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(self.instance, *args, **kwargs)


def _ready() -> bool:
    return True


def _terminate() -> None:
    raise SystemExit(0)


def _exit_status(error: SystemExit) -> int:
    """As the interpreter makes it of `sys.exit(...)`."""
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


class Emit(Protocol):
    """Sends the items of a generator."""

    def sync(self, job: Job, items: Any) -> Outcome:
        """Of a generator, in this thread."""
        ...

    async def apart(self, job: Job, items: Any) -> Outcome:
        """Of an asynchronous one."""
        ...


_PROCESS = os.getpid()


def run_sync(job: Job, work: Work, emit: Emit) -> Outcome:
    """Carry out a call in this thread."""
    token = running_job.set(job)
    try:
        args, kwargs = _arguments(job)
        value = work.find(job.name)(*args, **kwargs)
        if type(value) is CoroutineType:
            value = asyncio.run(value)
        if job.n_returns == STREAM:
            return emit.sync(job, value)
        return _packed(job, value)
    except BaseException as error:
        return _outcome_of(job, work, error)
    finally:
        if os.getpid() != _PROCESS:
            _end_of_child()
        running_job.reset(token)


async def run_async(job: Job, work: Work, emit: Emit) -> Outcome:
    """Carry out a call on this event loop."""
    token = running_job.set(job)
    try:
        args, kwargs = _arguments(job)
        value = work.find(job.name)(*args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
        if job.n_returns == STREAM:
            return await emit.apart(job, value)
        return _packed(job, value)
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and not job.is_cancelled:
            # The loop ends: that is nothing to answer with.
            raise
        return _outcome_of(job, work, error)
    finally:
        if os.getpid() != _PROCESS:
            _end_of_child()
        running_job.reset(token)


def _arguments(job: Job) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if job.tops is None:
        return serial.load_call(job.payload)
    values = []
    for ok, payload in job.tops:
        if not ok:
            raise error_of(payload)
        values.append(serial.load(payload))
    return serial.load_call(job.payload, values)


def _packed(job: Job, value: Any) -> Outcome:
    """The result for the wire. Raises `NotSerializable`, `ValueError`."""
    if job.n_returns == 0:
        return True, (None,), ()
    if job.n_returns == 1 and serial.is_plain(value):
        return True, (value,), ()
    found: list[Any] = []
    what = f"the result of {job.label}"
    if job.n_returns == 1:
        return True, serial.dump(value, found, what), found
    try:
        values = list(value)
    except TypeError:
        raise ValueError(
            f"{job.label} shall return {job.n_returns} values, but returned {type(value).__name__}"
        ) from None
    if len(values) != job.n_returns:
        raise ValueError(
            f"{job.label} shall return {job.n_returns} values, but returned {len(values)}"
        )
    return True, [serial.dump(each, found, what) for each in values], found


def _outcome_of(job: Job, work: Work, error: BaseException) -> Outcome:
    """What the caller is told of an exception of the user's code."""
    if job.is_cancelled and isinstance(
        error, (KeyboardInterrupt, asyncio.CancelledError, TaskCancelledError)
    ):
        return cancelled(job)
    special = work.exited(job, error)
    if special is not None:
        return special
    return failed(failure_of(error, f"{job.label} failed in {work.where}:"))


def cancelled(job: Job) -> Outcome:
    """The outcome of a call that was cancelled."""
    return failed(failure("task_cancelled", f"{job.label} was cancelled"))


def _end_of_child() -> None:
    """A child that the user's code forked came back into ours: it has no business here."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)
