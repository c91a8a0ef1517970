"""The keeper, with real processes and real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEADLINE_S = 10.0
NODE = Path(__file__).with_name("keeper_node.py")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def kill(pid: int) -> None:
    # 0 and -1 would mean this test's own group, and everything.
    assert pid > 1, f"not a process to kill: {pid}"
    os.kill(pid, signal.SIGKILL)


class Node:
    """A running keeper_node.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: set[int] = set()
        self._commands = 0
        self.process = subprocess.Popen(
            [sys.executable, str(NODE), str(folder)],
            env={**os.environ, "PYTHONPATH": str(NODE.parent.parent)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.new_core(0)

    def pid(self, name: str) -> int:
        """The last known pid of keeper, core or hosted; 0 if it never was."""
        try:
            pid = int((self.folder / name).read_text())
        except FileNotFoundError:
            return 0
        self.seen.add(pid)
        return pid

    def new_core(self, old: int) -> int:
        wait_for(lambda: self.pid("core") not in {0, old}, "a new core")
        self.pid("hosted")
        self.pid("keeper")
        return self.pid("core")

    def new_keeper(self, old: int) -> int:
        wait_for(lambda: self.pid("keeper") not in {0, old}, "a new keeper")
        return self.pid("keeper")

    def kill(self, name: str) -> int:
        pid = self.pid(name)
        kill(pid)
        if pid == self.process.pid:
            self.process.wait(DEADLINE_S)
        wait_for(lambda: not alive(pid), f"the end of the killed {name}")
        return pid

    def command(self, text: str) -> Path:
        """Give the core a command; where its answer will be."""
        self._commands += 1
        new = self.folder / "command"
        new.write_text(text)
        new.rename(self.folder / f"do.{self._commands}")
        return self.folder / f"done.{self._commands}"

    def hosted_pid(self) -> int:
        """The host's pid, from the host itself, through the core."""
        answer = self.command("pid")
        wait_for(answer.exists, "an answer of the host")
        return int(answer.read_text())

    def everything_ended(self) -> bool:
        return not any(alive(pid) for pid in self.seen)

    def close(self) -> None:
        """Kill what is left, the keeper first."""
        for name in ("keeper", "core", "hosted"):
            pid = self.pid(name)
            if alive(pid):
                kill(pid)
        self.process.wait(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.close()


def test_term_stops_everything_in_order(node: Node) -> None:
    """TERM at the keeper stops core, hosts and keeper, which exits with 0."""
    node.process.terminate()
    assert node.process.wait(DEADLINE_S) == 0
    wait_for(node.everything_ended, "the end of all processes")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_stop_too(node: Node, number: signal.Signals) -> None:
    """INT and HUP are passed on as TERM."""
    node.process.send_signal(number)
    assert node.process.wait(DEADLINE_S) == 0
    wait_for(node.everything_ended, "the end of all processes")


def test_each_process_has_a_session_of_its_own(node: Node) -> None:
    """Ctrl-C in the keeper's terminal does not reach core and hosts."""
    assert len({os.getsid(node.pid(name)) for name in ("keeper", "core", "hosted")}) == 3


def test_a_killed_core_is_restarted_and_finds_its_host(node: Node) -> None:
    """kill -9 of the core: a new one runs soon, and takes the surviving host back."""
    hosted = node.pid("hosted")
    start = time.monotonic()
    old = node.kill("core")
    assert node.new_core(old) != old
    assert time.monotonic() - start < 2.0
    assert hosted == node.hosted_pid()
    assert node.pid("keeper") == node.process.pid


def test_a_killed_host_is_started_again(node: Node) -> None:
    """kill -9 of a host: its supervisor in the core has the keeper fork another."""
    old = node.kill("hosted")
    new = node.hosted_pid()
    node.seen.add(new)
    assert new != old
    node.process.terminate()
    assert node.process.wait(DEADLINE_S) == 0
    wait_for(node.everything_ended, "the end of all processes")


def test_a_core_that_keeps_dying_ends_the_keeper(node: Node) -> None:
    """Beyond the intensity the keeper prints the story and exits with 1."""
    core = 0
    for _ in range(3):
        core = node.new_core(core)
        node.kill("core")
    assert node.process.wait(DEADLINE_S) == 1
    assert node.process.stderr is not None
    # The surviving host holds the same stderr: it must end for this to be read to its end.
    node.kill("hosted")
    told = node.process.stderr.read()
    assert told.count("s ago core: was killed by signal 9") == 3


def test_an_escalation_ends_the_keeper(node: Node) -> None:
    """A core that gave up is not restarted; the keeper exits with 1."""
    node.command("escalate")
    assert node.process.wait(DEADLINE_S) == 1
    wait_for(node.everything_ended, "the end of all processes")


def test_a_killed_keeper_is_replaced_by_the_core(node: Node) -> None:
    """kill -9 of the keeper: core and host live on, and a new keeper restarts the core."""
    core, hosted = node.pid("core"), node.pid("hosted")
    adopting = node.new_keeper(node.kill("keeper"))
    assert alive(core)
    assert hosted == node.hosted_pid()
    node.kill("core")
    assert node.new_core(core) != core
    assert alive(adopting)
    assert hosted == node.hosted_pid()


def test_an_adopting_keeper_forks_hosts_and_stops_in_order(node: Node) -> None:
    """A keeper that adopted its core serves it, and on TERM everything stops without a restart."""
    core = node.pid("core")
    adopting = node.new_keeper(node.kill("keeper"))
    old = node.kill("hosted")
    new = node.hosted_pid()
    node.seen.add(new)
    assert new != old
    os.kill(adopting, signal.SIGTERM)
    wait_for(node.everything_ended, "the end of all processes")
    assert core == node.pid("core")


def test_an_adopting_keeper_knows_how_its_core_ended(node: Node) -> None:
    """A core that gave up is not restarted by the keeper that adopted it either."""
    core = node.pid("core")
    node.new_keeper(node.kill("keeper"))
    node.hosted_pid()
    node.command("escalate")
    wait_for(node.everything_ended, "the end of all processes")
    assert core == node.pid("core")


def test_the_replacement_is_replaced_too(node: Node) -> None:
    """A second keeper that is killed is followed by a third."""
    core = node.pid("core")
    first = node.kill("keeper")
    second = node.new_keeper(first)
    node.kill("keeper")
    third = node.new_keeper(second)
    assert len({first, second, third}) == 3
    assert alive(core)
    node.kill("core")
    assert node.new_core(core) != core


def test_keeper_and_core_killed_at_once(node: Node, tmp_path: Path) -> None:
    """A new start takes back the host that survived both."""
    hosted = node.pid("hosted")
    os.kill(node.process.pid, signal.SIGSTOP)
    kill(node.pid("core"))
    kill(node.process.pid)
    node.process.wait(DEADLINE_S)
    (tmp_path / "core").unlink()
    again = Node(tmp_path)
    try:
        assert hosted == again.hosted_pid()
        again.process.terminate()
        assert again.process.wait(DEADLINE_S) == 0
        wait_for(lambda: not alive(hosted), "the end of the host")
    finally:
        again.close()
