"""What an executor sends: functions made ready once, and run in workers after the initializer."""

from __future__ import annotations

import functools
import threading
import traceback
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

from leoronic.remote import context
from leoronic.remote.api import cluster_resources
from leoronic.remote.functions import CPUS, RemoteFunction
from leoronic.remote.options import shape_of
from leoronic.remote.refs import ObjectRef

FUNCTIONS_KEPT_MAX = 256


class InitializerFailed(Exception):
    """The initializer of an executor raised, in a worker; the text is its traceback."""


class Setup(NamedTuple):
    """The initializer of one executor. `token` names the executor."""

    token: str
    function: Callable[..., object]
    args: tuple[Any, ...]


class _Initialized:
    """In a worker: which executors' initializers ran, and what of those that failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: dict[str, str] = {}

    def ensure(self, setup: Setup) -> None:
        """Run it, unless it ran here. Raises `InitializerFailed` each time if it failed."""
        with self._lock:
            if setup.token not in self._outcomes:
                try:
                    setup.function(*setup.args)
                except BaseException:
                    self._outcomes[setup.token] = traceback.format_exc()
                else:
                    self._outcomes[setup.token] = ""
        if self._outcomes[setup.token]:
            raise InitializerFailed(self._outcomes[setup.token])


_initialized = _Initialized()


def initialize(setup: Setup) -> None:
    """Run it in this worker, once."""
    _initialized.ensure(setup)


def after(setup: Setup, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, before which the initializer runs in each worker."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        initialize(setup)
        return function(*args, **kwargs)

    return call


def chunked(function: Callable[..., Any]) -> Callable[[list[tuple[Any, ...]]], list[Any]]:
    """`function` for a list of argument tuples; the first exception ends it."""

    @functools.wraps(function)
    def chunk(calls: list[tuple[Any, ...]]) -> list[Any]:
        return [function(*args) for args in calls]

    return chunk


def apply(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call what came as an argument."""
    return function(*args, **kwargs)


class Prepared:
    """A function that is pickled once, however often it is called."""

    def __init__(self, remote: RemoteFunction) -> None:
        self.remote = remote

    def __call__(self, *args: Any) -> Any:
        """Only by an executor."""
        raise TypeError("it runs elsewhere: give it to `submit`")


class Calls:
    """Starts calls with the same requirements. `options` are those of `remote`."""

    def __init__(
        self,
        options: dict[str, Any],
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        self._context = context.current()
        self._options = dict(options)
        self._setup: Setup | None = None
        if initializer is not None:
            self._setup = Setup(uuid4().hex, initializer, initargs)
            # Workers of its own: others' functions do not expect what an initializer leaves.
            env = dict(self._options.get("runtime_env") or {})
            env["env_vars"] = {**env.get("env_vars", {}), "LEORONIC_EXECUTOR": self._setup.token}
            self._options["runtime_env"] = env
        self._kept: OrderedDict[Callable[..., Any], Prepared] = OrderedDict()
        self._apply = self.prepare(apply)

    @property
    def is_over(self) -> bool:
        """Whether `leoronic.shutdown()` was called since."""
        return context.current_or_none() is not self._context

    def prepare(self, function: Callable[..., Any]) -> Prepared:
        """Have it pickled once; what it refers to is as it was at its first call."""
        wrapped = function if self._setup is None else after(self._setup, function)
        # A generator cannot travel as a result, and a future has one result.
        return Prepared(RemoteFunction(wrapped, {"num_returns": 1, **self._options}))

    def start(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef:
        """Call it. Raises `NotSerializable`, and `RuntimeError` after `leoronic.shutdown()`."""
        if self.is_over:
            raise RuntimeError("leoronic.shutdown() was called: this executor's calls are over")
        prepared = function
        if not isinstance(function, Prepared):
            if type(function) is not types.FunctionType or function.__closure__:
                # It may be another thing at each call: an object, a closure.
                args = (function, *args)
                prepared = self._apply
            else:
                prepared = self._kept.get(function) or self._keep(function)
        ref: ObjectRef = prepared.remote.remote(*args, **kwargs)
        return ref

    def _keep(self, function: Callable[..., Any]) -> Prepared:
        found = self._kept[function] = self.prepare(function)
        if len(self._kept) > FUNCTIONS_KEPT_MAX:
            self._kept.popitem(last=False)
        return found

    def slots(self) -> float:
        """How many of these calls the cluster can run at a time."""
        if self.is_over:
            return 1.0
        found = cluster_resources()
        shape = shape_of(self._options, CPUS)
        wanted = {"CPU": shape.cpus, "memory": float(shape.memory), **dict(shape.resources)}
        fit = [found.get(name, 0.0) / amount for name, amount in wanted.items() if amount]
        # Of what needs nothing that is counted any number fits; a processor each is enough.
        return max(1.0, min(fit, default=found.get("CPU", 1.0)))
