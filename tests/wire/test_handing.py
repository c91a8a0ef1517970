"""Sockets that go from one process to another."""

from __future__ import annotations

import socket
from pathlib import Path

from leoronic.wire.handing import hand_socket, receive_socket
from leoronic.wire.unix import listen_unix


def test_a_socket_changes_hands(tmp_path: Path) -> None:
    """With what was said of it; who handed it has it no more."""
    path = str(tmp_path / "in.sock")
    ours, theirs = socket.socketpair()
    with ours, listen_unix(path) as listener:
        assert hand_socket(path, theirs, b"a line")
        assert -1 == theirs.fileno()
        handing, _ = listener.accept()
        with handing:
            received = receive_socket(handing, 100)
        assert received is not None
        taken, text = received
        with taken:
            assert b"a line" == text
            taken.sendall(b"hello")
            assert b"hello" == ours.recv(100)


def test_nobody_takes_it(tmp_path: Path) -> None:
    """Then it is closed, and that is told."""
    ours, theirs = socket.socketpair()
    with ours:
        assert not hand_socket(str(tmp_path / "in.sock"), theirs, b"a line")
        assert b"" == ours.recv(100)


def test_nothing_was_handed(tmp_path: Path) -> None:
    """Who connects and sends no socket hands nothing over."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert receive_socket(theirs, 100) is None
        ours.sendall(b"text alone")
        assert receive_socket(theirs, 100) is None
