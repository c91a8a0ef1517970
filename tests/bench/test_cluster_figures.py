"""What the cluster's benchmark makes of what it sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.bench import ground, sizes
from integration.bench.ground import Ground
from integration.bench.healing import longest_pause
from integration.bench.install import Unavailable
from integration.bench.scale import Size
from integration.lab import Lab
from integration.large import Large, count_links, names


class StillLab(Lab):
    """Machines without a network."""

    def pull(self, name: str) -> None:
        """Nothing is there to pull."""


@pytest.fixture
def still(tmp_path: Path) -> Ground:
    return Ground(StillLab(tmp_path, "abc"), tmp_path)


def test_the_longest_pause_counts_the_ends_of_the_time_too(tmp_path: Path) -> None:
    """Nothing at all for the whole time is the longest pause; order does not matter."""
    path = tmp_path / "ends"
    path.write_text("12.0\n11.0\n3.0\n99.0\n")
    assert 8.0 == longest_pause(path, 10.0, 20.0)
    assert 10.0 == longest_pause(path, 20.0, 30.0)


def test_where_tasks_ran_is_read_from_their_lines(still: Ground) -> None:
    """In the order in which they started."""
    still.runs.write_text("c 1\nc 2\nb 1\n")
    assert {"1": ["c", "b"], "2": ["c"]} == still.where()


def test_the_clock_stops_when_all_have_started_elsewhere(still: Ground) -> None:
    """One that has not is waited for, and not for ever."""
    still.runs.write_text("c 1\nb 1\nc 2\na 2\n")
    assert still.pull("c", 0.0) < 1.0
    still.runs.write_text("c 1\nb 1\nc 2\nc 2\n")
    with pytest.raises(Unavailable, match="not within 0 s"):
        still.pull("c", 0.0)


def test_a_round_is_worth_nothing_if_tasks_began_elsewhere(still: Ground) -> None:
    """All must run on the machine that is going to be lost."""
    still.runs.write_text("c 1\nb 2\n")
    with pytest.raises(Unavailable, match="not on c"):
        still.wait_running(2, "c", 0.0)
    with pytest.raises(Unavailable, match="2 of 3"):
        still.wait_running(3, "c", 0.0)


def test_traffic_is_told_from_the_machine_s_side() -> None:
    """What the bridge receives, the machine has sent; other interfaces do not count."""
    told = (
        "Inter-|   Receive                            |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n"
        "    lo:  500  1 0 0 0 0 0 0  500  1 0 0 0 0 0 0\n"
        "   p-a: 1000  9 0 0 0 0 0 0 2000  8 0 0 0 0 0 0\n"
    )
    assert {"a": (1000, 2000)} == ground.parse_counters(told)


def test_each_of_many_is_told_of_two_before_it(tmp_path: Path) -> None:
    """The first of nobody, the second of one."""
    made = Large(tmp_path, names(4))
    assert ((), ("--peer", "10.77.0.1")) == (made._peers("n01"), made._peers("n02"))
    assert ("--peer", "10.77.0.3", "--peer", "10.77.0.2") == made._peers("n04")


def test_sizes_are_a_table() -> None:
    """A row for each size."""
    lines = sizes.markdown([Size(2, 260.0, 260.0, 46.0, 0.2, 1.0)]).splitlines()
    assert 3 == len(lines)
    assert "| 2 " in lines[2]
    assert "46.0" in lines[2]


def test_links_are_established_connections_of_a_peer_port() -> None:
    """At either end; those that listen, or have another port, do not count."""
    told = (
        "  sl  local_address rem_address   st\n"
        "   0: 0100000A:5834 00000000:0000 0A 0\n"
        "   1: 0100000A:5834 0200000A:9C40 01 0\n"
        "   2: 0100000A:9C41 0300000A:5834 01 0\n"
        "   3: 0100000A:9C41 0300000A:5834 06 0\n"
        "   4: 0100000A:9C42 0300000A:0016 01 0\n"
    )
    assert 2 == count_links(told)
