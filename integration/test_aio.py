"""`leoronic.aio` inside an event loop, and joblib's backend; every wait has a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import joblib  # type: ignore[import-untyped]
import pytest
from harness import Node

import leoronic
from integration import remote_work as work
from leoronic import aio

WITHIN_S = 30.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("aio") / "a", "--cpus", "2")
    made.start()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
async def session(node: Node) -> None:
    await aio.init(str(node.root), ignore_reinit_error=True)


pytestmark = [pytest.mark.timeout(60)]

square = leoronic.remote(work.square)
nap = leoronic.remote(work.nap)
fail = leoronic.remote(work.fail)


async def test_get() -> None:
    """One value, or many in order, or what the first of them raised."""
    assert 9 == await aio.get(square.remote(3), timeout=WITHIN_S)
    assert [x * x for x in range(50)] == await aio.get([square.remote(x) for x in range(50)])
    assert 16 == await square.remote(4)
    with pytest.raises(RuntimeError, match="why"):
        await aio.get([square.remote(3), fail.remote("why")], timeout=WITHIN_S)
    assert [] == await aio.get([])


async def test_the_loop_goes_on() -> None:
    """While values are waited for, others run."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await aio.get([nap.remote(0.3), nap.remote(0.3)], timeout=WITHIN_S)
    ticking.cancel()
    assert ticks > 10


async def test_time_limits() -> None:
    """Of `get`, `wait` and `as_completed`; what is waited for goes on."""
    slow = nap.remote(1.0)
    with pytest.raises(leoronic.GetTimeoutError):
        await aio.get(slow, timeout=0.05)
    assert ([], [slow]) == await aio.wait([slow], timeout=0.05)
    with pytest.raises(leoronic.GetTimeoutError):
        [ref async for ref in aio.as_completed([slow], timeout=0.05)]
    assert 1.0 == await aio.get(slow, timeout=WITHIN_S)


async def test_wait_and_as_completed() -> None:
    """The quick one comes first."""
    slow, quick = nap.remote(0.8), nap.remote(0)
    began = time.monotonic()
    assert ([quick], [slow]) == await aio.wait([slow, quick], num_returns=1, timeout=WITHIN_S)
    found = [ref async for ref in aio.as_completed([slow, quick], timeout=WITHIN_S)]
    assert [quick, slow] == found
    assert time.monotonic() - began < WITHIN_S
    assert ([slow, quick], []) == await aio.wait([slow, quick], num_returns=2)


async def test_the_rest() -> None:
    """`put`, and what asks the node."""
    assert {"a": 1} == await (await aio.put({"a": 1}))
    assert 2.0 == (await aio.cluster_resources())["CPU"]
    assert (await aio.available_resources())["CPU"] <= 2.0
    assert [True] == [node["Alive"] for node in await aio.nodes()]
    assert "hi\n" == await leoronic.sh("echo hi")


def test_joblib() -> None:
    """Its batches run in workers; exceptions come back; nested calls do not hang."""
    leoronic.register_joblib()
    with joblib.parallel_config(backend="leoronic", num_cpus=0.5):
        parallel = joblib.Parallel(timeout=WITHIN_S)
        assert [x * x for x in range(200)] == parallel(
            joblib.delayed(work.square)(x) for x in range(200)
        )
        assert [3] == joblib.Parallel(n_jobs=2)([joblib.delayed(nested)()])
        with pytest.raises(ValueError, match="three"):
            joblib.Parallel()(joblib.delayed(work.fail_at_three)(x) for x in range(20))
        assert [4] == parallel([joblib.delayed(work.square)(2)])
        lazily = joblib.Parallel(return_as="generator")(
            joblib.delayed(work.square)(x) for x in range(10)
        )
        assert [x * x for x in range(10)] == list(lazily)


def nested() -> int:
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(work.square)(x) for x in (1, 1, 1))
    return sum(found)


async def test_the_end() -> None:
    """`shutdown` in a loop, twice."""
    await aio.shutdown()
    await aio.shutdown()
    assert not leoronic.is_initialized()
