"""The database file: made, opened again, or set aside and told."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from leoronic.core.entries import Cancelled, Started, Submitted
from leoronic.core.spec import TaskSpec
from leoronic.journal import database
from leoronic.journal.database import (
    Opened,
    VersionError,
    connect,
    connect_reader,
    distrust,
    new_node_id,
    open_database,
    set_aside,
    suspect,
)
from leoronic.journal.journal import Journal
from leoronic.journal.reads import Reads
from leoronic.journal.schema import VERSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leoronic.db"


def filled(path: Path) -> Opened:
    """A database with some tasks, closed again."""
    opened = open_database(path, first_start=True)
    journal = Journal(opened.connection, opened.node)
    journal.write(
        [Submitted(f"t{n}", TaskSpec("x" * 500, count=3), float(n)) for n in range(300)]
        + [Started("t1.0", 1, opened.node, 1.0), Cancelled("t2", 1.0)]
    )
    journal.commit()
    opened.connection.close()
    return opened


def aside(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if ".damaged-" in p.name)


def test_the_first_start(path: Path) -> None:
    """A new file, for its owner alone, with nothing to tell."""
    opened = open_database(path, first_start=True)
    assert "" == opened.story
    assert 10 == len(opened.node)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 0 == Journal(opened.connection, opened.node).number
    opened.connection.close()


def test_opened_again(path: Path) -> None:
    """The same node, the same numbers, the same live tasks."""
    first = filled(path)
    again = open_database(path, first_start=False)
    assert (first.node, "") == (again.node, again.story)
    assert 302 == Journal(again.connection, again.node).number
    live = list(Reads(again.connection).live())
    assert 299 == len(live)
    assert [first.node] == [run.node for [run] in live[1].live_elements.values()]
    again.connection.close()


def test_what_a_killed_process_left_is_taken_up(path: Path) -> None:
    """Committed to the log and never moved to the database: nothing of it is lost."""
    opened = open_database(path, first_start=True)
    journal = Journal(opened.connection, opened.node)
    journal.write([Submitted("a", TaskSpec("x"), 1.0)])
    journal.commit()
    journal.write([Submitted("b", TaskSpec("x"), 1.0)])  # not committed
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        copy.with_name(copy.name + suffix).write_bytes(
            path.with_name(path.name + suffix).read_bytes()
        )
    again = open_database(copy, first_start=False)
    assert (opened.node, "") == (again.node, again.story)
    assert ["a"] == [row.id for row in Reads(again.connection).page()]
    again.connection.close()
    opened.connection.close()


def damage_header(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)


def damage_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 9] = b"\xa5" * 4096 * 6
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 4096 * 4])


def truncate_within_a_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_to_a_few_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def newer_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()


def without_node(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM meta")
    connection.commit()
    connection.close()


def without_tables(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE meta")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_header, "it is not a database"),
        (damage_pages, ""),
        (truncate, "it was cut off"),
        (truncate_within_a_page, "it was cut off"),
        (cut_to_a_few_bytes, "it is not a database"),
        (empty, "it is empty"),
        (replace_by_a_folder, "it is not a file"),
        (without_node, "it has no node id"),
        (without_tables, "no such table"),
    ],
    ids=lambda value: getattr(value, "__name__", "why"),
)
def test_a_damaged_file_is_set_aside_and_told(path: Path, damage: object, why: str) -> None:
    """Nothing is destroyed: the story names where it is, and a new node begins."""
    first = filled(path)
    assert callable(damage)
    damage(path)
    before = path.read_bytes() if path.is_file() else b""
    opened = open_database(path, first_start=False)
    [name] = [found for found in aside(path) if not found.endswith(("-wal", "-shm"))]
    assert opened.story.startswith("the database was damaged (")
    assert opened.story.endswith(f"); it was set aside as {name}")
    assert why in opened.story
    if before:
        assert before == path.with_name(name).read_bytes()
    assert first.node != opened.node
    assert [] == list(Reads(opened.connection).live())
    opened.connection.close()


def test_another_version_is_left_alone(path: Path) -> None:
    """A newer program's file is neither used nor moved: the node says what to do, and stops."""
    filled(path)
    newer_version(path)
    with pytest.raises(VersionError, match=f"of version {VERSION + 1}, this program knows"):
        open_database(path, first_start=False)
    assert [] == aside(path)


def test_a_suspected_file_is_checked_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A big file is trusted at first; one that failed is read whole, and damage in it found."""
    monkeypatch.setattr(database, "FULL_CHECK_BYTES_MAX", 0)
    filled(path)
    damage_pages(path)
    open_database(path, first_start=False).connection.close()
    suspect(path)
    opened = open_database(path, first_start=False)
    assert "the database was damaged" in opened.story
    assert 0 == distrust(path)
    opened.connection.close()


def test_a_file_that_fails_again_and_again_is_set_aside(path: Path) -> None:
    """Even if a check finds nothing: a node must come up."""
    filled(path)
    suspect(path)
    open_database(path, first_start=False).connection.close()
    suspect(path)
    opened = open_database(path, first_start=False)
    assert "it could not be read, though a check found nothing" in opened.story
    opened.connection.close()


def test_a_missing_file_is_told(path: Path) -> None:
    """Not at the first start; at any other, somebody wants to know."""
    filled(path)
    path.unlink()
    opened = open_database(path, first_start=False)
    assert "the database was missing; the node starts with an empty queue and a new id" == (
        opened.story
    )
    assert [] == aside(path)
    opened.connection.close()


def test_a_log_without_its_database_is_not_taken_up(path: Path) -> None:
    """It belongs to a file that is gone."""
    path.with_name("leoronic.db-wal").write_bytes(b"x" * 5000)
    opened = open_database(path, first_start=True)
    assert 0 == Journal(opened.connection, opened.node).number
    opened.connection.close()


def test_set_aside_twice_in_a_second(path: Path) -> None:
    """Each gets a name of its own, with what belongs to it."""
    names = []
    for content in (b"one", b"two", b"three"):
        path.write_bytes(content)
        path.with_name(path.name + "-wal").write_bytes(content)
        names.append(set_aside(path))
    assert 3 == len(set(names))
    assert [b"one", b"two", b"three"] == [name.read_bytes() for name in names]
    assert b"two" == names[1].with_name(names[1].name + "-wal").read_bytes()
    assert not path.exists()


def test_no_room_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that can't be opened for other reasons stays where it is, and the error is raised."""
    filled(path)

    def fail(*_args: object, **_options: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("leoronic.journal.database.connect", fail)
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        open_database(path, first_start=False)
    assert [] == aside(path)


def test_a_reader_only_reads(path: Path) -> None:
    """It sees what is committed, and can't write; whatever its path looks like."""
    strange = path.with_name("a?b#c%20d.db")
    opened = open_database(strange, first_start=True)
    reader = connect_reader(strange)
    journal = Journal(opened.connection, opened.node)
    journal.write([Submitted("a", TaskSpec("x"), 1.0)])
    assert [] == Reads(reader).page()
    journal.commit()
    assert ["a"] == [row.id for row in Reads(reader).page()]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM tasks")
    reader.close()
    opened.connection.close()


def test_commits_are_durable(path: Path) -> None:
    """Write-ahead log, and each commit waits for the disk."""
    connection = connect(path)
    assert "wal" == connection.execute("PRAGMA journal_mode").fetchone()[0]
    assert 2 == connection.execute("PRAGMA synchronous").fetchone()[0]
    connection.close()


def test_node_ids() -> None:
    """Ten plain letters, and no two alike."""
    ids = {new_node_id() for _ in range(1000)}
    assert 1000 == len(ids)
    assert set("".join(ids)) <= set("0123456789abcdefghjkmnpqrstvwxyz")
