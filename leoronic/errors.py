"""The exception tree.

    LeoronicError
    ├── Refused              the request was understood and turned down; nothing was done
    │   ├── BadRequest       it can never work as written (a field, a frame, a name)
    │   ├── NotFound         no such task, node or actor
    │   ├── Ambiguous        a shortened id fits several tasks
    │   ├── Conflict         the same id was used for something else
    │   └── DiskFull         no room to make it durable; try again when there is
    ├── Unavailable          nobody could be asked; whether it happened is not known
    │   ├── NodeUnreachable  no node answers there
    │   ├── CallTimeout      no answer in time
    │   ├── ActorGone        the actor stopped or was restarted before it answered
    │   └── MailboxFull      the receiver is not keeping up; nothing was delivered
    └── ProtocolError        the other side sent what it must not; its connection is closed

What crosses the wire carries `code` and `definite`: a definite error promises that nothing was
done, so that repeating the request is safe without an id of one's own.
"""

from __future__ import annotations

from typing import ClassVar


class LeoronicError(Exception):
    """Base of all errors that Leoronic raises on purpose. `message` is one line for a person."""

    code: ClassVar[str] = "error"
    definite: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Refused(LeoronicError):
    """Understood and turned down; nothing was done."""

    code = "refused"
    definite = True


class BadRequest(Refused):
    """Can never work as written. `problems` names the place of each mistake."""

    code = "bad_request"

    def __init__(self, message: str, problems: list[str] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or []


class NotFound(Refused):
    """No such task, node or actor."""

    code = "not_found"


class Ambiguous(Refused):
    """A shortened id fits several tasks."""

    code = "ambiguous"


class Conflict(Refused):
    """The same id was already used for something else."""

    code = "conflict"


class DiskFull(Refused):
    """No room to make it durable; try again when there is."""

    code = "disk_full"


class Unavailable(LeoronicError):
    """Nobody could be asked; whether anything happened is not known."""

    code = "unavailable"


class NodeUnreachable(Unavailable):
    """No node answers there."""

    code = "node_unreachable"


class CallTimeout(Unavailable):
    """No answer in time."""

    code = "timeout"


class ActorGone(Unavailable):
    """The actor stopped, or was restarted, before it answered."""

    code = "actor_gone"


class MailboxFull(Unavailable):
    """The receiver is not keeping up; nothing was delivered."""

    code = "mailbox_full"
    definite = True


class ProtocolError(LeoronicError):
    """The other side sent what it must not; its connection is closed."""

    code = "protocol"


def _tree(root: type[LeoronicError]) -> dict[str, type[LeoronicError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


_BY_CODE = _tree(LeoronicError)


def from_code(code: str, message: str) -> LeoronicError:
    """The error that crossed the wire as (code, message); an unknown code keeps its message."""
    return _BY_CODE.get(code, LeoronicError)(message)
