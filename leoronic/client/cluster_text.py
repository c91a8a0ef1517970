"""Answers about the cluster as lines of text: nodes, what ran twice, the cookie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leoronic.client import table, text
from leoronic.client.outcomes import how_it_ended
from leoronic.client.table import Column
from leoronic.core.addresses import ip_of, parse_address

NODE_STATES = ("up", "suspect", "draining", "down", "left")
GONE = ("down", "left")

_NODE_COLUMNS = (
    Column("NODE", whole=True),
    Column("STATE", states=True, whole=True),
    Column("KIND", drop=7),
    Column("FREE CPUS", right=True, drop=5),
    Column("FREE MEMORY", right=True, drop=2),
    Column("FREE STORAGE", right=True, drop=1),
    Column("RUNNING", right=True, drop=4),
    Column("TAGS", shrink=True, drop=3),
    Column("ADDRESS"),
    Column("VERSION", drop=6),
    Column("SEEN"),
    Column("NOTE", shrink=True, least=20),
)
_RUN_COLUMNS = (
    Column("ATTEMPT", right=True),
    Column("NODE"),
    Column("STATE", states=True),
    Column("STARTED"),
    Column("TOOK", right=True),
    Column("ENDED"),
    Column("COUNTS"),
)

Node = Mapping[str, Any]


def nodes(found: Sequence[Node], *, width: int | None, colour: bool) -> list[str]:
    """A table of nodes: `free/all` of what each has. Versions only where they differ."""
    mixed = len({node.get("version") for node in found}) > 1
    rows = [
        (
            node["name"],
            node["state"],
            "" if node.get("kind", "node") == "node" else node["kind"],
            _of(node, "cpus", text.number),
            _of(node, "memory", text.size),
            _of(node, "storage", text.size),
            "" if node["state"] in GONE else number(node.get("running")),
            ", ".join(node.get("tags") or []),
            node.get("address") or "",
            (node.get("version") or "") if mixed else "",
            f"{text.duration(node['seen_s'])} ago" if (node.get("seen_s") or 0) >= 1 else "",
            node_note(node),
        )
        for node in found
    ]
    return table.render(_NODE_COLUMNS, rows, width=width, colour=colour)


def _of(node: Node, name: str, shown: Any) -> str:
    if node["state"] in GONE:
        return ""
    free = (node.get("free") or {}).get(name)
    whole: str = shown(node.get(name))
    if free is None or not whole:
        return whole
    # Said once, a unit that is the same leaves room for more: `3.5 of 4 GiB`.
    amount, _, unit = (shown(free) or "0").partition(" ")
    return (
        f"{amount} of {whole}" if unit == whole.partition(" ")[2] else f"{amount} {unit} of {whole}"
    )


def unreached(found: Iterable[Mapping[str, str]]) -> list[str]:
    """Addresses where no node was met, and why."""
    return [text.one_line(f"{place['address']}: {_why_unreached(place)}") for place in found]


def _why_unreached(place: Mapping[str, str]) -> str:
    silent = place["reason"].startswith(("no answer", "cannot be reached"))
    return f"does not answer: {place['reason']}" if silent else place["reason"]


def number(value: int | None) -> str:
    """A count that a node may not have told; then nothing."""
    return "" if value is None else str(value)


def node_note(node: Node) -> str:
    """Why it is not up, and for whom it stands in."""
    parts = [node.get("reason") or ""]
    if node.get("owner_of"):
        parts.append(f"stands in for {', '.join(node['owner_of'])}")
    if node.get("ready") is False and node["state"] not in GONE:
        parts.append("is catching up")
    return "; ".join(part for part in parts if part)


def node_counts(found: Mapping[str, int], *, colour: bool) -> str:
    """`4 up, 1 down`, in a fixed order, without zeros."""
    names = [*NODE_STATES, *(name for name in found if name not in NODE_STATES)]
    parts = [f"{found[n]} {text.paint(n, n, colour)}" for n in names if found.get(n)]
    return ", ".join(parts) or "none"


def splits(found: Iterable[Mapping[str, Any]], *, width: int | None, colour: bool) -> list[str]:
    """What ran twice: its runs, who was suspected meanwhile, and what it cost."""
    lines: list[str] = []
    for split in found:
        lines += ["", *_split(split, width, colour)] if lines else _split(split, width, colour)
    return lines


_DIFFER = {True: "the outputs differ", False: "the outputs are the same", None: ""}


def _split(split: Mapping[str, Any], width: int | None, colour: bool) -> list[str]:
    runs = split["runs"]
    decided = any(run.get("won") for run in runs)
    named = " ".join(text.one_line(split[key]) for key in ("id", "name") if split.get(key))
    parts = [f"ran {text.count(len(runs), 'time')}"]
    if split.get("seconds_lost"):
        parts.append(f"{text.duration(split['seconds_lost'])} lost")
    parts.append(_DIFFER[split.get("outputs_differ")])
    said = ", ".join(part for part in parts if part)
    rows = [
        (
            str(run.get("attempt", "")),
            run.get("node") or "",
            run.get("state") or "",
            text.clock(run.get("started_at")),
            text.duration(_took_s(run)),
            how_it_ended(run),
            ("counts" if run.get("won") else "not counted") if decided else "",
        )
        for run in runs
    ]
    room = None if width is None else width - 2
    lines = [f"{text.paint(named, 'title', colour)}: {said}"]
    lines += [f"  {line}" for line in table.render(_RUN_COLUMNS, rows, width=room, colour=colour)]
    if decided:
        lines.append(f"  {_why_it_counts(runs)}")
    for one in split.get("suspicions") or []:
        why = f": {text.one_line(one['reason'])}" if one.get("reason") else ""
        lines.append(
            f"  {text.clock(one.get('at'))}  {text.one_line(one['by'])} took "
            f"{text.one_line(one['node'])} for down{why}"
        )
    return lines


def _why_it_counts(runs: Sequence[Mapping[str, Any]]) -> str:
    """The rule by which one of these runs was chosen."""
    won = next(run for run in runs if run.get("won"))
    ended = [run for run in runs if run is not won and run.get("state") in ("succeeded", "failed")]
    rivals = [run for run in ended if run.get("attempt") == won.get("attempt")]
    if any(run.get("attempt", 0) < won.get("attempt", 0) for run in ended) and not rivals:
        return "the higher attempt counts"
    if not rivals:
        return "the run that ended counts, the others were stopped"
    if won.get("state") == "succeeded" and all(run.get("state") == "failed" for run in rivals):
        return "of the same attempt, the run that succeeded counts"
    return "of the same attempt with the same end, the run on the node with the higher id counts"


def _took_s(run: Mapping[str, Any]) -> float | None:
    began, ended = text.epoch(run.get("started_at")), text.epoch(run.get("finished_at"))
    return None if began is None or ended is None else ended - began


def cookie(answer: Mapping[str, Any], *, colour: bool) -> list[str]:
    """Where a change of the cookie stands: which nodes have it, and what to do next."""
    title = text.paint("cookie", "title", colour)
    lines = [f"{title}  {answer['fingerprint']} (its fingerprint)"]
    if answer.get("old"):
        lines.append(f"also accepted: {answer['old']}")
    has = answer.get("nodes") or {}
    away = answer.get("not_there") or []
    having = [name for name in has if has[name] and name not in away]
    lacking = [name for name in has if not has[name] and name not in away]
    absent = [f"{name} (had it)" if has.get(name) else name for name in away]
    for word, names in (
        ("have it", having), ("lack it", lacking), ("not there to ask", absent),
    ):  # fmt: skip
        if names:
            lines.append(f"{word}: {', '.join(map(text.one_line, names))}")
    return lines


def is_local_only(addresses: Iterable[str]) -> bool:
    """Whether all of these addresses (HOST:PORT) can be reached from their own machine alone."""
    return all(_is_local(parse_address(address).host) for address in addresses)


def _is_local(host: str) -> bool:
    ip = ip_of(host)
    return host == "localhost" if ip is None else ip.is_loopback
