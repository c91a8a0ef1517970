"""`init` and `shutdown`: how a process becomes a driver, and ends being one."""

from __future__ import annotations

import atexit
import contextlib
import secrets
import sys
import threading
from pathlib import Path
from typing import Any

from leoronic.client import locate
from leoronic.errors import LeoronicError, NodeUnreachable
from leoronic.remote import context as contexts
from leoronic.remote import options as known
from leoronic.remote.context import Context
from leoronic.remote.local_node import LocalNode
from leoronic.remote.memory import keep_memory
from leoronic.remote.party import Party

END_S_MAX = 10.0


class _Here:
    """What `init` began in this process, for `shutdown` to end."""

    node: LocalNode | None = None
    has_exit_hook = False
    # Threads may come to it at once, each with its first call.
    lock = threading.RLock()


_here = _Here()


def init(
    address: str | None = None,
    *,
    local: bool = False,
    num_cpus: float | None = None,
    resources: dict[str, float] | None = None,
    namespace: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    log_to_driver: bool = True,
    ignore_reinit_error: bool = False,
) -> dict[str, Any]:
    """Take part in the cluster of the node in the folder `address`.

    Without it, of the node in LEORONIC_ROOT, or the nearest folder upward that has one. With
    `local` a node is started for this process alone, with `num_cpus` and `resources`, and ends
    with it.
    Returns {"node_id", "root", "job_id", "namespace"}. Raises `NodeUnreachable`; `RuntimeError` if
    it was called before.
    """
    with _here.lock:
        found = contexts.current_or_none()
        if found is not None:
            if ignore_reinit_error or found.about.get("kind", "driver") != "driver":
                return _told(found)
            raise RuntimeError("init() was called already: call shutdown() first, if that is meant")
        if not local and (num_cpus is not None or resources):
            raise ValueError(
                "init: num_cpus and resources are those of a node that local=True starts"
            )
        environment = known.shape_of({"runtime_env": runtime_env}, 0.0)
        about = {
            "kind": "driver",
            "namespace": namespace or "",
            "paths": _paths(),
            "env_vars": dict(environment.env_vars),
            "working_dir": environment.working_dir,
            "log_to_driver": log_to_driver,
        }
        if local or address == "local":
            _here.node = LocalNode(num_cpus, resources or {})
        try:
            context = _begin(_here.node.root if _here.node is not None else _root(address), about)
        except BaseException:
            _end_node()
            raise
        if not _here.has_exit_hook:
            _here.has_exit_hook = True
            atexit.register(shutdown)
        return _told(context)


def _begin(root: str, about: dict[str, Any]) -> Context:
    keep_memory()
    job = secrets.token_hex(4)
    party = Party(root, f"d-{job}", job=job)
    # As Ray has it: without a namespace, names are this program's own.
    space = about["namespace"] or f"job-{job}"
    context = contexts.attach(party, {**about, "job": job, "namespace": space})
    try:
        party.start()
    except BaseException:
        context.detach()
        raise
    return context


def shutdown() -> None:
    """End what `init` began: what is under way fails, actors that are not detached end.

    Harmless if there is nothing to end.
    """
    with _here.lock:
        _shutdown()


def _shutdown() -> None:
    context = contexts.current_or_none()
    if context is None or context.about.get("kind", "driver") != "driver":
        return
    # First of all, so that other threads do not begin what would never end.
    context.detach()
    with contextlib.suppress(LeoronicError, TimeoutError, RuntimeError):
        context.party.run(context.end()).result(END_S_MAX)
    context.party.stop("its driver ends")
    context.fail_all("shutdown() was called before it was done")
    _end_node()


def is_initialized() -> bool:
    """Whether this process takes part."""
    return contexts.current_or_none() is not None


def _end_node() -> None:
    node, _here.node = _here.node, None
    if node is not None:
        node.stop()


def _root(address: str | None) -> str:
    if address not in (None, "auto"):
        return str(Path(str(address)).expanduser().absolute())
    try:
        return locate.find_root()
    except locate.NoNodeError as error:
        raise NodeUnreachable(f"{error}; init(local=True) starts one for this program") from None


def _paths() -> list[str]:
    """Where this program finds its modules, as absolute folders."""
    return [str(Path(path).absolute()) for path in sys.path if not path.endswith(".zip")]


def _told(context: Context) -> dict[str, Any]:
    return {
        "node_id": context.party.node,
        "root": context.party.root,
        "job_id": context.about["job"],
        "namespace": context.about.get("namespace", ""),
    }
