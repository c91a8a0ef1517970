"""Functions and classes by their digest."""

from __future__ import annotations

import threading

import pytest

from leoronic.remote.code import CodeMissing, CodeSent, CodeShelf, describe
from leoronic.remote.serial import NotSerializable


class Connection:
    pass


def test_code_is_named_by_what_it_is() -> None:
    """The same function has the same digest; what was sent can be loaded."""
    k = 3

    def add(x: int) -> int:
        return x + k

    code = describe(add)
    assert code.name.endswith("add")
    shelf = CodeShelf()
    shelf.add(code.digest, code.data)
    assert 5 == shelf.load(code.digest)(2)
    assert shelf.load(code.digest) is shelf.load(code.digest)


def test_what_was_not_sent() -> None:
    """Its digest is in the message."""
    with pytest.raises(CodeMissing, match="abcdef"):
        CodeShelf().load("abcdef")


def test_code_that_cannot_be_pickled() -> None:
    """The function is named, and why."""
    lock = threading.Lock()

    def locked() -> None:
        lock.acquire()

    with pytest.raises(NotSerializable, match="locked cannot be pickled"):
        describe(locked)


def test_code_is_sent_once_a_connection() -> None:
    """And again on another."""
    sent, first, second = CodeSent(), Connection(), Connection()
    assert sent.needs(first, "d")
    assert not sent.needs(first, "d")
    assert sent.needs(first, "e")
    assert sent.needs(second, "d")


def test_the_shelf_loads_again_what_it_forgot() -> None:
    """Only so many functions are kept loaded."""
    shelf = CodeShelf(held_max=1)
    codes = [describe(lambda x, n=n: x + n) for n in range(3)]
    for code in codes:
        shelf.add(code.digest, code.data)
    assert [10, 11, 12] == [shelf.load(code.digest)(10) for code in codes]
    assert 10 == shelf.load(codes[0].digest)(10)
