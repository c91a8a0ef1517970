"""Connections for calls reach the process that they are for, and nobody else."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from leoronic.actors.call_door import CallDoor
from leoronic.actors.peer_port import PeerPort, Take
from leoronic.actors.standing import Standing
from leoronic.wire.calls import CALL, HANDED, NO_PARTY, socket_path
from leoronic.wire.handing import HANDED_BYTES_MAX, receive_socket
from leoronic.wire.preface import Preface, decode_preface
from leoronic.wire.unix import listen_unix

OURS = Preface(("0a0a0a0a",), "1")
THEIRS = OURS._replace(purpose=CALL, party="t.1")


@pytest.fixture
def port() -> PeerPort:
    """That of a node that knows who it is."""
    found = PeerPort()
    found.standing = cast(Standing, SimpleNamespace(preface=OURS))
    return found


async def open_door(port: PeerPort, state_dir: Path) -> tuple[CallDoor, Take]:
    door = CallDoor(port, state_dir)
    await door.started()
    take = port.taker(CALL)
    assert take is not None
    return door, take


def listen(state_dir: Path, party: str) -> socket.socket:
    return listen_unix(str(socket_path(state_dir, party, HANDED)))


async def test_a_connection_is_handed_to_its_party(port: PeerPort, tmp_path: Path) -> None:
    """With the first line, before anything is answered; the node keeps no copy."""
    _, take = await open_door(port, tmp_path)
    ours, stranger = socket.socketpair()
    with listen(tmp_path, "t.1") as listener, stranger:
        take(ours, THEIRS)
        handing, _ = listener.accept()
        with handing:
            taken = receive_socket(handing, HANDED_BYTES_MAX)
        assert taken is not None
        handed, line = taken
        assert THEIRS == decode_preface(line)
        handed.sendall(b"hello")
        assert b"hello" == stranger.recv(100)
        handed.close()
        assert b"" == stranger.recv(100)


@pytest.mark.parametrize("party", ["t.2", ""])
async def test_who_wants_nobody_that_is_there_is_told(
    port: PeerPort, tmp_path: Path, party: str
) -> None:
    """And the connection is closed."""
    _, take = await open_door(port, tmp_path)
    ours, stranger = socket.socketpair()
    with listen(tmp_path, "t.1"), stranger:
        take(ours, THEIRS._replace(party=party))
        assert OURS._replace(purpose=NO_PARTY).encode() == stranger.recv(1000)
        assert b"" == stranger.recv(100)


async def test_a_start_clears_away_what_the_dead_have_left(port: PeerPort, tmp_path: Path) -> None:
    """And only that; the folder is for its user alone."""
    door, _ = await open_door(port, tmp_path)
    assert 0o700 == (tmp_path / "calls").stat().st_mode & 0o777
    listen(tmp_path, "dead").close()
    with listen(tmp_path, "alive"):
        await open_door(port, tmp_path)
        assert ["alive.handed"] == [path.name for path in (tmp_path / "calls").iterdir()]
    await door.stopping()
    assert port.taker(CALL) is None
