"""`get` and `collect` for programs: files brought here, and what became of it as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leoronic.client.collecting import NodeFolder, folder_name, node_folder_around
from leoronic.client.connection import Client
from leoronic.client.getting import Getting
from leoronic.core.commands import Nodes
from leoronic.errors import BadRequest, LeoronicError, NodeUnreachable


def get(client: Client, task_id: str, folder: Path, *, replace: bool) -> dict[str, Any]:
    """The files that a task left, to `folder`: as `leoronic get --json` tells of it."""
    getting = Getting(task_id, folder, replace=replace)
    getting.go_on(client)
    there = [str(folder / path) for path in getting.there]
    return getting.told | {"problems": getting.problems, "there": there}


def collect(client: Client, folder: Path) -> dict[str, Any]:
    """Every node's working directory, to `folder`/NODE: {"nodes": {name: counts, problems}}.

    Raises `BadRequest` for a folder inside of a node's.
    """
    around = node_folder_around(folder)
    if around is not None:
        raise BadRequest(f"{folder} is in the working directory of a node ({around})")
    found = [
        _collected(client, node, folder)
        for node in client.request(Nodes())["nodes"]
        if node["state"] != "left"
    ]
    return {
        "nodes": {
            one.name: {
                "files": one.files,
                "bytes": one.bytes,
                "unchanged": one.unchanged,
                "problems": one.problems,
            }
            for one in found
        }
    }


def _collected(client: Client, node: dict[str, Any], folder: Path) -> NodeFolder:
    one = NodeFolder(node["id"], folder_name(node), folder)
    if node["state"] == "down":
        one.tell("it is down: collect again when it is back")
        return one
    try:
        one.go_on(client)
    except NodeUnreachable:
        raise
    except LeoronicError as error:
        one.tell(error.message)
    return one
