"""Limits in words."""

from __future__ import annotations

import pytest

from leoronic.core.limits import size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1 B"), (16 << 20, "16 MiB"), (1536 << 20, "1.5 GiB"), (5 << 40, "5 TiB")],
)
def test_size_text(size: int, text: str) -> None:
    """Sizes are told in the unit that a person would use."""
    assert text == size_text(size)
