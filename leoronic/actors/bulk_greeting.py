"""From a socket to a connection for files: who is there, and what it wants. For threads.

As for the messages of nodes (`actors/standing.py`), there is one line each, then TLS with both
sides checked; then `Begin` instead of `Hello`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import NamedTuple

from leoronic.actors.bulk_stream import STALL_S, BulkStream
from leoronic.actors.first_line import tune_socket
from leoronic.actors.standing import HANDSHAKE_S_MAX, Standing
from leoronic.core.addresses import parse_address
from leoronic.errors import LeoronicError, ProtocolError
from leoronic.wire.bulk import (
    AS_GHOST,
    PURPOSES,
    REQUEST_BYTES_MAX,
    Begin,
    decode_begin,
    encode,
    judge_begin,
)
from leoronic.wire.ghost_identity import AUTHORITY_LINE_BYTES_MAX
from leoronic.wire.hello import OTHER, Refused, shortened
from leoronic.wire.preface import LINE_BYTES_MAX, Agreed, Preface, agree, decode_preface

CONNECT_S_MAX = 5.0


class BulkRefused(LeoronicError):
    """The connection cannot be: the message tells a person why. `code`: `wire/hello.py`."""

    def __init__(self, message: str, reason_code: str = OTHER) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class Opened(NamedTuple):
    """A connection to `node`. Of one that called us, `mine` is still to be said, or `Refused`."""

    stream: BulkStream
    node: str
    mine: Begin

    def accept(self) -> None:
        """Tell who called that it may go on. Raises `OSError`."""
        self.stream.send(encode(self.mine))

    def refuse(self, reason: str, code: str = OTHER) -> None:
        """Tell who called why not, and close."""
        with contextlib.suppress(OSError):
            self.stream.send(encode(Refused(shortened(reason), code)))
        self.stream.close()


def call(
    address: str,
    purpose: str,
    standing: Standing,
    me: str,
    node: str,
    *,
    stall_s: float = STALL_S,
) -> Opened:
    """Call `node` at `address` (HOST:PORT), as `me`, for `FILES` or `SERVE_FILES`.

    Raises `BulkRefused`, `ProtocolError`, `OSError`.
    """
    if standing.as_ghost is not None:
        purpose = AS_GHOST[purpose]
    assert purpose in PURPOSES
    place = parse_address(address)
    found = socket.create_connection((place.host, place.port), CONNECT_S_MAX)
    try:
        until = time.monotonic() + HANDSHAKE_S_MAX
        tune_socket(found)
        ours = standing.preface._replace(purpose=purpose)
        found.sendall(ours.encode())
        line, rest = _read_line(found, until)
        theirs = decode_preface(line)
        agreed = agree(ours, theirs)
        if not isinstance(agreed, Agreed):
            raise BulkRefused(agreed.reason)
        if theirs.purpose != purpose:
            raise BulkRefused(
                f"it runs leoronic {theirs.version} and takes no connection for {purpose} now: if "
                f"that stays so, update leoronic there (here is {ours.version})"
            )
        if standing.as_ghost is not None:
            line, rest = _read_line(found, until, rest, AUTHORITY_LINE_BYTES_MAX)
            context = standing.as_ghost(line)
        else:
            context = standing.identities[agreed.cluster].calling
        if rest:
            raise ProtocolError("what speaks there is no leoronic node")
        stream = BulkStream(found, context, server_side=False, stall_s=stall_s)
        certified = stream.secure(until)
        if certified != node:
            raise BulkRefused(f"another node answers at {address}: {certified}")
        mine = Begin(me, purpose, agreed.protocol, ours.protocol_min, ours.protocol_max)
        stream.send(encode(mine))
        _read_begin(stream, mine, certified)
    except ssl.SSLError as error:
        found.close()
        raise BulkRefused(f"it cannot prove that it holds the cookie: {error.reason}") from None
    except BaseException:
        found.close()
        raise
    return Opened(stream, certified, mine)


def answer(
    found: socket.socket,
    theirs: Preface,
    standing: Standing,
    me: str,
    *,
    stall_s: float = STALL_S,
) -> Opened:
    """The same for one that called us and whose line has come; ours has not been sent.

    It waits for `Opened.accept` or `refuse`. Raises `BulkRefused`, `ProtocolError`, `OSError`; the
    socket is closed then.
    """
    try:
        is_ghost = theirs.purpose in AS_GHOST.values()
        ghosts = standing.ghosts() if is_ghost else {}
        until = time.monotonic() + HANDSHAKE_S_MAX
        ours = standing.preface._replace(purpose=theirs.purpose)
        found.settimeout(HANDSHAKE_S_MAX)
        found.sendall(ours.encode())
        agreed = agree(ours, theirs)
        if not isinstance(agreed, Agreed):
            raise BulkRefused(agreed.reason)
        if is_ghost:
            # The cookies' contexts would take nobody who has only a token, and these nobody else.
            found.sendall(ghosts[agreed.cluster].line)
            context = ghosts[agreed.cluster].called
        else:
            context = standing.identities[agreed.cluster].called
        stream = BulkStream(found, context, server_side=True, stall_s=stall_s)
        certified = stream.secure(until)
        mine = Begin(me, theirs.purpose, agreed.protocol, ours.protocol_min, ours.protocol_max)
        opened = Opened(stream, certified, mine)
        try:
            _read_begin(stream, mine, certified)
        except (BulkRefused, ProtocolError) as error:
            opened.refuse(error.message)
            raise
    except ssl.SSLError as error:
        found.close()
        raise BulkRefused(f"it cannot prove that it holds the cookie: {error.reason}") from None
    except BaseException:
        found.close()
        raise
    return opened


def told(error: LeoronicError | OSError) -> str:
    """What went wrong, for a person."""
    if isinstance(error, LeoronicError):
        return error.message
    return error.strerror or str(error)


def _read_line(
    found: socket.socket, until: float, data: bytes = b"", bytes_max: int = LINE_BYTES_MAX
) -> tuple[bytes, bytes]:
    """The other side's next line, and what came behind it; `data` has come already."""
    while b"\n" not in data:
        if len(data) > bytes_max:
            raise ProtocolError("what speaks there is no leoronic node")
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it did not finish its greeting in time")
        found.settimeout(left_s)
        more = found.recv(bytes_max + 1 - len(data) + 1)
        if not more:
            raise ConnectionResetError("it closed the connection without a word")
        data += more
    line, _, rest = data.partition(b"\n")
    return line, rest


def _read_begin(stream: BulkStream, mine: Begin, certified: str) -> Begin:
    json, _ = stream.receive(REQUEST_BYTES_MAX)
    begin = decode_begin(json)
    if isinstance(begin, Refused):
        raise BulkRefused(shortened(begin.reason), begin.code)
    refused = judge_begin(begin, mine, certified)
    if refused is not None:
        raise BulkRefused(refused.reason, refused.code)
    return begin
