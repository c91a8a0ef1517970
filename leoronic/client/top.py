"""`leoronic top`: the live view. Draws with rich, reads keys, asks the node once a second.

With several nodes there is a line for each, and the gauges show all of them together.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from leoronic.client import render, table, text
from leoronic.client.cluster_text import GONE, node_counts, node_note, number
from leoronic.client.connection import Client
from leoronic.client.context import RECONNECT_PAUSE_S, say_json
from leoronic.client.outcomes import how_it_ended
from leoronic.client.snapshot import Snapshot
from leoronic.client.table import Column
from leoronic.core.commands import Watch
from leoronic.errors import Unavailable

POLL_INTERVAL_S = 1.0
DRAW_INTERVAL_S = 0.25
COLOURS = {
    "succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan",
    "blocked": "magenta", "held": "blue", "up": "green", "suspect": "yellow",
    "draining": "yellow", "down": "red", "left": "dim",
}  # fmt: skip
KEYS = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\x1b[H": "home", "k": "up", "j": "down", "\t": "next", "q": "quit", "\x03": "quit",
}  # fmt: skip
LISTS = ("running", "waiting", "ended")
_NODE_COLUMNS = (
    Column("NODE", shrink=True),
    Column("STATE", states=True),
    Column("CPUS", right=True),
    Column("MEMORY", right=True),
    Column("RUNNING", right=True),
    Column("NOTE", shrink=True),
)


class View:
    """What of a snapshot is on the screen: which list the keys move, and how far."""

    def __init__(self) -> None:
        self.active = 0
        self.offsets = dict.fromkeys(LISTS, 0)

    def press(self, key: str, page: int) -> bool:
        """Act on a key. False if it asks to quit."""
        name = LISTS[self.active]
        moves = {"up": -1, "down": 1, "page up": -page, "page down": page}
        if key == "next":
            self.active = (self.active + 1) % len(LISTS)
        elif key == "home":
            self.offsets[name] = 0
        elif key in moves:
            self.offsets[name] = max(0, self.offsets[name] + moves[key])
        return key != "quit"

    def draw(self, snapshot: Snapshot, now: float, width: int, height: int) -> Group:
        """Exactly `height` lines at most, whatever there is."""
        # The rest of the header, the headings of the lists and the last line need theirs.
        nodes_max = max(0, min(height // 3, height - 5 - len(LISTS)))
        header = _header(snapshot, width, nodes_max)
        lists = {
            "running": snapshot.running,
            "waiting": snapshot.waiting,
            "ended": snapshot.newest_ended(),
        }
        rows = share(height - len(header) - 1, [len(found) for found in lists.values()])
        parts: list[Any] = [*header]
        for index, (name, found) in enumerate(lists.items()):
            self.offsets[name] = min(self.offsets[name], max(0, len(found) - rows[index]))
            start = self.offsets[name]
            shown = found[start : start + rows[index]]
            total = snapshot.status.get("tasks", {}).get(name, len(found))
            parts.append(_heading(name, total, start, index == self.active, width))
            if shown:
                parts.append(_rows(name, shown, now, width, len(snapshot.nodes) > 1))
        parts.append(Text("q quit   Tab next list   arrows move", style="dim", no_wrap=True))
        return Group(*parts)


def share(lines: int, wanted: Sequence[int]) -> list[int]:
    """Rows for each list out of `lines`, each list's heading taken off; the short ones first."""
    left = max(0, lines - len(wanted))
    rows = [0] * len(wanted)
    for place, index in enumerate(sorted(range(len(wanted)), key=lambda i: wanted[i])):
        rows[index] = min(wanted[index], left // (len(wanted) - place))
        left -= rows[index]
    return rows


def _header(snapshot: Snapshot, width: int, nodes_max: int) -> list[Any]:
    node, here = snapshot.status.get("node", {}), snapshot.here()
    several = len(snapshot.nodes) > 1
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(text.one_line(node.get("name", "...")), style="bold")
    title.append(f"  up for {text.duration(node.get('uptime_s'))}" if node else "  connecting")
    if snapshot.lost:
        title.append("  no answer: waiting for the node to come back", style="bold red")
    lines: list[Any] = [title]
    used = snapshot.whole() if several else here
    lines += [
        _gauge(name, used, shown, width)
        for name, shown in (("cpus", text.number), ("memory", text.size))
        if used.get(name)
    ]
    if here.get("cpu_percent") is not None and not several:
        lines.append(_machine(here))
    tally = Text("tasks    ", no_wrap=True, overflow="ellipsis")
    found = snapshot.status.get("tasks", {})
    for state in (s for s in render.STATES if found.get(s)):
        tally.append(f"{found[state]:,} ")
        tally.append(f"{state}  ", style=COLOURS.get(state, ""))
    lines.append(tally)
    return lines + _nodes(snapshot.nodes, width, nodes_max) if several else lines


def _nodes(nodes: Sequence[Mapping[str, Any]], width: int, lines_max: int) -> list[Text]:
    """A line for each node, those in trouble first; at most `lines_max` lines."""
    order = sorted(nodes, key=lambda node: node["state"] == "up")
    shown = order if len(order) <= lines_max else order[: max(0, lines_max - 1)]
    rows = [_node_row(node) for node in shown]
    found = table.render(_NODE_COLUMNS, rows, width=width, colour=True)[1:]
    lines = [Text.from_ansi(line, no_wrap=True, overflow="ellipsis") for line in found]
    rest = [node["state"] for node in order[len(shown) :]]
    if rest and lines_max:
        told = node_counts({state: rest.count(state) for state in rest}, colour=False)
        more = text.count(len(rest), "more node")
        lines.append(Text(f"and {more}: {told}", style="dim", no_wrap=True, overflow="ellipsis"))
    return lines


def _node_row(node: Mapping[str, Any]) -> tuple[str, ...]:
    note = node_note(node) or ", ".join(node.get("tags") or [])
    if node["state"] in GONE:
        return (node["name"], node["state"], "", "", "", note)
    running = number(node.get("running"))
    return (
        node["name"],
        node["state"],
        f"{_used(node, 'cpus', text.number)} cpus",
        _used(node, "memory", text.size),
        f"{running} running" if running else "",
        note,
    )


def _used(node: Mapping[str, Any], name: str, shown: Any) -> str:
    """`1.5 of 2`; of a node that has not told yet what is free, just what it has."""
    whole, free = node.get(name) or 0, (node.get("free") or {}).get(name)
    if free is None:
        return str(shown(whole))
    return f"{shown(max(0, whole - free)) or '0'} of {shown(whole)}"


def _machine(node: Mapping[str, Any]) -> Text:
    """What the machine itself does, tasks and all else."""
    return Text(
        f"machine  cpu {node['cpu_percent']:.0f} %, load {node.get('load', 0):g}, "
        f"memory {node.get('memory_percent', 0):.0f} %",
        no_wrap=True,
        overflow="ellipsis",
    )


def _gauge(name: str, node: Mapping[str, Any], shown: Any, width: int) -> Table:
    whole = node[name]
    used = max(0, whole - (node.get("free") or {}).get(name, whole))
    line = Table.grid(padding=(0, 1))
    line.add_row(
        f"{name:<8}",
        ProgressBar(total=whole, completed=used, width=max(10, min(40, width - 45))),
        Text(f"{shown(used) or '0'} of {shown(whole)} in use", no_wrap=True),
    )
    return line


def _heading(name: str, total: int, start: int, active: bool, width: int) -> Text:
    label = f" {'newest waiting' if name == 'waiting' else name}: {total:,}"
    if start:
        label += f" (from {start + 1})"
    return Text(label.ljust(width)[:width], style="reverse bold" if active else "reverse dim")


def _rows(
    name: str, tasks: Sequence[Mapping[str, Any]], now: float, width: int, several: bool
) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), expand=False)
    for justify, ratio in (("left", None), ("left", None), ("right", None), ("right", None)):
        grid.add_column(justify=justify, ratio=ratio, no_wrap=True)  # type: ignore[arg-type]
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=max(10, width - 46))
    for task in tasks:
        state = task["state"]
        if name == "waiting":
            age, cpu = text.ago(task.get("submitted_at"), now), ""
        else:
            age = text.duration(render.took_s(task, now))
            cpu = text.duration(task.get("cpu_seconds"))
        what = [task.get("name") or "", render.command_of(task)]
        if task.get("elements"):
            what.insert(0, render.progress(task))
        if name == "ended":
            what.insert(0, how_it_ended(task, brief=True))
        if several and task.get("node"):
            what.insert(0, f"on {task['node']}")
        grid.add_row(
            Text(text.one_line(task["id"])),
            Text(state, style=COLOURS.get(state, "")),
            age,
            f"{cpu} cpu" if cpu else "",
            Text(text.one_line("  ".join(part for part in what if part))),
        )
    return grid


def print_once(root: str | None, *, as_json: bool) -> None:
    """The view as it is now, to the standard output."""
    snapshot = Snapshot()
    with Client(root) as client:
        snapshot.poll(client)
        snapshot.seed_ended(client)
    if as_json:
        say_json(snapshot.as_data())
        return
    console = Console(highlight=False, no_color=not text.wants_colour(sys.stdout))
    size = console.size
    console.print(View().draw(snapshot, time.time(), size.width, size.height))


def run(root: str | None) -> None:
    """The live view, until somebody presses q. The first connection must succeed."""
    snapshot, view = Snapshot(), View()
    console = Console(highlight=False, no_color=not text.wants_colour(sys.stdout))
    feed = _Feed(root, snapshot)
    with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            feed.tick()
            size = console.size
            live.update(view.draw(snapshot, time.time(), size.width, size.height), refresh=True)
            for key in keys.read(DRAW_INTERVAL_S):
                if not view.press(key, page=max(1, size.height // 3)):
                    return


class _Feed:
    """Keeps a snapshot fresh, over as many connections as that takes."""

    def __init__(self, root: str | None, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._client: Client | None = Client(root)
        self._root = self._client.root
        self._watching: int | None = None
        self._next_poll = 0.0

    def tick(self) -> None:
        """Take what has arrived; ask again when it is time."""
        now = time.monotonic()
        try:
            if self._client is None:
                if now < self._next_poll:
                    return
                self._next_poll = now + RECONNECT_PAUSE_S
                self._client = Client(self._root)
            self._advance(self._client, now)
        except Unavailable:
            self._snapshot.lost = True
            if self._client is not None:
                self._client.close()
            self._client = self._watching = None

    def _advance(self, client: Client, now: float) -> None:
        if self._watching is None:
            self._snapshot.seed_ended(client)
            self._watching = client.send(Watch())
            self._next_poll = 0.0
        while (answer := client.next_answer({self._watching}, now)) is not None:
            if answer.last:
                answer.result()
                raise Unavailable("the node has stopped")
            self._snapshot.take_change(answer.value)
        if now >= self._next_poll:
            self._snapshot.poll(client)
            self._next_poll = now + POLL_INTERVAL_S


class _Keys:
    """Keys of the terminal, as names."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, timeout_s: float) -> list[str]:
        """What was pressed within `timeout_s`."""
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return []
        return list(parse_keys(os.read(self._descriptor, 1024).decode(errors="replace")))


def parse_keys(typed: str) -> Iterator[str]:
    """Names of the known keys in what a terminal sent."""
    position = 0
    while position < len(typed):
        for sequence, name in KEYS.items():
            if typed.startswith(sequence, position):
                yield name
                position += len(sequence)
                break
        else:
            position += 1


@contextlib.contextmanager
def _keys() -> Iterator[_Keys]:
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield _Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
