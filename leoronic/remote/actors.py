"""Remote classes: `C.remote(...)` makes an actor, `handle.method.remote(...)` calls it."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
from typing import Any

from leoronic.core import commands
from leoronic.errors import Conflict, LeoronicError
from leoronic.remote import options as known
from leoronic.remote import serial
from leoronic.remote.assignment import write_creation
from leoronic.remote.code import Code, describe, name_of
from leoronic.remote.context import Context, current, current_or_none
from leoronic.remote.functions import returned_by
from leoronic.remote.options import METHOD_ATTRIBUTE, MethodOptions
from leoronic.remote.refs import ObjectRef
from leoronic.remote.remote_call import STREAM, RemoteCall, inline
from leoronic.remote.shapes import NAME_LABEL, actor_task, name_label, new_task_id
from leoronic.remote.targets import ActorTarget

CPUS = 0.0
FINAL = ("succeeded", "failed", "cancelled")
CREATION_CHARS_MAX = 1_000_000

Methods = dict[str, tuple[Any, ...]]
"""By name, the fields of `MethodOptions`."""


class ActorClass:
    """A class whose instances live in processes of their own."""

    def __init__(self, kind: type, options: dict[str, Any], code: list[Code] | None = None) -> None:
        self.__doc__ = kind.__doc__
        self._kind = kind
        self._given = options
        self._options = known.checked(options, known.ACTOR, name_of(kind))
        self._shape = known.shape_of(self._options, CPUS)
        self._restarts = known.retries_of(self._options, "max_restarts", 0)
        self._retries = known.retries_of(self._options, "max_task_retries", 0)
        if self._options.get("lifetime") not in (None, "detached", "non_detached"):
            raise ValueError(f"lifetime={self._options['lifetime']!r} is not None or 'detached'")
        self._methods = _methods_of(kind)
        self._code = code if code is not None else []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Not as an ordinary class: that would be a mistake, mostly."""
        raise TypeError(f"actors are made by {self._kind.__name__}.remote(...)")

    def options(self, **options: Any) -> ActorClass:
        """The same class with other options. Raises `ValueError`."""
        return ActorClass(self._kind, {**self._given, **options}, self._code)

    def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle:
        """Make an actor; its handle is there at once.

        With a `name` it waits until that is known to be free; raises `ValueError` if it is taken,
        or with `get_if_exists` returns the handle of that actor.
        """
        context = current()
        name = str(self._options.get("name") or "")
        if not name:
            return self._make(context, new_task_id("a"), args, kwargs)
        namespace = self._namespace(context)
        while True:
            living, generation = context.run(_find_named(context, name, namespace))
            if living is not None:
                if self._options.get("get_if_exists"):
                    return _handle_of(context, living)
                raise ValueError(f"the name {name!r} is taken (namespace {namespace!r})")
            try:
                return self._make(context, _named_id(name, namespace, generation), args, kwargs)
            except Conflict:
                continue  # Another was quicker: look whose it is.

    def _make(
        self, context: Context, task: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ActorHandle:
        options = self._options
        name = str(options.get("name") or "")
        if not self._code:
            self._code.append(describe(self._kind))
        found: list[ObjectRef] = []
        label = self._kind.__name__
        payload = serial.dump_call(args, kwargs, found, inline, f"{label}()")
        pending_max = int(options.get("max_pending_calls") or -1)
        actor: dict[str, Any] = {
            "class_name": label,
            "name": name,
            "max_concurrency": options.get("max_concurrency"),
            "groups": dict(options.get("concurrency_groups") or {}),
            "methods": self._methods,
            "retries": self._retries,
            "pending_max": pending_max,
        }
        detached = options.get("lifetime") == "detached"
        target = context.actors.target(task, label, pending_max)
        tops = len(payload[3]) if len(payload) == 4 else 0

        def made_of() -> dict[str, Any]:
            creation = write_creation(self._code[0], _filled(payload, found[:tops]))
            if len(creation) > CREATION_CHARS_MAX:
                raise ValueError(
                    f"{label} and the arguments of its constructor take {len(creation):,} bytes; "
                    "put() what is large, and pass the reference"
                )
            return actor_task(
                context, self._shape, actor, creation,
                detached=detached, restarts=self._restarts, namespace=self._namespace(context),
            ) | {"id": task}  # fmt: skip

        if name:
            context.run(target.create_now(made_of, found[:tops], found, is_ours=not detached))
        else:
            context.party.post(target.create, made_of, found[:tops], found, not detached)
        life = None if name or detached else _Life(context, target)
        return ActorHandle(target, label, self._methods, self._retries, pending_max, life)

    def _namespace(self, context: Context) -> str:
        return str(self._options.get("namespace") or context.about.get("namespace") or "")

    def __reduce__(self) -> Any:
        return ActorClass, (self._kind, self._given)

    def __repr__(self) -> str:
        return f"ActorClass({name_of(self._kind)})"


class _Life:
    """Ends an actor when the handle that made it is gone, and nobody else got one."""

    def __init__(self, context: Context, target: ActorTarget) -> None:
        self._context = context
        self._target = target

    def __del__(self) -> None:
        if current_or_none() is self._context:
            try:
                self._context.party.post(self._target.release)
            except RuntimeError:
                return  # The process ends, and the actor with it.


class ActorHandle:
    """An actor, as others call it. Can be passed to other calls, and to other actors."""

    def __init__(
        self,
        target: ActorTarget,
        class_name: str,
        methods: Methods,
        retries: int,
        pending_max: int,
        life: _Life | None = None,
    ) -> None:
        self._target = target
        self._class_name = class_name
        self._methods = methods
        self._retries = retries
        self._pending_max = pending_max
        self._life = life

    @property
    def _actor_id(self) -> str:
        return self._target.task

    def __getattr__(self, name: str) -> ActorMethod:
        if name.startswith("_leoronic_") or (name.startswith("__") and name not in self._methods):
            if name not in ("__leoronic_ready__", "__leoronic_call__", "__leoronic_terminate__"):
                raise AttributeError(name)
        elif name not in self._methods:
            raise AttributeError(f"{self._class_name} has no method {name!r}")
        made = ActorMethod(
            self._target, self._life, f"{self._class_name}.{name}()", name, self._retries,
            MethodOptions(*self._methods.get(name, ())),
        )  # fmt: skip
        # The next time Python finds it by itself.
        self.__dict__[name] = made
        return made

    def __reduce__(self) -> Any:
        self._target.is_passed_on = True
        return _rebuilt, (
            self._target.task, self._class_name, self._methods, self._retries, self._pending_max,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Actor({self._class_name}, {self._target.task})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._actor_id == self._actor_id

    def __hash__(self) -> int:
        return hash(self._actor_id)


class ActorMethod:
    """One method of one actor: `.remote(...)` calls it."""

    def __init__(
        self,
        target: ActorTarget,
        life: _Life | None,
        label: str,
        name: str,
        retries: int,
        options: MethodOptions,
    ) -> None:
        # Not the handle, which knows its methods: it could not be freed at once.
        self._target = target
        self._life = life
        self._label = label
        self._name = name
        self._options = options
        self._n_returns = 1 if options.n_returns is None else options.n_returns
        self._retries = retries if options.retries is None else options.retries
        self._flags: dict[str, Any] = {"label": self._label}
        if options.group:
            self._flags["group"] = options.group
        if options.backpressure:
            self._flags["backpressure"] = options.backpressure

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Not as an ordinary method: that would be a mistake, mostly."""
        raise TypeError(f"methods of actors are called by {self._name}.remote(...)")

    def options(self, **options: Any) -> ActorMethod:
        """The same method with other options. Raises `ValueError`."""
        given = known.checked_method(options)
        merged: list[Any] = [
            own if new is None else new for own, new in zip(self._options, given, strict=True)
        ]
        return ActorMethod(
            self._target, self._life, self._label, self._name, self._retries,
            MethodOptions(*merged),
        )  # fmt: skip

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it: an `ObjectRef` of what it will return, or as its `num_returns` says.

        Calls of one process to one actor begin in their order. Raises `NotSerializable`,
        `PendingCallsLimitExceeded`.
        """
        context = current()
        found: list[ObjectRef] = []
        payload = serial.dump_call(args, kwargs, found, inline, self._label)
        call = RemoteCall(
            next(context.numbers), context.owner, self._name, payload, self._n_returns,
            label=self._label, pins=found or None, retries=self._retries, flags=self._flags,
        )  # fmt: skip
        returned = returned_by(context, call)
        context.calls[call.number] = call
        try:
            self._target.submit(call)
        except LeoronicError:
            del context.calls[call.number]
            raise
        return returned


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """The living actor of that name. Raises `ValueError` if there is none."""
    context = current()
    space = namespace or context.about.get("namespace") or ""
    living, _ = context.run(_find_named(context, name, space))
    if living is None:
        raise ValueError(f"no actor has the name {name!r} (namespace {space!r})")
    return _handle_of(context, living)


def handle_of_task(task: str) -> ActorHandle:
    """A handle of the actor of that task. Raises `NotFound`."""
    context = current()
    return _handle_of(context, context.run(context.party.ask(commands.Show(task))))


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """End an actor at once, in the middle of what it does."""
    if not isinstance(actor, ActorHandle):
        raise TypeError(f"kill: {actor!r} is no actor; use cancel() for calls")
    context = current()
    context.run(context.actors.kill(actor._actor_id, no_restart=no_restart))


def exit_actor() -> None:
    """End the actor in whose method this is called; it is not restarted."""
    from leoronic.remote.errors import AsyncioActorExit  # noqa: PLC0415 - rarely needed

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise SystemExit(0) from None
    raise AsyncioActorExit("the actor has ended itself")


def _methods_of(kind: type) -> Methods:
    found: Methods = {}
    for name in dir(kind):
        method = inspect.getattr_static(kind, name)
        if isinstance(method, staticmethod | classmethod):
            method = method.__func__
        if not callable(method) or (name.startswith("__") and name != "__call__"):
            continue
        options = getattr(method, METHOD_ATTRIBUTE, MethodOptions())
        is_stream = inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method)
        if is_stream and options.n_returns is None:
            options = options._replace(n_returns=STREAM)
        found[name] = tuple(options)
    return found


def _filled(payload: serial.Payload, tops: list[ObjectRef]) -> serial.Payload:
    """The constructor's arguments with the small values in them."""
    if len(payload) == 1:
        return payload
    values = [(ref.key, inline(ref)) for ref in tops]
    return (*payload[:3], values)


def _rebuilt(
    task: str, class_name: str, methods: Methods, retries: int, pending_max: int
) -> ActorHandle:
    target = current().actors.target(task, class_name, pending_max)
    return ActorHandle(target, class_name, methods, retries, pending_max)


def _handle_of(context: Context, task: dict[str, Any]) -> ActorHandle:
    """A handle of the actor whose task that is."""
    actor = json.loads(task["env"]["LEORONIC_WORKER"])["actor"]
    methods = {name: tuple(fields) for name, fields in actor["methods"].items()}
    target = context.actors.target(task["id"], actor["class_name"], actor["pending_max"])
    return ActorHandle(target, actor["class_name"], methods, actor["retries"], actor["pending_max"])


async def _find_named(
    context: Context, name: str, namespace: str
) -> tuple[dict[str, Any] | None, int]:
    """(the task of the living actor of that name or None, the number of the next one)."""
    label = f"{NAME_LABEL}={name_label(namespace, name)}"
    found = (await context.party.ask(commands.List(label=label, limit=100)))["tasks"]
    generation = 0
    for task in found:
        if task["state"] not in FINAL:
            return await context.party.ask(commands.Show(task["id"])), 0
        generation = max(generation, int(task["id"].rpartition("-")[2]))
    return None, generation + 1


def _named_id(name: str, namespace: str, generation: int) -> str:
    """All who make an actor of that name now come to this id, and one of them gets it."""
    digest = hashlib.sha256(name_label(namespace, name).encode()).hexdigest()[:16]
    return f"n{digest}-{generation}"
