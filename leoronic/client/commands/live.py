"""What goes on now: watch and top."""

from __future__ import annotations

import sys

import click

from leoronic.client import render
from leoronic.client.context import colour, connected, node_options, note, say_json
from leoronic.core.commands import Watch
from leoronic.errors import NodeUnreachable


@click.command("watch")
@node_options
def watch_command(root: str | None, as_json: bool) -> None:
    """Print a line whenever a task changes. Goes on through a restart of the node.

    \b
    leoronic watch
    leoronic watch --json | jq 'select(.state == "failed")'
    """
    for client in connected(root, patience_s=float("inf")):
        try:
            for item, _ in client.stream(Watch()):
                if as_json:
                    say_json(item)
                else:
                    print(render.change(item, colour=colour()))
                sys.stdout.flush()
            # A node that stops in order ends the stream; it may be started again.
            raise NodeUnreachable("the node has stopped")
        except NodeUnreachable:
            note("the node went away: waiting for it to come back; changes meanwhile are not shown")


@click.command("top")
@node_options
@click.option("--once", is_flag=True, help="Print it once; so it is where there is no terminal.")
def top_command(root: str | None, as_json: bool, once: bool) -> None:
    """Live view of the node: what runs, what waits, what has just ended.

    Keys: q quits; Tab goes to the next list; arrows, Page Up and Page Down move in it.

    \b
    leoronic top
    leoronic top --once --json
    """
    from leoronic.client import top  # noqa: PLC0415 (brings rich, which only this command pays for)

    if as_json or once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        top.print_once(root, as_json=as_json)
    else:
        top.run(root)
