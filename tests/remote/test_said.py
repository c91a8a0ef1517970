"""Who may talk to whom."""

from __future__ import annotations

import pytest

from leoronic.errors import ProtocolError
from leoronic.remote.said import Hello, decode_hello, why_not

OURS = Hello("d-1", "node", "job")


def test_a_hello_arrives_as_it_was_said_and_later_fields_are_ignored() -> None:
    """A newer version may say more."""
    assert OURS == decode_hello((*OURS, "more"))


@pytest.mark.parametrize("body", [None, "hello", ("d-1", "node"), (1, "n", "j", "3.11", 1, {})])
def test_what_is_no_hello_is_refused(body: object) -> None:
    """Whoever is there, it is no party."""
    with pytest.raises(ProtocolError):
        decode_hello(body)


def test_equals_can_talk() -> None:
    """The same protocol, the same Python."""
    assert "" == why_not(Hello("t.1", "other"), OURS)


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (Hello("t.1", "other", python="3.99"), "Python 3.99"),
        (Hello("t.1", "other", protocol=9), "protocol 9"),
    ],
)
def test_others_are_told_what_to_do(theirs: Hello, told: str) -> None:
    """Code of one Python version does not run in another."""
    assert told in why_not(theirs, OURS)
