"""Finds a node's folder and opens its control socket.

Only the cheapest of the standard library: the thin client imports this, and each import is time
that somebody's loop over `leoronic_add_task` waits.
"""

from __future__ import annotations

import _socket  # `socket` itself brings selectors and enum: 8 ms of a 20 ms command
import os

STATE_FOLDER = ".leoronic"
SOCKET_NAME = "control.sock"
SOCKET_PATH_BYTES_MAX = 107
_SAFE = {ord(character): "0" for character in "/._-+,:@%="}


class NoNodeError(Exception):
    """No node can be reached. The text is one line that says how to mend it."""


def quoted(path: str) -> str:
    """`path` as one word of a shell. `shlex` would cost 6 ms."""
    if path.isascii() and path.translate(_SAFE).isalnum():
        return path
    return "'" + path.replace("'", "'\"'\"'") + "'"


def find_root(root: str | None = None) -> str:
    """Absolute path of the node's folder: `root`, else LEORONIC_ROOT, else upward from here.

    Raises `NoNodeError` if none is named and no folder from here up holds `.leoronic/`.
    """
    named = root or os.environ.get("LEORONIC_ROOT")
    if named:
        return os.path.abspath(named)  # noqa: PTH100 (pathlib costs 5 ms)
    here = start = os.getcwd()  # noqa: PTH109
    while True:
        if os.path.isdir(f"{here}/{STATE_FOLDER}"):  # noqa: PTH112
            return here
        parent = os.path.dirname(here)  # noqa: PTH120
        if parent == here:
            raise NoNodeError(
                f"no node's folder in {start} or above: start a node with `leoronic`, "
                "or name its folder with --root or LEORONIC_ROOT"
            )
        here = parent


def open_socket(root: str) -> _socket.socket:
    """A connected stream socket to the node in `root`. Raises `NoNodeError`."""
    folder = f"{root}/{STATE_FOLDER}"
    path = f"{folder}/{SOCKET_NAME}"
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
            sock.connect(path)
        else:
            # The kernel limits the text of the address, not where the socket is.
            descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sock.connect(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
            finally:
                os.close(descriptor)
    except PermissionError:
        sock.close()
        raise NoNodeError(
            f"not allowed to talk to the node in {root}: it is another user's"
        ) from None
    except OSError as error:
        sock.close()
        if not os.path.isdir(folder):  # noqa: PTH112
            raise NoNodeError(
                f"{root} is not a node's folder: "
                f"start one there with `leoronic --root {quoted(root)}`"
            ) from None
        if _is_ghosts(folder):
            raise NoNodeError(
                f"{root} is a ghost's folder: ghosts answer no commands, so ask a node (on its "
                "machine, or with --root)"
            ) from None
        raise NoNodeError(
            f"no node answers in {root} ({error.strerror or error}): "
            f"start it with `leoronic --root {quoted(root)}`"
        ) from None
    return sock


def _is_ghosts(folder: str) -> bool:
    """Whether a ghost has its state in `folder`, and no node ever had."""
    names = ("token", "leoronic.db")
    return [os.path.exists(f"{folder}/{name}") for name in names] == [True, False]  # noqa: PTH110
