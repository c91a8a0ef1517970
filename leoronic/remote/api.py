"""The verbs: `get`, `put`, `wait`, `cancel`; and what the cluster is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from leoronic.core import commands
from leoronic.remote.context import current
from leoronic.remote.generators import ObjectRefGenerator
from leoronic.remote.refs import ObjectRef
from leoronic.remote.waiting import get_values, wait_for


def get(refs: ObjectRef | Iterable[ObjectRef], *, timeout: float | None = None) -> Any:
    """The value of a reference, or a list of those of several.

    Raises what the call raised (also as `TaskError`), or `GetTimeoutError` after `timeout` seconds.
    """
    if type(refs) is ObjectRef and refs.done:
        return refs.value()
    if isinstance(refs, ObjectRefGenerator):
        raise TypeError("get: iterate over a generator, and get what it gives")
    if isinstance(refs, str) or not isinstance(refs, ObjectRef | Iterable):
        raise TypeError(f"get: expected an ObjectRef or a list of them, got {type(refs).__name__}")
    return get_values(refs, timeout, current().blocked)


def put(value: Any) -> ObjectRef:
    """A reference to a value of this process. Raises `NotSerializable`."""
    if isinstance(value, ObjectRef):
        raise TypeError("put: a reference need not be put")
    return current().put(value)


def wait(
    refs: Sequence[ObjectRef],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRef], list[ObjectRef]]:
    """(ready, not ready): waits for `num_returns` of `refs`, at most `timeout` seconds.

    Whoever failed is ready. `fetch_local` is there for Ray's sake: what is ready is here.
    """
    if isinstance(refs, ObjectRef):
        raise TypeError("wait: expected a list of ObjectRefs")
    return wait_for(list(refs), num_returns, timeout, current().blocked)


def cancel(
    ref: ObjectRef | ObjectRefGenerator, *, force: bool = False, recursive: bool = True
) -> None:
    """Cancel a call: then `get` raises `TaskCancelledError`, unless it was over before.

    One that runs gets a `KeyboardInterrupt`, or an `asyncio.CancelledError`; with `force` its
    process ends.
    """
    if isinstance(ref, ObjectRefGenerator):
        ref = ref.completed()
    own = getattr(ref, "cancel_task", None)
    if own is not None:
        own()
        return
    if not isinstance(ref, ObjectRef):
        raise TypeError(f"cancel: expected an ObjectRef, got {type(ref).__name__}")
    current().cancel(ref, force)


def nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster, under Ray's names and, in `Node`, as `leoronic nodes` has them."""
    return [
        {
            "NodeID": node["id"],
            "Alive": node["state"] in ("up", "draining", "suspect"),
            "NodeName": node["name"],
            "NodeManagerAddress": str(node["address"] or "").rpartition(":")[0],
            "Resources": _resources(node, node),
            "Node": node,
        }
        for node in _nodes()
    ]


def cluster_resources() -> dict[str, float]:
    """What all nodes that are up have together: CPU, memory in bytes, and what they count."""
    return _sum([_resources(node, node) for node in _nodes() if node["state"] == "up"])


def available_resources() -> dict[str, float]:
    """What of that is free now."""
    return _sum(
        [
            _resources(node, node["free"])
            for node in _nodes()
            if node["state"] == "up" and node["free"]
        ]
    )


def _nodes() -> list[dict[str, Any]]:
    context = current()
    found: list[dict[str, Any]] = context.run(context.party.ask(commands.Nodes()))["nodes"]
    return found


def _resources(node: dict[str, Any], amounts: dict[str, Any]) -> dict[str, float]:
    found = {"CPU": float(amounts["cpus"]), "memory": float(amounts["memory"])}
    return found | {name: float(n) for name, n in (node.get("resources") or {}).items()}


def _sum(parts: list[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, 0.0) + amount
    return total
