"""References: a value arrives once, and all who wait for it are told."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from leoronic.remote import serial
from leoronic.remote.errors import TaskError, failure, failure_of
from leoronic.remote.refs import ObjectRef, received, to_send
from leoronic.remote.serial import NotSerializable
from leoronic.remote.waiting import get_values, wait_for

WITHIN_S = 10.0


def ref(number: int = 1, value: Any = None) -> ObjectRef:
    """One that is done if there is a value."""
    made = ObjectRef(("n", "d-1", number))
    if value is not None:
        made.settle(True, serial.dump(value))
    return made


def test_whoever_waits_is_told_once() -> None:
    """Before and after the value; what comes later changes nothing."""
    one, told = ref(), []
    one.on_done(lambda found: told.append(found.value()))
    one.settle(True, (7,))
    one.settle(True, (8,))
    one.on_done(lambda found: told.append(found.value()))
    assert [7, 7] == told


def test_who_waits_no_more_is_not_told() -> None:
    """A callback can be taken away."""
    one, told = ref(), []
    one.on_done(told.append)
    one.ignore(told.append)
    one.settle(True, (7,))
    assert [] == told


def test_a_value_is_made_anew_for_each_who_gets_it() -> None:
    """What one changes the other does not see."""
    one = ref(value=[1, [2]])
    one.value()[1].append(3)
    assert [1, [2]] == one.value()


def test_get_of_one_and_of_several() -> None:
    """A list gives a list, in its order."""
    assert 5 == get_values(ref(value=5), None, None)
    assert [5, 6] == get_values([ref(1, 5), ref(2, 6)], None, None)
    assert [] == get_values([], None, None)


def test_get_raises_what_the_call_raised() -> None:
    """As its own type and as `TaskError`."""
    one = ref()
    one.settle(False, failure_of(ValueError("bad")))
    with pytest.raises(ValueError, match="bad") as caught:
        get_values(one, None, None)
    assert isinstance(caught.value, TaskError)


def test_get_waits_for_another_thread() -> None:
    """And tells that it waits."""
    one, two = ref(1), ref(2)
    said: list[bool] = []

    def settle() -> None:
        two.settle(True, (2,))
        one.settle(True, (1,))

    waiting = threading.Event()

    def blocked(flag: bool) -> None:
        said.append(flag)
        waiting.set()

    thread = threading.Thread(target=lambda: (waiting.wait(WITHIN_S), settle()))
    thread.start()
    assert [1, 2] == get_values([one, two], WITHIN_S, blocked)
    thread.join()
    assert [True, False] == said


def test_get_gives_up_in_time_and_says_what_is_missing() -> None:
    """Nothing is left behind at the references."""
    one = ref()
    with pytest.raises(TimeoutError, match="1 of 2 values"):
        get_values([one, ref(2, 5)], 0.01, None)
    assert not one.callbacks


def test_get_of_what_is_no_reference() -> None:
    """A mistake of the caller."""
    with pytest.raises(TypeError, match="int"):
        get_values([ref(1, 1), 7], None, None)  # type: ignore[list-item]


def test_wait_keeps_the_order_of_the_list() -> None:
    """At most so many are ready, however many are."""
    refs = [ref(1), ref(2, 2), ref(3, 3)]
    assert ([refs[1]], [refs[0], refs[2]]) == wait_for(refs, 1, None, None)
    assert ([refs[1], refs[2]], [refs[0]]) == wait_for(refs, 3, 0.01, None)
    assert ([refs[1], refs[2]], [refs[0]]) == wait_for(refs, 3, 0, None)
    assert not refs[0].callbacks


def test_wait_is_woken_by_the_last_one_that_it_needs() -> None:
    """By a failure, too."""
    refs = [ref(1), ref(2), ref(3)]
    threading.Timer(0, lambda: refs[2].settle(False, failure("object_lost", "gone"))).start()
    assert ([refs[2]], refs[:2]) == wait_for(refs, 1, WITHIN_S, None)


@pytest.mark.parametrize(("refs", "count"), [([1], 0), ([1], 2), ([], 1)])
def test_wait_refuses_what_makes_no_sense(refs: list[int], count: int) -> None:
    """Too few or too many."""
    with pytest.raises(ValueError, match="num_returns"):
        wait_for([ref(n) for n in refs], count, None, None)


def test_wait_refuses_the_same_twice() -> None:
    """As Ray does."""
    one = ref()
    with pytest.raises(ValueError, match="twice"):
        wait_for([one, one], 1, None, None)


async def test_await() -> None:
    """On any loop, before and after the value is there; cancelling the waiting harms nothing."""
    one = ref()
    waits = asyncio.ensure_future(_value(one))
    gives_up = asyncio.ensure_future(_value(one))
    await asyncio.sleep(0)
    gives_up.cancel()
    threading.Thread(target=one.settle, args=(True, (7,))).start()
    assert 7 == await waits
    assert 7 == await one
    with pytest.raises(asyncio.CancelledError):
        await gives_up


async def _value(one: ObjectRef) -> Any:
    return await one


def test_as_a_future() -> None:
    """Of `concurrent.futures`."""
    good, bad = ref(1), ref(2)
    futures = good.future(), bad.future()
    good.settle(True, (7,))
    bad.settle(False, failure_of(KeyError("k")))
    assert 7 == futures[0].result(WITHIN_S)
    with pytest.raises(KeyError):
        futures[1].result(WITHIN_S)


def test_a_reference_is_pickled_only_on_its_way() -> None:
    """Elsewhere nobody would count it."""
    import pickle

    with pytest.raises(NotSerializable):
        pickle.dumps(ref())


def test_buffers_that_arrive_are_read_only_and_can_be_sent_on() -> None:
    """Several may load the same; none may change it for the others."""
    import pickle

    payload = received((b"data", [memoryview(bytearray(b"x" * 20000))], []))
    assert payload[1][0].readonly
    data, buffers, _ = to_send(payload)
    assert b"data" == data
    assert [b"x" * 20000] == [bytes(buffer.raw()) for buffer in buffers]
    assert isinstance(buffers[0], pickle.PickleBuffer)
