#!/usr/bin/env python3
"""A node at work, from nothing, in a few seconds: `make demo`.

Starts a node in a temporary folder and gives it work through every door: shell functions, the
inbox, the command line. Then checks each result: state, output and order. Exits with 0 only if
all are right. The node is stopped and its folder removed whatever happens.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leoronic.client import Client, table, text
from leoronic.client.outcomes import ENDED, how_it_ended
from leoronic.core.commands import Logs, Show, Wait
from leoronic.errors import NodeUnreachable

START_S_MAX = 10.0
WORK_S_MAX = 15.0
STOP_S_MAX = 5.0
ELEMENTS = 200
COLOUR = text.wants_colour(sys.stdout)

# The original's first task, one that waits for it, and one full of quotes.
SHELL = r"""source leoronic_utilities
leoronic_add_task 1024 1 1024 false "" "" "echo hello world"
leoronic_add_task 1024 1 1024 true "queue:all_with_cmd_done hello" "" "echo the greeting is over"
leoronic_add_task 512M 0.5 0 true "" "" "printf '%s\n' \"it's\" 'a \"quoted\" \$word'"
"""

INBOX = {"id": "dropped", "command": "sort -r", "stdin": "1\n2\n3\n"}

ARRAY = "echo $((LEORONIC_INDEX * LEORONIC_INDEX))"

GRAPH: dict[str, Any] = {
    "defaults": {"cpus": 0.5},
    "tasks": [
        {"id": "harvest", "command": "seq 1 100 > apples"},
        {"id": "count", "command": "wc -l < apples", "after": ["harvest"]},
        {"id": "weigh", "command": "awk '{ sum += $1 } END { print sum }' apples",
         "after": ["harvest"]},
        {"id": "sell", "command": "echo sold", "after": ["count", "weigh"]},
        {"id": "storm", "command": "echo hail >&2; exit 3"},
        {"id": "repair", "command": "echo repaired", "after": [{"id": "storm", "when": "failed"}]},
        {"id": "picnic", "command": "echo lovely", "after": ["storm"]},
    ],
}  # fmt: skip

# task: (state, standard output)
EXPECTED = {
    "dropped": ("succeeded", "3\n2\n1\n"),
    "harvest": ("succeeded", ""),
    "count": ("succeeded", "100\n"),
    "weigh": ("succeeded", "5050\n"),
    "sell": ("succeeded", "sold\n"),
    "storm": ("failed", ""),
    "repair": ("succeeded", "repaired\n"),
    "picnic": ("blocked", ""),
}

# (earlier, later): the later task must not have started before the earlier one ended.
ORDER = [
    ("hello", "greeted"),
    ("harvest", "count"),
    ("harvest", "weigh"),
    ("count", "sell"),
    ("weigh", "sell"),
    ("storm", "repair"),
]


class DemoError(Exception):
    """The demonstration cannot go on."""


def title(line: str) -> None:
    print(f"\n{text.paint(line, 'title', COLOUR)}")


def shown(command: str) -> None:
    for line in command.strip().splitlines():
        print(f"  {text.paint('$', 'dim', COLOUR)} {line}")
    sys.stdout.flush()


def run(command: str, environment: dict[str, str], stdin: str = "") -> list[str]:
    """Run a command as a user would type it. Returns the lines that it printed."""
    done = subprocess.run(
        ["bash", "-c", command],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=WORK_S_MAX,
    )
    if done.returncode:
        raise DemoError(f"that ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.split()


@contextlib.contextmanager
def node(root: Path) -> Iterator[Client]:
    """A node in `root`, stopped in the end."""
    with (root / "node.out").open("wb") as out, (root / "node.log").open("wb") as log:
        process = subprocess.Popen(
            ["leoronic", "start", "--root", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            # Ctrl-C is for this script, which then stops the node in order.
            start_new_session=True,
        )
    try:
        with reached(root, process) as client:
            yield client
    finally:
        stop(root, process)


def reached(root: Path, process: subprocess.Popen[bytes]) -> Client:
    deadline = time.monotonic() + START_S_MAX
    while True:
        try:
            return Client(str(root))
        except NodeUnreachable as error:
            if process.poll() is not None:
                raise DemoError(f"the node ended at once with {process.returncode}") from None
            if time.monotonic() > deadline:
                raise DemoError(f"no node after {START_S_MAX:.0f} s: {error.message}") from None
            time.sleep(0.02)


def stop(root: Path, process: subprocess.Popen[bytes]) -> None:
    """In order, else by force: nothing of the node is left."""
    subprocess.run(
        ["leoronic", "stop", "--now", "--root", str(root)],
        check=False,
        stderr=subprocess.DEVNULL,
        timeout=STOP_S_MAX,
    )
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            process.wait(STOP_S_MAX)
            return
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
    process.wait(STOP_S_MAX)


def add_work(root: Path) -> tuple[dict[str, str], str]:
    """Everything through its door. Returns {name in this script: id}, and the array's id."""
    environment = os.environ | {"LEORONIC_ROOT": str(root)}

    title("Three tasks from the shell")
    shown(SHELL)
    hello, greeted, quoted = run(SHELL, environment)
    print(f"  {hello} {greeted} {quoted}")

    title("A file dropped into the inbox")
    drop = "mv task.json inbox/"
    shown(f"cat task.json; {drop}")
    print(f"  {json.dumps(INBOX)}")
    (root / "task.json").write_text(json.dumps(INBOX))
    run(f"cd {root} && {drop}", environment)

    title(f"An array of {ELEMENTS} elements")
    command = f"leoronic submit --count {ELEMENTS} --cpus 0.1 -- '{ARRAY}'"
    shown(command)
    (array,) = run(command, environment)
    print(f"  {array}")

    title("A small graph: who waits for whom is in its `after`")
    shown("leoronic submit -f graph.json")
    (root / "graph.json").write_text(json.dumps(GRAPH))
    ids = run(f"leoronic submit -f {root}/graph.json", environment)
    print(f"  {' '.join(ids)}")

    names = {"hello": hello, "greeted": greeted, "quoted": quoted, "dropped": "dropped"}
    return names | {task_id: task_id for task_id in ids}, array


def accepted(root: Path) -> None:
    """Wait until the inbox has taken the file: its task has an id only then."""
    deadline = time.monotonic() + START_S_MAX
    while not (root / "inbox" / "accepted" / "task.json").exists():
        if time.monotonic() > deadline:
            there = sorted(str(p.relative_to(root)) for p in (root / "inbox").rglob("*"))
            raise DemoError(f"the inbox did not accept the file; it holds {there}")
        time.sleep(0.02)


def wait(client: Client, ids: list[str]) -> dict[str, dict[str, Any]]:
    """The tasks, once all have ended. A bar on a terminal meanwhile, else a line now and then."""
    title("At work")
    total = len(ids) - 1 + ELEMENTS
    elements_done = 0
    ended: set[str] = set()
    told = 0
    stream = client.stream(Wait(ids, WORK_S_MAX))
    for item, _ in stream:
        if item["state"] in (*ENDED, "blocked"):
            ended.add(item["id"])
        progress = item.get("progress")
        if isinstance(progress, dict):
            elements_done = progress["done"]
        done = min(len(ended) + elements_done, total)
        if sys.stdout.isatty():
            filled = 40 * done // total
            print(f"\r  {'#' * filled}{'.' * (40 - filled)} {done}/{total}", end="", flush=True)
        elif done * 4 // total > told:
            told = done * 4 // total
            print(f"  {done}/{total} done", flush=True)
    if sys.stdout.isatty():
        print(f"\r  {'#' * 40} {total}/{total}")
    if stream.result["timed_out"]:
        raise DemoError(f"the work was not done within {WORK_S_MAX:.0f} s")
    return {task["id"]: task for task in stream.result["tasks"]}


def printed(client: Client, ids: list[str]) -> list[str]:
    """What each task printed; all asked for at once."""
    numbers = [client.send(Logs(task_id)) for task_id in ids]
    outputs = []
    for number in numbers:
        output = b""
        while not (answer := client.next_answer({number})).last:
            output += answer.blob
        answer.result()
        outputs.append(output.decode())
    return outputs


def moment(task: dict[str, Any], field: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(task[field])


def check(client: Client, names: dict[str, str], array: str) -> bool:
    """Print every result beside what is expected. Whether all are right."""
    expected = EXPECTED | {
        "hello": ("succeeded", "hello world\n"),
        "greeted": ("succeeded", "the greeting is over\n"),
        "quoted": ("succeeded", 'it\'s\na "quoted" $word\n'),
    }
    tasks = {name: client.request(Show(task_id)) for name, task_id in names.items()}
    outputs = dict(zip(names, printed(client, list(names.values())), strict=True))
    rows, verdicts = [], []
    for name, task in tasks.items():
        state, output = expected[name]
        right = task["state"] == state and outputs[name] == output
        what = outputs[name].rstrip("\n") or how_it_ended(task) or task.get("reason") or ""
        rows.append((name, task["state"], what, "ok" if right else f"expected {state} {output!r}"))
        verdicts.append(right)

    found = client.request(Show(array))
    squares = printed(client, [f"{array}.{index}" for index in range(ELEMENTS)])
    right = found["elements"].get("succeeded") == ELEMENTS and squares == [
        f"{index * index}\n" for index in range(ELEMENTS)
    ]
    what = f"{ELEMENTS} squares, the last is {squares[-1].strip()}"
    rows.append(("array", found["state"], what, "ok" if right else str(found["elements"])))
    verdicts.append(right)

    for earlier, later in ORDER:
        right = moment(tasks[earlier], "finished_at") <= moment(tasks[later], "started_at")
        rows.append((f"{later} after {earlier}", "", "", "ok" if right else "too early"))
        verdicts.append(right)

    title("Results")
    columns = [
        table.Column("TASK"),
        table.Column("STATE", states=True),
        table.Column("OUTPUT", shrink=True),
        table.Column("AS EXPECTED"),
    ]
    width = shutil.get_terminal_size().columns - 2
    for line in table.render(columns, rows, width=width, colour=COLOUR):
        print(f"  {line}")
    return all(verdicts)


def main() -> int:
    """0 only if every result is right."""
    started = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="leoronic-demo-"))
    try:
        title("A node, in a folder of its own")
        shown(f"leoronic start --root {root} &")
        with node(root) as client:
            took = time.monotonic() - started
            for line in (root / "node.out").read_text().splitlines():
                print(line)
            print(f"  ready after {text.duration(took)}")
            names, array = add_work(root)
            accepted(root)
            wait(client, [*names.values(), array])
            right = check(client, names, array)
        verdict = "Every result is right" if right else "SOME RESULTS ARE WRONG"
        colour = "succeeded" if right else "failed"
        took = time.monotonic() - started
        print(f"\n{text.paint(verdict, colour, COLOUR)}, after {text.duration(took)}.")
        return 0 if right else 1
    except (DemoError, NodeUnreachable, subprocess.TimeoutExpired) as error:
        log = (root / "node.log").read_text(errors="replace") if root.exists() else ""
        print(f"\nleoronic demo: {error}\nThe node's log ends with:", file=sys.stderr)
        print("\n".join(log.splitlines()[-20:]), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
