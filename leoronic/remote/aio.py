"""`leoronic.aio`: the verbs for code inside an event loop, none of which blocks it.

    counter = Counter.remote()
    await counter.add.remote()                      # a reference can be awaited
    values = await leoronic.aio.get(refs, timeout=5)
    async for ref in leoronic.aio.as_completed(refs):
        print(await ref)

`.remote()` itself only pickles its arguments, and may be called anywhere; making an actor with a
name asks the node, which `asyncio.to_thread(Counter.options(name="hits").remote)` does elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from leoronic.remote import actors, api, beginning
from leoronic.remote.errors import GetTimeoutError
from leoronic.remote.refs import ObjectRef


async def init(*args: Any, **options: Any) -> dict[str, Any]:
    """As `leoronic.init`."""
    return await asyncio.to_thread(beginning.init, *args, **options)


async def shutdown() -> None:
    """As `leoronic.shutdown`."""
    await asyncio.to_thread(beginning.shutdown)


async def get(
    refs: ObjectRef | Iterable[ObjectRef],
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - as Ray's, and that of `leoronic.get`
) -> Any:
    """As `leoronic.get`: the value of a reference, or a list of those of several.

    Raises what the first of the failed calls raised, or `GetTimeoutError`.
    """
    wanted = [refs] if isinstance(refs, ObjectRef) else list(refs)
    if not await _reached(wanted, len(wanted), timeout):
        missing = sum(not ref.done for ref in wanted)
        raise GetTimeoutError(
            f"get: {missing} of {len(wanted)} values are not there after {timeout:g} s"
        )
    return refs.value() if isinstance(refs, ObjectRef) else [ref.value() for ref in wanted]


async def wait(
    refs: Sequence[ObjectRef],
    *,
    num_returns: int = 1,
    timeout: float | None = None,  # noqa: ASYNC109
) -> tuple[list[ObjectRef], list[ObjectRef]]:
    """As `leoronic.wait`: (ready, not ready). Raises `ValueError` as that does."""
    api.wait(refs, num_returns=num_returns, timeout=0)  # It checks them, and asks for them.
    await _reached(refs, num_returns, timeout)
    return api.wait(refs, num_returns=num_returns, timeout=0)


async def as_completed(
    refs: Iterable[ObjectRef],
    *,
    timeout: float | None = None,  # noqa: ASYNC109
) -> AsyncIterator[ObjectRef]:
    """The references, each when its value is there. Raises `GetTimeoutError`."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    left = list(refs)
    while left:
        left_s = None if deadline is None else deadline - loop.time()
        if not await _reached(left, 1, left_s):
            raise GetTimeoutError(f"{len(left)} values are not there after {timeout:g} s")
        done, left = [ref for ref in left if ref.done], [ref for ref in left if not ref.done]
        for ref in done:
            yield ref


async def put(value: Any) -> ObjectRef:
    """As `leoronic.put`. The pickling of a large value is done elsewhere, too."""
    return await asyncio.to_thread(api.put, value)


async def get_actor(name: str, namespace: str | None = None) -> actors.ActorHandle:
    """As `leoronic.get_actor`."""
    return await asyncio.to_thread(actors.get_actor, name, namespace)


async def nodes() -> list[dict[str, Any]]:
    """As `leoronic.nodes`."""
    return await asyncio.to_thread(api.nodes)


async def cluster_resources() -> dict[str, float]:
    """As `leoronic.cluster_resources`."""
    return await asyncio.to_thread(api.cluster_resources)


async def available_resources() -> dict[str, float]:
    """As `leoronic.available_resources`."""
    return await asyncio.to_thread(api.available_resources)


async def _reached(refs: Sequence[ObjectRef], count: int, timeout_s: float | None) -> bool:
    """Whether so many of them have their values, in time."""
    pending = [ref for ref in refs if not ref.done]
    missing = count - (len(refs) - len(pending))
    if missing <= 0:
        return True
    loop = asyncio.get_running_loop()
    reached = asyncio.Event()
    counting = threading.Lock()

    def one_more(_: ObjectRef) -> None:
        nonlocal missing
        with counting:
            missing -= 1
            is_last = missing == 0
        if is_last:
            # That loop may be closed by now: then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(reached.set)

    try:
        async with asyncio.timeout(timeout_s):
            for ref in pending:
                ref.on_done(one_more)
            await reached.wait()
    except TimeoutError:
        return missing <= 0
    finally:
        for ref in pending:
            ref.ignore(one_more)
    return True
