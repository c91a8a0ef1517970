"""What a worker process is told when it begins: whom it works for, and as what."""

from __future__ import annotations

import base64
import binascii
import os
import pickle
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from leoronic.errors import BadRequest
from leoronic.remote.code import Code
from leoronic.remote.serial import Payload

VARIABLE = "LEORONIC_WORKER"
ORPHAN_S = 10.0

Address = tuple[str, str]
"""(node id, party id)."""


class ActorShape(msgspec.Struct, frozen=True):
    """How an actor runs. `groups`: concurrency groups, and how many calls of each run at once."""

    class_name: str = ""
    name: str = ""
    max_concurrency: int | None = None
    groups: dict[str, int] = {}
    file: str = ""  # holds what else would come on stdin


class Assignment(msgspec.Struct, frozen=True):
    """The JSON in `LEORONIC_WORKER`.

    `lessor` is whom a worker serves, or who made the actor: without a connection to it for
    `orphan_s` the process ends, unless `detached`. `driver` gets what is printed.
    """

    kind: str
    job: str
    lessor: Address
    driver: Address
    namespace: str = ""
    orphan_s: float = ORPHAN_S
    detached: bool = False
    paths: list[str] = []
    env_vars: dict[str, str] = {}
    working_dir: str = ""
    actor: ActorShape = ActorShape()


class Creation(NamedTuple):
    """The class of an actor and the arguments of its constructor."""

    code: Code
    payload: Payload


class Place(NamedTuple):
    """Which task this process is, and where it runs."""

    root: str
    task: str
    attempt: int
    node_name: str

    @property
    def party(self) -> str:
        """The party id of this process."""
        return f"{self.task}.{self.attempt}"


def read_assignment(environ: dict[str, str]) -> tuple[Assignment, Place]:
    """From the environment that the runner made. Raises `BadRequest`."""
    try:
        assignment = msgspec.json.decode(environ[VARIABLE], type=Assignment)
        place = Place(
            environ["LEORONIC_ROOT"],
            environ["LEORONIC_TASK_ID"],
            int(environ["LEORONIC_ATTEMPT"]),
            environ.get("LEORONIC_NODE", ""),
        )
    except KeyError as error:
        raise BadRequest(f"a worker is started by leoronic itself: {error} is not set") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRequest(f"{VARIABLE} is damaged: {error}") from None
    if assignment.kind not in ("worker", "actor"):
        raise BadRequest(f"{VARIABLE} names a kind of worker that is unknown: {assignment.kind}")
    return assignment, place


def read_creation(shape: ActorShape) -> Creation:
    """The actor's class and arguments, from its file or from stdin. Raises `BadRequest`."""
    try:
        data = Path(shape.file).read_bytes() if shape.file else sys.stdin.buffer.read()
        code, payload = pickle.loads(base64.b64decode(data))
        return Creation(Code(*code), payload)
    except (OSError, binascii.Error, pickle.UnpicklingError, EOFError, TypeError) as error:
        raise BadRequest(f"the actor's class did not arrive: {error}") from None


def write_creation(code: Code, payload: Payload) -> str:
    """What the task of an actor gets on stdin, or in a file: the inverse of `read_creation`."""
    return base64.b64encode(pickle.dumps((tuple(code), payload), 5)).decode()


def enter(assignment: Assignment) -> None:
    """Make the surroundings: variables, folder, and where modules are found."""
    os.environ.update(assignment.env_vars)
    if assignment.working_dir:
        os.chdir(assignment.working_dir)
    # Those of the driver, behind our own: its modules are found if they are on this machine.
    paths: list[Any] = [assignment.working_dir] if assignment.working_dir else []
    known = set(sys.path)
    sys.path[:0] = paths
    sys.path += [path for path in assignment.paths if path not in known]


def close_stdin() -> None:
    """What the user's code reads is not what this process was told."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
