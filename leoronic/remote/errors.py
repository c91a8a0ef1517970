"""What goes wrong with remote calls, as users see it and as it travels.

    LeoronicError
    ├── TaskError              the called code raised; also an instance of what it raised
    ├── TaskCancelledError     it was cancelled
    ├── GetTimeoutError        `get` waited long enough (also a TimeoutError)
    ├── WorkerCrashedError     the process that ran a function ended
    ├── ActorError
    │   ├── ActorDiedError     the actor is gone for good
    │   ├── ActorUnavailableError   it cannot be reached now; whether the call ran is not known
    │   └── AsyncioActorExit   raised in an actor by `exit_actor`
    ├── ObjectLostError        a value is gone, and cannot be made again
    │   ├── OwnerDiedError     because the process that owned it ended
    │   └── ObjectFreedError   because it was freed
    ├── PendingCallsLimitExceeded   too many calls of this actor wait
    ├── RuntimeEnvError        the surroundings that a call asks for cannot be made
    └── NotSerializable        (in serial.py, a TypeError) a value cannot be pickled

A *failure* is how one travels: (code, text, cause, about). `code` names the class; `cause` is what
the user's code raised, in a form that is loaded with care, since its class may not exist at the
reader or may refuse to be made again; without it the text still tells all.
"""

from __future__ import annotations

import traceback
from typing import Any

from leoronic.errors import LeoronicError
from leoronic.remote.causes import dump_cause, load_cause, same_kind

TEXT_CHARS_MAX = 64 * 1024

Failure = tuple[str, str, Any, dict[str, Any]]


class TaskError(LeoronicError):
    """The called code raised `cause` (None if that cannot be told by an object here).

    The message is the remote traceback. What `get` raises is also an instance of the cause's class.
    """

    code = "task_error"
    cause: BaseException | None = None
    failure: Failure

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Any:
        return error_of, (self.failure,)


class TaskCancelledError(LeoronicError):
    """The call was cancelled before it ended."""

    code = "task_cancelled"


class GetTimeoutError(LeoronicError, TimeoutError):
    """`get` waited for as long as it was allowed to."""

    code = "get_timeout"


class WorkerCrashedError(LeoronicError):
    """The process that ran a function ended; the message says how."""

    code = "worker_crashed"


class ActorError(LeoronicError):
    """Something is wrong with the actor, not with the call."""

    code = "actor_error"


class ActorDiedError(ActorError):
    """The actor is gone for good; the message says why."""

    code = "actor_died"


class ActorUnavailableError(ActorError):
    """The actor cannot be reached now; whether the call was carried out is not known."""

    code = "actor_unavailable"


class AsyncioActorExit(ActorError):
    """Raised inside an actor by `exit_actor`."""

    code = "actor_exit"


class ObjectLostError(LeoronicError):
    """The value is gone, and cannot be made again."""

    code = "object_lost"


class OwnerDiedError(ObjectLostError):
    """The value is gone because the process that owned it ended."""

    code = "owner_died"


class ObjectFreedError(ObjectLostError):
    """The value was freed."""

    code = "object_freed"


class PendingCallsLimitExceeded(LeoronicError):
    """More calls of this actor wait than its `max_pending_calls`."""

    code = "pending_calls_limit"


class RuntimeEnvError(LeoronicError):
    """The surroundings that a call asks for cannot be made."""

    code = "runtime_env"


_BY_CODE: dict[str, type[LeoronicError]] = {
    kind.code: kind
    for kind in (
        TaskCancelledError,
        GetTimeoutError,
        WorkerCrashedError,
        ActorError,
        ActorDiedError,
        ActorUnavailableError,
        AsyncioActorExit,
        ObjectLostError,
        OwnerDiedError,
        ObjectFreedError,
        PendingCallsLimitExceeded,
        RuntimeEnvError,
    )
}


def shorten(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    """The beginning and the end of a text that is too long."""
    if len(text) <= chars_max:
        return text
    half = chars_max // 2
    return f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"


def failure(code: str, text: str, **about: Any) -> Failure:
    """A failure that is not the user's code's: `code` is that of a class above."""
    assert code in _BY_CODE
    return code, shorten(text), None, about


def failure_of(error: BaseException, where: str = "") -> Failure:
    """What the code of a call raised, in the process where it did. Never raises.

    `where` says what was running, and where: the first line of what the caller sees.
    """
    kind = type(error)
    if kind.__dict__.get("code") in _BY_CODE and isinstance(error, LeoronicError):
        # Ours, as from a nested call: it means the same to the next caller.
        return failure(error.code, error.message)
    text = shorten(_traceback_of(error))
    if where:
        text = f"{where}\n{text}"
    cause = error.cause if isinstance(error, TaskError) else error
    return TaskError.code, text, dump_cause(cause) if cause is not None else None, {}


def error_of(said: Failure) -> BaseException:
    """What `get` raises for a failure. Never raises, whatever the cause's class does."""
    code, text, packed, _about = said
    kind = _BY_CODE.get(code)
    if kind is not None:
        return kind(text)
    cause, why_not = load_cause(packed)
    if why_not:
        text = f"{text}\n({why_not})"
    error = same_kind(TaskError, cause) if cause is not None else None
    try:
        return _filled(error or TaskError(text), text, cause, said)
    except AttributeError:  # The cause's class has fields of these names that cannot be set.
        return _filled(TaskError(text), text, cause, said)


def _filled(
    error: TaskError, text: str, cause: BaseException | None, said: Failure
) -> BaseException:
    error.message = text
    error.cause = cause
    error.failure = said
    return error


def _traceback_of(error: BaseException) -> str:
    """As the interpreter prints it, without the frames of this package."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__package__") == __package__:
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    except Exception as another:  # The user's `__str__` or `__repr__` raises.
        return f"{type(error).__name__} (its text cannot be made: {type(another).__name__})"
