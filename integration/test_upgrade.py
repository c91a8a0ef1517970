"""Nodes of this version and of the next one work together, and nothing of either is lost."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from integration import next_version
from integration.command_line import data, told
from integration.harness import Node, wait_until
from integration.lab import lab
from integration.test_cluster import wait_meshed
from leoronic.core import commands


def kinds(node: Node) -> dict[str, int]:
    """How many entries of each kind it holds."""
    found: dict[str, int] = {}
    with sqlite3.connect(f"file:{node.database}?mode=ro", uri=True) as connection:
        for (body,) in connection.execute("SELECT body FROM entries"):
            kind = json.loads(body)["kind"]
            found[kind] = found.get(kind, 0) + 1
    return found


def test_two_versions(tmp_path: Path) -> None:
    """Tasks run on both, both can be restarted, and a third node gets all that either wrote."""
    with lab(tmp_path, "abc") as made:
        made.node("b", "--cpus", "1").environment.update(
            next_version.environment(tmp_path / "next")
        )
        made.start("a", "b", options=("--cpus", "1"))
        wait_meshed(made, "ab")
        a, b = made.nodes["a"], made.nodes["b"]
        assert {"a": "0.1.0", "b": next_version.VERSION} == {
            node["name"]: node["version"] for node in data(a, "nodes")["nodes"]
        }
        tasks = []
        for round_ in range(2):
            for node in (a, b):
                tasks += node.submit({"command": "sleep 0.3; yes | head -c 9000", "count": 3})
                tasks += node.submit(
                    *[{"command": "sleep 0.2", "labels": {"x": "y"}, "retries": 1}] * 3,
                    {"command": "exit 3"},
                )
            for node in (a, b):
                ended = node.wait(*tasks)
                assert {"succeeded", "failed"} == {task["state"] for task in ended}
                assert {"a", "b"} <= {task["node"] for task in ended}
            told(a, "tag", "add", f"t{round_}", "--node", "b")
            told(b, "tag", "add", f"t{round_}", "--node", "a")
            done = data(b, "exec", "--all", "--", "echo $LEORONIC_NODE")
            assert {"a": "a\n", "b": "b\n"} == {name: one["stdout"] for name, one in done.items()}
            if round_ == 0:
                for node in (a, b):
                    assert 0 == node.stop()
                    node.start()
                wait_meshed(made, "ab")
        assert "unknown" not in a.stderr.read_text().replace("unknown_", "")
        wait_until(
            lambda: kinds(a) == kinds(b) or None,
            "both hold the same",
            story=lambda: (kinds(a), kinds(b)),
        )
        assert kinds(a)[next_version.KIND] >= 8
        ignored = [e for e in a.events() if "newer version's message" in e["event"]]
        assert 1 <= len(ignored) <= 2 * 2  # told once in each life, not each time
        assert 0 == b.stop()
        made.start("c", options=("--cpus", "1"))
        wait_meshed(made, "ac")
        c = made.nodes["c"]
        wait_until(
            lambda: c.ask(commands.List(limit=500))["tasks"] and kinds(c) == kinds(a),
            "the third has everything",
            story=lambda: (kinds(a), kinds(c)),
        )
        assert {task: a.show(task)["state"] for task in tasks} == {
            task: c.show(task)["state"] for task in tasks
        }
