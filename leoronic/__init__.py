"""Leoronic: a few machines, one fault-tolerant computer, no head node.

What is below is Ray's, by name and meaning, and is loaded when it is first used.
"""

from __future__ import annotations

# As `typing.TYPE_CHECKING`, without its 10 ms: every command passes through this package.
TYPE_CHECKING = False

__version__ = "0.1.0"

_PLACES = {
    "leoronic.client": ("AsyncClient", "Client"),
    "leoronic.remote.actors": ("exit_actor", "get_actor", "kill"),
    "leoronic.remote.api": (
        "available_resources", "cancel", "cluster_resources", "get", "nodes", "put", "wait",
    ),
    "leoronic.remote.beginning": ("init", "is_initialized", "shutdown"),
    "leoronic.remote.declaring": ("method",),
    "leoronic.remote.executor": ("Executor",),
    "leoronic.remote.generators": ("ObjectRefGenerator",),
    "leoronic.remote.joblib_backend": ("register_joblib",),
    "leoronic.remote.pool": (
        "Pool", "apply", "apply_async", "imap", "imap_unordered", "map", "map_async", "starmap",
        "starmap_async",
    ),
    "leoronic.remote.refs": ("ObjectRef",),
    "leoronic.remote.runtime_context": ("get_runtime_context",),
    "leoronic.remote.sh": ("ShError", "sh"),
    "leoronic.remote.errors": (
        "ActorDiedError", "ActorError", "ActorUnavailableError", "AsyncioActorExit",
        "GetTimeoutError", "ObjectFreedError", "ObjectLostError", "OwnerDiedError",
        "PendingCallsLimitExceeded", "RuntimeEnvError", "TaskCancelledError", "TaskError",
        "WorkerCrashedError",
    ),
    "leoronic.remote.serial": ("NotSerializable",),
}  # fmt: skip
_MODULES = {"aio": "leoronic.remote.aio", "remote": "leoronic.remote"}


def __getattr__(name: str) -> object:
    import importlib  # noqa: PLC0415 - see above

    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    for module, names in _PLACES.items():
        if name in names:
            found: object = getattr(importlib.import_module(module), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *(name for names in _PLACES.values() for name in names)])
