"""Files to the nodes, from tasks, and from the nodes: put, get, collect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from leoronic.client import text
from leoronic.client.bars import Bars
from leoronic.client.collecting import NodeFolder, folder_name, node_folder_around
from leoronic.client.connection import Client
from leoronic.client.context import (
    CommandError,
    complete_nodes,
    complete_tags,
    here,
    id_argument,
    lasting,
    node_options,
    note,
    say,
    say_json,
)
from leoronic.client.getting import Getting
from leoronic.core.commands import Nodes, Put
from leoronic.errors import LeoronicError, NodeUnreachable

FAILED = 1
PROBLEMS_SHOWN_MAX = 20


@contextlib.contextmanager
def _going_on(what: str) -> Iterator[None]:
    """Ctrl-C: say that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        note(what)
        raise


def _tell(problems: list[str], prefix: str = "", count: int = 0) -> None:
    """Problems to the standard error, one a line; of many only the first."""
    for problem in problems[:PROBLEMS_SHOWN_MAX]:
        note(f"{prefix}{text.one_line(problem)}")
    more = max(count, len(problems)) - PROBLEMS_SHOWN_MAX
    if more > 0:
        note(f"{prefix}and {text.count(more, 'problem')} more: --json has them")


# ---- put ----


@click.command("put")
@node_options
@click.option(
    "--tag",
    default="",
    metavar="TAG",
    help="To the nodes with this tag.",
    shell_complete=complete_tags,
)
@click.option("--all", "everywhere", is_flag=True, help="To all nodes, as without any of these.")
@click.option(
    "--node", default="", metavar="NODE", help="To this node.", shell_complete=complete_nodes
)
@click.option("--as", "name", default="", metavar="NAME", help="Its path there, of a single file.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
def put_command(
    *,
    root: str | None,
    as_json: bool,
    tag: str,
    everywhere: bool,
    node: str,
    name: str,
    files: tuple[str, ...],
) -> int:
    """Copy files into the working directories of nodes, in place of what has their names there.

    The bytes go to each node once; nodes fetch from each other. If a file cannot be read here,
    nothing is put. A node that is down, or has no room, is named, and the exit code is 1: the same
    command again sends it only what it lacks.

    \b
    leoronic put model.bin                       to all nodes
    leoronic put a.csv b.csv --tag gpu           to those with a tag
    leoronic put new.conf --as etc/app.conf --node attic
    """
    if [bool(tag), everywhere, bool(node)].count(True) > 1:
        raise click.UsageError(
            "say where once: --node, --tag or --all", click.get_current_context()
        )
    command = Put(list(files), here(), name, node, tag)
    told = "some nodes may have it already: put it again, they get only what they lack"
    with Bars(enabled=not as_json) as bars, _going_on(told):
        result = lasting(root, lambda client: _put(client, command, bars))
    _tell_left(result.get("left", ()))
    nodes: dict[str, Any] = result["nodes"]
    if as_json:
        say_json(result)
    else:
        say(_put_lines(result))
        for name_of, told in nodes.items():
            _tell(told["problems"], f"not on {text.one_line(name_of)}: ")
    return FAILED if any(told["problems"] for told in nodes.values()) else 0


def _tell_left(names: Iterable[str]) -> None:
    """To the standard error, which nodes are not meant by all nodes; that is no failure."""
    for name in names:
        note(f"not asked: {text.one_line(name)} has left")


def _put(client: Client, command: Put, bars: Bars) -> dict[str, Any]:
    stream = client.stream(command)
    for item, _ in stream:
        if "node" in item:
            bars.end("reading")
            bars.show(item["node"], item["done"], item["size"])
        else:
            bars.show("reading", item["stored"], item["size"])
    result: dict[str, Any] = stream.result
    return result


def _put_lines(result: dict[str, Any]) -> Iterator[str]:
    for file in result["files"]:
        names = [
            text.one_line(name)
            for name, told in result["nodes"].items()
            if file["name"] in told["placed"]
        ]
        to = ", ".join(names) or "no node"
        yield f"{text.one_line(file['name'])} ({text.size(file['size'])}) to {to}"


# ---- get ----


@click.command("get")
@node_options
@click.option("--replace", is_flag=True, help="Replace files that are there and differ.")
@id_argument
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False))
def get_command(root: str | None, as_json: bool, replace: bool, task_id: str, folder: str) -> int:
    """Get the files that a task left (its `outputs`), into DIR (else here). Prints their paths.

    They are on two nodes where there are two, so the one that ran it need not be there. What is in
    DIR already is not got again; what came in part goes on. A failed task may have left some too.

    \b
    leoronic get 3f2a
    leoronic get 3f2a results
    leoronic get 3f2a.17 results/17       of element 17 of an array
    """
    with Bars(enabled=not as_json) as bars, _going_on("what came is kept: get it again to go on"):
        getting = Getting(task_id, Path(folder), replace=replace, advance=_shower(bars))
        lasting(root, getting.go_on)
    paths = [str(Path(folder) / path) for path in getting.there]
    if as_json:
        say_json(getting.told | {"problems": getting.problems, "there": paths})
    else:
        say(map(text.one_line, paths))
        _tell(getting.problems)
        if not getting.told["files"] and not getting.problems:
            note(
                "it left no files: those that match `outputs` are kept "
                "(`leoronic submit --output 'GLOB'`)"
            )
    return FAILED if getting.problems else 0


def _shower(bars: Bars) -> Any:
    def show(path: str, done: int, size: int) -> None:
        if done < size:
            bars.show(path, done, size)
        else:
            bars.end(path)

    return show


# ---- collect ----


@click.command("collect")
@node_options
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
def collect_command(root: str | None, as_json: bool, folder: str) -> int:
    """Bring every node's working directory to DIR/NODE/..., without the nodes' own state.

    What is there already, with the same size and time, is not brought again; what came in part
    goes on. Nothing is removed from DIR. Links stay links; those that lead out of the node's
    directory are skipped, and named. Devices, files that change meanwhile, and nodes that are down
    are named, too; then the exit code is 1.

    \b
    leoronic collect ~/collected
    leoronic collect ~/collected          again: only what is new
    """
    around = node_folder_around(Path(folder))
    if around is not None:
        raise CommandError(
            f"{folder} is in the working directory of a node ({around}), and would be collected "
            "into itself: name a folder outside of it"
        )
    with Bars(enabled=not as_json) as bars, _going_on("what came is kept: collect again to go on"):
        found = _collect(root, Path(folder), bars)
    if as_json:
        say_json({"nodes": {one.name: _counts(one) for one in found}})
    else:
        for one in found:
            say([f"{one.name}: {_brought(one)}"])
            _tell(one.notes, f"{one.name}: ", one.note_count)
            _tell(one.problems, f"{one.name}: ", one.problem_count)
    return FAILED if any(one.problems for one in found) else 0


def _collect(root: str | None, folder: Path, bars: Bars) -> list[NodeFolder]:
    with Client(root) as client:
        known = client.request(Nodes())["nodes"]
    nodes = [node for node in known if node["state"] != "left"]
    _tell_left(node["name"] for node in known if node["state"] == "left")
    found: list[NodeFolder] = []
    for node in nodes:
        one = _node_folder(node, folder, bars)
        found.append(one)
        if node["state"] == "down":
            one.tell("it is down: collect again when it is back")
            continue
        try:
            lasting(root, one.go_on)
        except NodeUnreachable:
            raise
        except LeoronicError as error:
            one.tell(error.message)
        bars.end(one.name)
    return found


def _node_folder(node: dict[str, Any], folder: Path, bars: Bars) -> NodeFolder:
    name = folder_name(node)

    def show() -> None:
        bars.show(name, one.bytes, one.expected)

    one = NodeFolder(node["id"], name, folder, show)
    return one


def _brought(one: NodeFolder) -> str:
    came = f"{text.count(one.files, 'file')}, {text.size(one.bytes)}"
    return f"{came}; {one.unchanged:,} unchanged" if one.unchanged else came


def _counts(one: NodeFolder) -> dict[str, Any]:
    return {
        "files": one.files,
        "bytes": one.bytes,
        "unchanged": one.unchanged,
        "problems": one.problems,
        "notes": one.notes,
    }
