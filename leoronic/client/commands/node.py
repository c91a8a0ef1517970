"""Looking at nodes and changing them: start, status, nodes, tag, drain, stop."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

import click

from leoronic.client import cluster_text, render, text
from leoronic.client.connection import Client
from leoronic.client.context import (
    colour,
    complete_nodes,
    complete_tags,
    help_if_alone,
    node_options,
    note,
    say,
    say_json,
    width,
)
from leoronic.core.commands import Drain, Nodes, Status, Stop, TagAdd, TagDel, TagList

EXIT_S_MAX = 60.0


@click.command(
    "start",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def start_command(arguments: tuple[str, ...]) -> None:
    """Start a node here (also: `leoronic` alone)."""
    # Not a function call: the node must not carry this process's imports with it.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "leoronic", "start", *arguments])


@click.command(
    "ghost",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ghost_command(arguments: tuple[str, ...]) -> None:
    """Start a ghost here: it runs tasks, and holds no queue."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "leoronic.ghost", *arguments])


@click.command("status")
@node_options
def status_command(root: str | None, as_json: bool) -> None:
    """Show the node that answers, and how many tasks and nodes there are, by state.

    \b
    leoronic status
    leoronic status --json | jq .tasks.waiting
    """
    with Client(root) as client:
        answer = client.request(Status())
    if as_json:
        say_json(answer)
    else:
        say(render.status(answer, client.root, colour=colour()))


@click.command("nodes")
@node_options
def nodes_command(root: str | None, as_json: bool) -> None:
    """List the nodes: their state, and what is free of what they have.

    A node that is `suspect` was not heard of for 2.5 s; one that is `down`, by nobody for 5 s: its
    tasks are run elsewhere. One that `left` was stopped in order. Addresses where no node could be
    met follow, with the reason. A narrow terminal is shown fewer columns.

    \b
    leoronic nodes
    leoronic nodes --json | jq -r '.nodes[] | select(.state == "down") | .name'
    """
    with Client(root) as client:
        answer = client.request(Nodes())
    if as_json:
        say_json(answer)
    else:
        say(cluster_text.nodes(answer["nodes"], width=width(), colour=colour()))
        say(cluster_text.unreached(answer.get("unreached") or []))


@click.group("tag", invoke_without_command=True)
@click.pass_context
def tag_command(ctx: click.Context) -> int | None:
    """Add, delete or list a node's tags. Tasks ask for them by the condition `worker:tag TAG`.

    \b
    leoronic tag add gpu
    leoronic tag del gpu --node attic
    leoronic tag list
    """
    return help_if_alone(ctx)


_node_option = click.option(
    "--node", default="", metavar="NODE", help="Not the one asked.", shell_complete=complete_nodes
)
_tag_argument = click.argument("tag", metavar="TAG", shell_complete=complete_tags)


def _tags(root: str | None, as_json: bool, command: TagAdd | TagDel | TagList) -> None:
    with Client(root) as client:
        answer = client.request(command)
    if as_json:
        say_json(answer)
    elif isinstance(command, TagList):
        say(answer["tags"])


@tag_command.command("add")
@node_options
@_node_option
@_tag_argument
def tag_add(root: str | None, as_json: bool, node: str, tag: str) -> None:
    """Give a node a tag: `leoronic tag add gpu`."""
    _tags(root, as_json, TagAdd(tag, node))


@tag_command.command("del")
@node_options
@_node_option
@_tag_argument
def tag_del(root: str | None, as_json: bool, node: str, tag: str) -> None:
    """Take a tag from a node: `leoronic tag del gpu`."""
    _tags(root, as_json, TagDel(tag, node))


@tag_command.command("list")
@node_options
@_node_option
def tag_list(root: str | None, as_json: bool, node: str) -> None:
    """Print a node's tags, one a line: `leoronic tag list`."""
    _tags(root, as_json, TagList(node))


@click.command("drain")
@node_options
@click.option("--undo", is_flag=True, help="Let it start tasks again.")
@click.argument("node", default="", metavar="[NODE]", shell_complete=complete_nodes)
def drain_command(root: str | None, as_json: bool, undo: bool, node: str) -> None:
    """Start nothing more on a node (default: the one asked); what runs there ends.

    \b
    leoronic drain
    leoronic drain attic
    leoronic drain attic --undo
    """
    with Client(root) as client:
        answer: dict[str, Any] = client.request(Drain(node, undo))
    if as_json:
        say_json(answer)
    else:
        say(cluster_text.nodes([answer], width=width(), colour=colour()))


@click.command("stop")
@node_options
@click.option("--now", is_flag=True, help="End running tasks instead of waiting for them.")
def stop_command(root: str | None, as_json: bool, now: bool) -> None:
    """Drain this node, then stop it. Returns once it has stopped; tasks are kept.

    \b
    leoronic stop
    leoronic stop --now
    """
    with Client(root) as client:
        status = client.request(Status())
        process = os.pidfd_open(status["node"]["pid"])
        number = client.send(Stop(now))
        # Of the whole cluster `tasks` tells; what runs on other nodes goes on.
        running = status["node"].get("running", 0)
        if running and not now:
            them = "it" if running == 1 else "them"
            note(
                f"waiting for {text.count(running, 'running task')} "
                f"(`leoronic stop --now` ends {them})"
            )
        answer = client.next_answer({number}).result()
        client.wait_closed()
    # The socket is closed first: the node is gone, and may be started again, only after that.
    select.select([process], [], [], EXIT_S_MAX)
    os.close(process)
    if as_json:
        say_json(answer)
