"""Values on their way: what travels as it is, what is pickled, and what cannot be."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from leoronic.remote import serial
from leoronic.remote.serial import NotSerializable, dump, dump_call, load, load_call


class Ref:
    """Stands in for references to objects."""

    def __init__(self, number: int) -> None:
        self.key = ("n", "p", number)

    def __reduce__(self) -> Any:
        serial.note_ref(self, self.key)
        return Ref, (self.key[2],)


serial.register_ref(Ref)


def sent(payload: Any) -> Any:
    """As it arrives in another process, more or less: buffers as memoryviews."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(payload, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[memoryview(bytearray(b.raw())) for b in buffers])


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "text", b"bytes"])
def test_plain_values_travel_as_they_are(value: object) -> None:
    """What nobody can change needs no pickle of its own."""
    assert (value,) == dump(value)
    assert value == load(sent(dump(value)))


@pytest.mark.parametrize(
    "value",
    [[1, [2]], {"a": (1, 2)}, {1, 2}, "x" * 100_000, b"x" * 100_000, range(3), [], 10**400],
)
def test_values_come_back_equal(value: object) -> None:
    """Of built-in types, large or small."""
    assert value == load(sent(dump(value)))


def test_a_value_that_changes_later_was_taken_before() -> None:
    """Arguments are those of the moment of the call."""
    import numpy

    items, array = [1, 2], numpy.zeros(100_000)
    payload, large = dump(items), dump(array)
    items.append(3)
    array[0] = 1
    assert [1, 2] == load(sent(payload))
    assert 0 == load(sent(large))[0]


def test_large_buffers_travel_beside_the_pickle() -> None:
    """An array is not copied into the pickle; the data of large text neither."""
    import numpy

    payload = dump({"a": numpy.arange(100_000)})
    assert 1 == len(payload[1])
    assert len(payload[0]) < 1000
    assert 800_000 <= serial.size_of(payload) < 801_000
    assert isinstance(dump("x" * 100_000)[0], pickle.PickleBuffer)
    assert 100_000 <= serial.size_of(dump("x" * 100_000)) < 101_000


def test_what_cannot_change_is_not_copied() -> None:
    """A read-only array travels from where it lies."""
    import numpy

    array = numpy.zeros(100_000)
    array.setflags(write=False)
    (buffer,) = dump(array)[1]
    assert buffer.raw().obj is array or memoryview(buffer).readonly


def test_functions_and_local_classes() -> None:
    """Closures and classes that no module has."""

    class Local:
        x = 3

    k = 4
    assert 7 == load(sent(dump(lambda y: y + k)))(3)
    assert 3 == load(sent(dump([Local()])))[0].x


def test_what_cannot_be_pickled_is_named() -> None:
    """The argument and the reason."""
    with pytest.raises(NotSerializable, match=r"argument 2 of f\(\) \(a lock\) cannot be pickled"):
        dump_call((1, threading.Lock()), {}, what="f()")
    with pytest.raises(NotSerializable, match=r"argument where of f\(\)"):
        dump_call((1,), {"where": [threading.Lock()]}, what="f()")
    with pytest.raises(TypeError, match="the result of g cannot be pickled"):
        dump(threading.Lock(), what="the result of g")


def test_a_reduce_that_raises_anything() -> None:
    """Whatever the code of a class does, it is this error."""

    class Bad:
        def __reduce__(self) -> Any:
            raise ZeroDivisionError("oops")

    with pytest.raises(NotSerializable, match="ZeroDivisionError: oops"):
        dump(Bad())


def test_calls() -> None:
    """Arguments of all sorts; plain ones without a pickle."""
    assert ((1, "a"),) == dump_call((1, "a"), {})
    assert ((1, "a"), {}) == load_call(dump_call((1, "a"), {}))
    assert (([1],), {"b": 2}) == load_call(sent(dump_call(([1],), {"b": 2})))


def test_references_inside_a_value() -> None:
    """They stay references, and are told to whoever sends them."""
    found: list[Any] = []
    payload = dump({"r": Ref(7)}, found)
    assert [("n", "p", 7)] == serial.refs_of(payload)
    assert [7] == [ref.key[2] for ref in found]
    assert 7 == load(sent(payload))["r"].key[2]


def test_references_as_arguments() -> None:
    """Their values are passed instead; those that are at hand travel along."""
    found: list[Any] = []
    first, second = Ref(1), Ref(2)
    payload = dump_call(
        (first, [Ref(3)]),
        {"k": second},
        found,
        inline=lambda ref: ("two",) if ref is second else None,
    )
    assert [(("n", "p", 1), None), (("n", "p", 2), ("two",))] == serial.tops_of(payload)
    assert [("n", "p", 3)] == serial.refs_of(payload)
    assert {1, 2, 3} == {ref.key[2] for ref in found}
    args, kwargs = load_call(sent(payload), ["one", "two"])
    assert ("one", 3) == (args[0], args[1][0].key[2])
    assert {"k": "two"} == kwargs


def test_a_reference_travels_in_calls_only() -> None:
    """Pickled by anybody else, nobody would count it."""
    with pytest.raises(NotSerializable, match="only travel in arguments and results"):
        pickle.dumps(Ref(1))


def test_a_huge_list_is_not_looked_through() -> None:
    """It is pickled all the same."""
    value = list(range(100_000))
    assert value == load(sent(dump(value)))
