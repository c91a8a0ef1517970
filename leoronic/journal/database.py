"""Opens the database file: makes a new one, checks an old one, sets a damaged one aside.

Only one connection ever writes or checkpoints: SQLite before 3.51.3 has a rare corruption bug when
two do at once. A second one only reads.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import time
from pathlib import Path
from typing import NamedTuple

from leoronic.errors import LeoronicError
from leoronic.journal.schema import PRAGMAS, TABLES, VERSION

# A whole check reads every page: for big files the cheap checks must do, to be back within 2 s.
FULL_CHECK_BYTES_MAX = 64 * 1024 * 1024


class Opened(NamedTuple):
    """A database ready to use, its node id, and what is to be told about it (or '')."""

    connection: sqlite3.Connection
    node: str
    story: str


class VersionError(LeoronicError):
    """The file was made by another version of this program; it is left alone."""

    code = "version"
    definite = True


class DamagedError(Exception):
    """The file is not a sound database of this version; the message says why."""


def open_database(path: Path, *, first_start: bool) -> Opened:
    """Open `path`, or start a new one in its place if it is missing or damaged.

    A new database means a new node id, because the numbers of the old journal are spent. Raises
    `VersionError`, or `sqlite3.OperationalError` if there is no room, or it can't be opened for
    other reasons.
    """
    story = ""
    if path.exists():
        try:
            return Opened(*_open_old(path, distrust(path)), "")
        except (DamagedError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.OperationalError) and not means_damage(error):
                raise
            aside = set_aside(path)
            story = f"the database was damaged ({error}); it was set aside as {aside.name}"
    elif not first_start:
        story = "the database was missing; the node starts with an empty queue and a new id"
    connection, node = _make_new(path)
    return Opened(connection, node, story)


def connect(path: Path | str) -> sqlite3.Connection:
    """The writing connection; transactions are opened and closed by hand."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.executescript(PRAGMAS)
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that reads, and never writes or checkpoints."""
    connection = sqlite3.connect(
        f"file:{_uri(path)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA cache_size = -2048")
    return connection


def create(connection: sqlite3.Connection, node: str) -> None:
    """Make the tables of a new database for `node`."""
    connection.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    connection.execute("INSERT INTO meta VALUES ('node', ?)", (node,))
    connection.execute("INSERT INTO origins(origin, node) VALUES (1, ?)", (node,))


def new_node_id() -> str:
    """A fresh node id: 10 letters, random."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return "".join(alphabet[byte & 31] for byte in os.urandom(10))


def set_aside(path: Path, why: str = "damaged") -> Path:
    """Rename a database and what belongs to it, so that nothing is destroyed.

    `why` becomes a part of the name.
    """
    trust(path)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.{why}-{stamp}")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.{why}-{stamp}.{count}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _make_new(path: Path) -> tuple[sqlite3.Connection, str]:
    for suffix in ("-wal", "-shm"):  # of a file that is gone
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    connection = connect(path)
    path.chmod(0o600)
    node = new_node_id()
    create(connection, node)
    return connection, node


def distrust(path: Path) -> int:
    """How often the database at `path` failed since it was last read whole (see `suspect`)."""
    try:
        return int(_suspicion(path).read_text())
    except (OSError, ValueError):
        return 0


def suspect(path: Path) -> None:
    """Reading or writing it failed as it should not: check all of it when it is opened again."""
    with contextlib.suppress(OSError):
        _suspicion(path).write_text(str(distrust(path) + 1))


def trust(path: Path) -> None:
    """It was read whole: there is nothing wrong with it."""
    _suspicion(path).unlink(missing_ok=True)


def _suspicion(path: Path) -> Path:
    return path.with_name(f"{path.name}.suspect")


def _open_old(path: Path, failures: int) -> tuple[sqlite3.Connection, str]:
    _check_header(path)
    if failures > 1:
        raise DamagedError("it could not be read, though a check found nothing")
    connection = connect(path)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            raise DamagedError("it has no tables")
        if version != VERSION:
            raise VersionError(
                f"{path} is of version {version}, this program knows {VERSION}: use the program "
                "that made it, or move the file away to start with an empty queue"
            )
        if failures or path.stat().st_size <= FULL_CHECK_BYTES_MAX:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise DamagedError(found)
        row = connection.execute("SELECT value FROM meta WHERE key = 'node'").fetchone()
        if row is None:
            raise DamagedError("it has no node id")
    except BaseException:
        connection.close()
        raise
    return connection, row[0]


def _check_header(path: Path) -> None:
    """Find a file that was cut off or never was a database, by its first page alone."""
    if not path.is_file():
        raise DamagedError("it is not a file")
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(100)
    if size == 0:
        raise DamagedError("it is empty")
    if len(header) < 100 or not header.startswith(b"SQLite format 3\x00"):
        raise DamagedError("it is not a database")
    page = struct.unpack(">H", header[16:18])[0]
    pages = struct.unpack(">I", header[28:32])[0]
    page = 65536 if page == 1 else page
    wal = path.with_name(path.name + "-wal")
    if size % page or (size < page * pages and not _has_content(wal)):
        raise DamagedError(f"it was cut off at {size} of {page * pages} bytes")


def means_damage(error: sqlite3.OperationalError) -> bool:
    """Whether it is the file's own fault, and no lack of room or of permission."""
    return "malformed" in str(error) or "no such table" in str(error)


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _uri(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
