"""What a node takes along from a journal that it leaves behind."""

from __future__ import annotations

from pathlib import Path

from leoronic.core.entries import Cancelled, Finished, Held, Started, Submitted, encode
from leoronic.core.outcome import Outcome
from leoronic.core.replication_messages import Body
from leoronic.core.spec import After, TaskSpec
from leoronic.journal.database import open_database
from leoronic.journal.journal import Journal
from leoronic.journal.leaving import Carried, own_live_specs


def written(path: Path, *, close: bool = True) -> str:
    """A journal with tasks of this node and of another; returns its node's id."""
    opened = open_database(path, first_start=True)
    journal, node = Journal(opened.connection, opened.node), opened.node
    journal.write(
        [
            Submitted("old", TaskSpec("a"), 10.0),
            Submitted("lives", TaskSpec("b", name="n", count=3), 100.0),
            Submitted("ended", TaskSpec("c"), 100.0),
            Submitted("cancelled", TaskSpec("d"), 100.0),
            Submitted("runs", TaskSpec("e", after=(After("lives"),)), 101.0),
            Started("runs", 1, node, 102.0),
            Started("ended", 1, node, 102.0),
            Finished("ended", 1, node, Outcome(1.0, 2.0, exit_code=0), True),
            Cancelled("cancelled", 103.0),
        ]
    )
    journal.take([Body("otherothero", 1, encode(Submitted("theirs", TaskSpec("f"), 100.0)))])
    journal.commit()
    if close:
        opened.connection.close()
    return node


def test_own_live_tasks(tmp_path: Path) -> None:
    """Those that this node accepted, not too long ago, and that have not ended, by their ids."""
    written(tmp_path / "leoronic.db")
    assert [
        Carried(TaskSpec("b", name="n", count=3, id="lives"), 100.0),
        Carried(TaskSpec("e", after=(After("lives"),), id="runs"), 101.0),
    ] == own_live_specs(tmp_path / "leoronic.db", 50.0)[0]
    assert "old" == own_live_specs(tmp_path / "leoronic.db", 0.0)[0][0].spec.id


def test_what_must_not_start_by_itself(tmp_path: Path) -> None:
    """Held tasks, and those that must not run twice and began, stay with the old journal."""
    path = tmp_path / "leoronic.db"
    opened = open_database(path, first_start=True)
    journal = Journal(opened.connection, opened.node)
    journal.write(
        [
            Submitted("held", TaskSpec("a"), 1.0),
            Held("held", 1, 2.0, "by hand"),
            Submitted("once", TaskSpec("b", on_loss="hold"), 1.0),
            Started("once", 1, opened.node, 2.0),
            Submitted("array", TaskSpec("c", on_loss="hold", count=2), 1.0),
            Started("array.1", 1, opened.node, 2.0),
            Submitted("waits", TaskSpec("d", on_loss="hold"), 1.0),
        ]
    )
    journal.commit()
    opened.connection.close()
    found, left = own_live_specs(path, 0.0)
    assert (["waits"], ["held", "once", "array"]) == ([one.spec.id for one in found], left)


def test_after_a_power_cut(tmp_path: Path) -> None:
    """What is in the write-ahead log only is found too."""
    path = tmp_path / "leoronic.db"
    written(path, close=False)
    cut = tmp_path / "cut"
    cut.mkdir()
    for file in tmp_path.glob("leoronic.db*"):
        (cut / file.name).write_bytes(file.read_bytes())
    assert (cut / "leoronic.db-wal").stat().st_size > 0
    found, _ = own_live_specs(cut / "leoronic.db", 50.0)
    assert ["lives", "runs"] == [one.spec.id for one in found]


def test_damaged(tmp_path: Path) -> None:
    """Nothing is taken along of what is no database."""
    path = tmp_path / "leoronic.db"
    path.write_bytes(b"no database" * 1000)
    assert ([], []) == own_live_specs(path, 0.0)
