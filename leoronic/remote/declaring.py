"""The decorators: `@remote` for functions and classes, `@method` for methods of actors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from leoronic.remote.actors import ActorClass
from leoronic.remote.functions import RemoteFunction
from leoronic.remote.options import METHOD_ATTRIBUTE, checked_method

F = TypeVar("F", bound=Callable[..., Any])


def remote(*args: Any, **options: Any) -> Any:
    """Make a function or class remote: `@remote`, or `@remote(num_cpus=2, ...)` with options.

    Functions get `.remote(...)`, which returns an `ObjectRef`; classes too, which returns a handle
    of a new actor. Raises `ValueError` for an unknown option or a value that it cannot have.
    """
    if len(args) == 1 and not options and callable(args[0]):
        return _made(args[0], {})
    if args:
        raise TypeError("remote: options are given by name, such as @remote(num_cpus=2)")
    return lambda target: _made(target, options)


def method(**options: Any) -> Callable[[F], F]:
    """Options of one method of an actor's class: `num_returns`, `concurrency_group`,
    `max_task_retries`. Raises `ValueError`.
    """
    checked = checked_method(options)

    def mark(function: F) -> F:
        setattr(function, METHOD_ATTRIBUTE, checked)
        return function

    return mark


def _made(target: Any, options: dict[str, Any]) -> Any:
    if isinstance(target, RemoteFunction | ActorClass):
        raise TypeError(f"remote: {target!r} is remote already; use .options(...)")
    if inspect.isclass(target):
        return ActorClass(target, options)
    if not callable(target):
        raise TypeError(f"remote: {target!r} is neither a function nor a class")
    return RemoteFunction(target, options)
