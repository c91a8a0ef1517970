"""What workers and actors need, and the tasks that become them."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from leoronic.remote.context import Context

COMMAND = 'exec "${LEORONIC_PYTHON:-python3}" -m leoronic.remote.worker'
# Nobody listens there for the calls of others.
NOT_ON_GHOSTS = "worker:not_tag ghost"
JOB_LABEL = "leoronic.job"
KIND_LABEL = "leoronic.kind"
CLASS_LABEL = "leoronic.class"
NAME_LABEL = "leoronic.actor"


class Shape(NamedTuple):
    """What a process needs: equal ones can stand in for each other. Sizes in bytes."""

    cpus: float = 1.0
    memory: int = 0
    resources: tuple[tuple[str, float], ...] = ()
    conditions: tuple[str, ...] = ()
    priority: int = 0
    env_vars: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""


def new_task_id(kind: str) -> str:
    """The id of a new task; `kind` is a letter."""
    return kind + secrets.token_hex(6)


def worker_task(context: Context, shape: Shape, *, is_extra: bool) -> dict[str, Any]:
    """The task of a leased worker. An extra one stands in for a process that waits."""
    task = _task(context, shape, _assignment(context, shape, "worker"))
    task["name"] = f"worker of {context.about['job']}"
    task["labels"][KIND_LABEL] = "worker"
    if is_extra:
        task["cpus"] = 0
    return task


def actor_task(
    context: Context,
    shape: Shape,
    actor: dict[str, Any],
    creation: str,
    *,
    detached: bool,
    restarts: int,
    namespace: str,
) -> dict[str, Any]:
    """The task of an actor; `actor` as in `assignment.ActorShape`, `restarts` -1 for ever."""
    assignment = _assignment(context, shape, "actor")
    assignment |= {"actor": actor, "detached": detached, "namespace": namespace}
    # A worker that makes an actor may be given back long before that is not needed any more.
    assignment["lessor"] = assignment["driver"]
    task = _task(context, shape, assignment)
    task["name"] = actor["name"] or actor["class_name"]
    task["labels"] |= {KIND_LABEL: "actor", CLASS_LABEL: actor["class_name"][:200]}
    if actor["name"]:
        task["labels"][NAME_LABEL] = name_label(namespace, actor["name"])
    task["stdin"] = creation
    task["retries"] = restarts if restarts >= 0 else 1000
    task["retry_delay"] = 0.1
    # One that may not be restarted is not to come back when its node is lost, either.
    task["on_loss"] = "retry" if restarts else "hold"
    return task


def name_label(namespace: str, name: str) -> str:
    """The value of the label by which a named actor is found."""
    return f"{namespace}/{name}"


def _task(context: Context, shape: Shape, assignment: dict[str, Any]) -> dict[str, Any]:
    return {
        "command": COMMAND,
        # So that its parent is the runner: it ends with that (`parent.py`).
        "fresh_shell": True,
        "cpus": shape.cpus,
        "memory": shape.memory,
        "resources": dict(shape.resources),
        "conditions": [NOT_ON_GHOSTS, *shape.conditions],
        "priority": shape.priority,
        "labels": {JOB_LABEL: context.about["job"]},
        "env": {"LEORONIC_WORKER": json.dumps(assignment)},
    }


def _assignment(context: Context, shape: Shape, kind: str) -> dict[str, Any]:
    about = context.about
    return {
        "kind": kind,
        "job": about["job"],
        "namespace": about.get("namespace", ""),
        "lessor": list(context.owner),
        "driver": list(about.get("driver") or context.owner),
        "paths": list(about.get("paths", ())),
        "env_vars": {**about.get("env_vars", {}), **dict(shape.env_vars)},
        "working_dir": shape.working_dir or about.get("working_dir", ""),
    }
