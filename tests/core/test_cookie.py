"""What can be a cookie."""

from __future__ import annotations

import pytest

from leoronic.core.cookie import COOKIE_LENGTH_MAX, COOKIE_LENGTH_MIN, check_cookie
from leoronic.errors import BadRequest


@pytest.mark.parametrize("length", [COOKIE_LENGTH_MIN, COOKIE_LENGTH_MAX])
def test_a_cookie(length: int) -> None:
    """White space around it does not count."""
    assert "x" * length == check_cookie(" " + "x" * length + "\n")


def test_a_cookie_that_can_be_guessed() -> None:
    """Its fingerprint is public, so it is refused."""
    with pytest.raises(BadRequest, match="of 19 characters can be guessed"):
        check_cookie("x" * (COOKIE_LENGTH_MIN - 1))


@pytest.mark.parametrize(
    "text", ["", " \n", "x" * (COOKIE_LENGTH_MAX + 1), "x" * 20 + "\n" + "x" * 20, "x" * 20 + "\0"]
)
def test_what_is_no_cookie(text: str) -> None:
    """Nothing, too much, several, or what no person could have typed."""
    with pytest.raises(BadRequest, match="is no cookie"):
        check_cookie(text)
