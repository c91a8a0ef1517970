"""Answers of a node as lines of text, one function for each kind of answer."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from leoronic.client import table, text
from leoronic.client.cluster_text import node_counts
from leoronic.client.outcomes import ENDED, how_it_ended
from leoronic.client.table import Column

STATES = ("waiting", "running", "blocked", "held", "succeeded", "failed", "cancelled")
CSV_FIELDS = (
    "id", "name", "state", "command", "submitted_at", "started_at", "finished_at", "origin",
    "node", "attempt", "exit_code", "reason", "peak_memory", "cpu_seconds", "stdout_bytes",
    "stderr_bytes",
)  # fmt: skip

FAILED_RANGES_MAX = 20

_TASK_COLUMNS = (
    Column("ID", whole=True),
    Column("STATE", states=True, whole=True),
    Column("ADDED", drop=1),
    Column("TOOK", right=True, drop=2),
    Column("NODE", drop=4),
    Column("NOTE", shrink=True),
    Column("NAME", shrink=True, drop=3),
    Column("COMMAND", shrink=True),
)
# Shown in another form, or of no use to a person.
_HANDLED = {
    *CSV_FIELDS, "after", "attempts", "elements", "count", "order", "signal", "index", "reasons",
    "failed_elements", "stragglers", "files", "outputs", "output_problems",
}  # fmt: skip
# What a task has unless it asks for something else: not worth a line.
_USUAL = {"concurrent": True, "workdir": "shared", "on_loss": "retry", "retry_delay": 1.0}

Task = Mapping[str, Any]


def command_of(task: Task) -> str:
    """The command as one text; a list of lines is joined."""
    command = task.get("command") or ""
    return command if isinstance(command, str) else "\n".join(command)


def tasks(found: Iterable[Task], now: float, *, width: int | None, colour: bool) -> list[str]:
    """A table of tasks, in the order given."""
    rows = [
        (
            task["id"],
            task["state"],
            text.ago(task.get("submitted_at"), now),
            text.duration(took_s(task, now)),
            task.get("node") or "",
            _list_note(task),
            task.get("name") or "",
            command_of(task).strip(),
        )
        for task in found
    ]
    return table.render(_TASK_COLUMNS, rows, width=width, colour=colour)


def _list_note(task: Task) -> str:
    if not task.get("elements"):
        return how_it_ended(task, brief=True)
    reason = task.get("reason") if task["state"] in ("blocked", "held") else ""
    return f"{progress(task)}: {reason}" if reason else progress(task)


def took_s(task: Task, now: float) -> float | None:
    """Seconds since the task started, until it ended or now; None if it has not started."""
    started = text.epoch(task.get("started_at"))
    if started is None:
        return None
    finished = text.epoch(task.get("finished_at"))
    return (now if finished is None else finished) - started


def progress(task: Task) -> str:
    """Of an array: `120/200 done, 3 failed`."""
    elements: Mapping[str, int] = task["elements"]
    done = sum(elements.get(state, 0) for state in ("succeeded", "failed", "cancelled"))
    bad = [f"{elements[s]} {s}" for s in ("failed", "cancelled") if elements.get(s)]
    return ", ".join([f"{done}/{task.get('count', sum(elements.values()))} done", *bad])


def failed_elements(task: Task) -> str:
    """Of an array: which elements failed, and how to read what one of them said."""
    indexes: list[int] = task.get("failed_elements") or []
    if not indexes:
        return ""
    parts = text.ranges(indexes)
    failed = (task.get("elements") or {}).get("failed", len(indexes))
    if len(parts) > FAILED_RANGES_MAX or failed > len(indexes):
        parts = [*parts[:FAILED_RANGES_MAX], "..."]
    return f"{', '.join(parts)}   (leoronic logs {task['id']}.{indexes[0]} --stderr)"


def tasks_csv(found: Iterable[Task]) -> str:
    """Tasks as CSV (RFC 4180 quoting, `\\n` line ends), a header first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for task in found:
        row = dict(task) | {"command": command_of(task)}
        writer.writerow([row.get(field) for field in CSV_FIELDS])
    return out.getvalue()


def task(found: Task, now: float, *, colour: bool) -> list[str]:
    """Everything about one task, a field a line."""
    # What an array has of these is that of one of its elements, and it is not said which.
    own = {} if "count" in found else found
    known: list[tuple[str, str]] = [
        ("id", found["id"]),
        ("name", found.get("name") or ""),
        ("state", found["state"]),
        ("ended" if found["state"] in ENDED else "note", _note(found)),
        ("elements", progress(found) if found.get("elements") else ""),
        ("failed", failed_elements(found)),
        ("command", command_of(found)),
        ("submitted", _moment(found.get("submitted_at"), now)),
        ("started", _moment(found.get("started_at"), now)),
        ("finished", _moment(found.get("finished_at"), now)),
        ("took", text.duration(took_s(found, now))),
        ("origin", found.get("origin") or ""),
        ("node", found.get("node") or ""),
        ("cpu", text.duration(own.get("cpu_seconds"))),
        ("peak memory", text.size(own.get("peak_memory"))),
        ("output", _output(own)),
        ("left running", _left_running(own)),
        ("files", _files(found.get("files") or [])),
        ("left files", _files(own.get("outputs") or [])),
        ("not kept", "\n".join(own.get("output_problems") or [])),
    ]
    reasons = found.get("reasons") or []
    known += [("reasons", "\n".join(reasons))] if reasons != [found.get("reason")] else []
    known += [("after", ", ".join(map(_after, found.get("after") or [])))]
    known += [
        (name.replace("_", " "), _asked_for(name, value))
        for name, value in found.items()
        if name not in _HANDLED and value not in (None, "", [], {}, _USUAL.get(name, 0))
    ]
    lines = _fields(known, colour)
    attempts = own.get("attempts") or []
    if len(attempts) > 1:
        lines.append(text.paint("attempts", "title", colour))
        lines += [f"  {line}" for line in _attempts(attempts, now, colour)]
    return lines


def _files(files: Iterable[Any]) -> str:
    """A file a line, with its size; of what is only named, the name."""
    return "\n".join(
        f"{file['path']} ({text.size(file['size'])})"
        if file.get("size") is not None
        else str(file["path"])
        for file in files
    )


def _after(after: Mapping[str, str]) -> str:
    when = after.get("when", "succeeded")
    return after["id"] if when == "succeeded" else f"{after['id']} ({when})"


def _asked_for(name: str, value: Any) -> str:
    if name in ("memory", "storage"):
        return text.size(value)
    if name in ("time_limit", "retry_delay"):
        return text.duration(value)
    return "no" if value is False else "yes" if value is True else _value(value)


def _attempts(attempts: list[Task], now: float, colour: bool) -> list[str]:
    columns = (
        Column("N", right=True), Column("STATE", states=True), Column("NODE"),
        Column("STARTED"), Column("TOOK", right=True), Column("ENDED"),
    )  # fmt: skip
    rows = [
        (
            str(attempt.get("attempt", index)),
            attempt.get("state") or "",
            attempt.get("node") or "",
            text.clock(attempt.get("started_at")),
            text.duration(took_s(attempt, now)),
            how_it_ended(attempt),
        )
        for index, attempt in enumerate(attempts, 1)
    ]
    return table.render(columns, rows, colour=colour)


def _moment(time: str | None, now: float) -> str:
    return f"{time} ({text.ago(time, now)})" if time else ""


def _note(found: Task) -> str:
    # Which elements of an array failed has a line of its own.
    return "" if "count" in found and found["state"] == "failed" else how_it_ended(found)


def _left_running(found: Task) -> str:
    left = found.get("stragglers") or 0
    return f"{text.count(left, 'process', 'processes')}, ended" if left else ""


def _output(found: Task) -> str:
    sizes = [(found.get(f"{name}_bytes") or 0, name) for name in ("stdout", "stderr")]
    return ", ".join(f"{text.size(size)} on {name}" for size, name in sizes if size)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_value(v)}" if v != "" else str(k) for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value)
    return text.number(value) if isinstance(value, float) else str(value)


def _fields(fields: Iterable[tuple[str, str]], colour: bool) -> list[str]:
    lines = []
    for name, value in fields:
        if not value:
            continue
        # A command keeps its lines, indented; each is made harmless by itself.
        parts = [text.one_line(part) for part in value.rstrip("\n").split("\n")]
        painted = [text.paint(p, value, colour) if name == "state" else p for p in parts]
        lines.append(text.paint(f"{name:<11} ", "dim", colour) + painted[0])
        lines += [" " * 12 + part for part in painted[1:]]
    return lines


def why(answer: Mapping[str, Any], *, colour: bool) -> list[str]:
    """Why a task is where it is, then what each node says about it."""
    state = text.paint(answer["state"], answer["state"], colour)
    lines = [f"{text.one_line(answer['id'])} is {state}"]
    lines += [f"  {text.one_line(reason)}" for reason in answer.get("reasons") or []]
    for name, reasons in (answer.get("nodes") or {}).items():
        said = "; ".join(text.one_line(reason) for reason in reasons) or "would take it"
        lines.append(f"  {text.paint(text.one_line(name), 'title', colour)}: {said}")
    return lines


def counts(found: Mapping[str, int], *, colour: bool) -> str:
    """`3 running, 120 waiting`, in a fixed order, without zeros."""
    names = [*STATES, *(name for name in found if name not in STATES)]
    parts = [f"{found[n]} {text.paint(n, n, colour)}" for n in names if found.get(n)]
    return ", ".join(parts) or "none"


def status(answer: Mapping[str, Any], root: str, *, colour: bool) -> list[str]:
    """The node that was asked, its tasks and the nodes it knows."""
    node = answer["node"]
    lines = _fields(
        [
            ("node", f"{node['name']} ({node['id']})"),
            ("root", node.get("root") or root),
            ("up for", f"{text.duration(node.get('uptime_s'))}, core process {node.get('pid')}"),
            ("version", node.get("version") or ""),
            ("address", node.get("address") or ""),
            ("inbox", node.get("inbox") or ""),
        ],
        colour,
    )
    for name, shown in (
        ("tasks", counts(answer["tasks"], colour=colour)),
        ("nodes", node_counts(answer["nodes"], colour=colour)),
    ):
        lines.append(text.paint(f"{name:<12}", "dim", colour) + shown)
    return lines


def change(item: Mapping[str, Any], *, colour: bool) -> str:
    """One line of `watch`."""
    state = item["state"]
    parts = [
        text.paint(text.clock(item.get("at")), "dim", colour),
        text.one_line(item["id"]),
        text.paint(state, state, colour),
    ]
    if item.get("node"):
        parts.append(f"on {text.one_line(item['node'])}")
    if (item.get("attempt") or 0) > 1:
        parts.append(f"attempt {item['attempt']}")
    ended = how_it_ended(item)
    if ended and state in ("failed", "cancelled", "blocked", "held"):
        parts.append(f"({text.one_line(ended)})")
    if item.get("name"):
        parts.append(text.one_line(item["name"]))
    return "  ".join(part for part in parts if part)
