"""Options of remote functions, classes and methods: their names, defaults, and what they mean."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from leoronic.core.quantity import size
from leoronic.remote.remote_call import STREAM
from leoronic.remote.shapes import Shape

METHOD_ATTRIBUTE = "__leoronic_method__"
_SHARED = {
    "num_cpus", "num_gpus", "memory", "resources", "conditions", "priority", "runtime_env", "name",
}  # fmt: skip
FUNCTION = _SHARED | {"num_returns", "max_retries", "retry_exceptions", "backpressure"}
ACTOR = _SHARED | {
    "max_restarts", "max_task_retries", "max_concurrency", "concurrency_groups", "namespace",
    "lifetime", "get_if_exists", "max_pending_calls",
}  # fmt: skip
METHOD = {"num_returns", "concurrency_group", "max_task_retries", "backpressure", "name"}
# Ray's name for it.
_SAME = {"_generator_backpressure_num_objects": "backpressure"}
RUNTIME_ENV = {"env_vars", "working_dir"}


class MethodOptions(NamedTuple):
    """Of one method. None: as the class, or as the kind of function, has it."""

    n_returns: int | None = None
    group: str | None = None
    retries: int | None = None
    backpressure: int | None = None


def checked(options: dict[str, Any], known: set[str], what: str) -> dict[str, Any]:
    """`options` under our names. Raises `ValueError` for one that is unknown."""
    found = {_SAME.get(name, name): value for name, value in options.items()}
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"
            raise ValueError(f"{what}: no option {name!r}{hint}")
    return found


def checked_method(options: dict[str, Any]) -> MethodOptions:
    """Raises `ValueError`."""
    found = checked(options, METHOD, "a method")
    returns = found.get("num_returns")
    return MethodOptions(
        None if returns is None else n_returns(returns),
        found.get("concurrency_group"),
        _retries(found, "max_task_retries", None),
        found.get("backpressure"),
    )


def n_returns(value: Any) -> int:
    """How many values a call returns, `STREAM` for a generator. Raises `ValueError`."""
    if value in ("streaming", "dynamic"):
        return STREAM
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f'num_returns={value!r} is not a number, "streaming" or "dynamic"')


def retries_of(options: dict[str, Any], name: str, default: int) -> int:
    """How often something may be tried again, -1 for ever. Raises `ValueError`."""
    found = _retries(options, name, default)
    assert found is not None
    return found


def _retries(options: dict[str, Any], name: str, default: int | None) -> int | None:
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < -1:
        raise ValueError(f"{name}={value!r} is not -1 (for ever), 0, 1, 2...")
    return value


def retried_exceptions(options: dict[str, Any]) -> bool | tuple[type[BaseException], ...]:
    """For which exceptions a call is made once more. Raises `ValueError`."""
    value = options.get("retry_exceptions") or False
    if isinstance(value, bool):
        return value
    wanted = tuple(value) if isinstance(value, list | tuple | set) else (value,)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in wanted):
        raise ValueError(f"retry_exceptions={value!r} is neither True nor a list of exceptions")
    return wanted


def shape_of(options: dict[str, Any], cpus: float) -> Shape:
    """What the process needs; `cpus` if the options do not say. Raises `ValueError`."""
    resources = dict(options.get("resources") or {})
    if options.get("num_gpus"):
        resources["gpu"] = options["num_gpus"]
    environment = options.get("runtime_env") or {}
    unknown = sorted(set(environment) - RUNTIME_ENV)
    if unknown:
        raise ValueError(
            f"runtime_env: {', '.join(unknown)} is not supported; known: "
            f"{', '.join(sorted(RUNTIME_ENV))}"
        )
    variables = environment.get("env_vars") or {}
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValueError(f"runtime_env: env_vars must be texts, not {name!r}: {value!r}")
    wanted = options.get("num_cpus")
    memory = options.get("memory") or 0
    return Shape(
        cpus=_amount("num_cpus", cpus if wanted is None else wanted),
        memory=size(memory),
        resources=tuple(sorted((name, _amount(name, n)) for name, n in resources.items() if n)),
        conditions=_conditions(options.get("conditions") or ()),
        priority=int(options.get("priority") or 0),
        env_vars=tuple(sorted(variables.items())),
        working_dir=str(environment.get("working_dir") or ""),
    )


def _conditions(value: Any) -> tuple[str, ...]:
    """A list, or text that is separated by `;`, as tasks have them."""
    if isinstance(value, str):
        return tuple(one.strip() for one in value.split(";") if one.strip())
    return tuple(value)


def _amount(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
        raise ValueError(f"{name}={value!r} is not a number from 0 on")
    return float(value)
