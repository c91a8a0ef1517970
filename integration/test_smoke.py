"""One real node: it starts, does three kinds of work, and stops."""

from __future__ import annotations

import json

from integration.conftest import StartNode
from integration.harness import wait_until


def test_a_node_does_its_job(start_node: StartNode) -> None:
    """A task from the socket, a graph with an array in it, a file in the inbox; then it stops."""
    node = start_node("--cpus", "4")
    ended = node.run("echo hello; echo oops >&2; exit 3")
    assert ("failed", 3) == (ended["state"], ended["exit_code"])
    assert b"hello\n" == node.output(ended["id"])
    assert b"oops\n" == node.output(ended["id"], "stderr")

    array, total = node.submit(
        {"id": "squares", "command": "echo $((LEORONIC_INDEX ** 2)) > sq.$LEORONIC_INDEX",
         "count": 10, "cpus": 0.1},
        {"command": "cat sq.* | sort -n | tail -1", "after": ["squares"]},
    )  # fmt: skip
    assert ["succeeded", "succeeded"] == [task["state"] for task in node.wait(array, total)]
    assert b"81\n" == node.output(total)

    hidden = node.inbox / ".dropped"
    hidden.write_text(json.dumps({"id": "dropped", "command": "cat", "stdin": "by file"}))
    hidden.rename(node.inbox / "dropped.json")
    wait_until((node.inbox / "accepted" / "dropped.json").exists, "the file is accepted")
    assert "succeeded" == node.wait("dropped")[0]["state"]
    assert b"by file" == node.output("dropped")

    node.terminate()
    assert 0 == node.wait_stopped()
