"""What a worker process is told when it begins."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from leoronic.errors import BadRequest
from leoronic.remote.assignment import (
    ActorShape,
    Assignment,
    read_assignment,
    read_creation,
    write_creation,
)
from leoronic.remote.code import describe
from leoronic.remote.serial import dump_call

ENVIRON = {
    "LEORONIC_ROOT": "/r",
    "LEORONIC_TASK_ID": "t1",
    "LEORONIC_ATTEMPT": "2",
    "LEORONIC_NODE": "here",
}


def test_an_assignment_arrives() -> None:
    """As it was written; the party id of the process is its task and attempt."""
    written = Assignment("actor", "j", ("n", "d-j"), ("n", "d-j"), actor=ActorShape("C"))
    environ = {**ENVIRON, "LEORONIC_WORKER": msgspec.json.encode(written).decode()}
    assignment, place = read_assignment(environ)
    assert written == assignment
    assert "t1.2" == place.party


@pytest.mark.parametrize("text", ["", "{}", '{"kind": "dog"}', "[1]", '{"kind": 3}'])
def test_a_damaged_assignment(text: str) -> None:
    """It is refused with a reason."""
    with pytest.raises(BadRequest, match="LEORONIC_WORKER is damaged"):
        read_assignment({**ENVIRON, "LEORONIC_WORKER": text})


def test_a_worker_is_not_started_by_hand() -> None:
    """Whoever tries is told."""
    with pytest.raises(BadRequest, match="started by leoronic itself"):
        read_assignment({})


def test_an_unknown_kind() -> None:
    """It is named."""
    written = Assignment("dog", "j", ("n", "d"), ("n", "d"))
    environ = {**ENVIRON, "LEORONIC_WORKER": msgspec.json.encode(written).decode()}
    with pytest.raises(BadRequest, match="unknown: dog"):
        read_assignment(environ)


def test_the_class_of_an_actor_arrives(tmp_path: Path) -> None:
    """With the arguments of its constructor."""

    class Local:
        pass

    file = tmp_path / "creation"
    code = describe(Local)
    file.write_text(write_creation(code, dump_call((1, [2]), {})))
    creation = read_creation(ActorShape(file=str(file)))
    assert code == creation.code
    assert 4 == len(creation.payload)
    file.write_text("nonsense!")
    with pytest.raises(BadRequest, match="did not arrive"):
        read_creation(ActorShape(file=str(file)))
