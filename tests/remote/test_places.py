"""Where nodes can be called is asked once, until it was wrong."""

from __future__ import annotations

from typing import Any

from leoronic.core.commands import Command, Locate
from leoronic.remote.places import Places


async def test_it_is_asked_once_and_the_one_that_answered_comes_first() -> None:
    """Each node apart; what is forgotten is asked again."""
    asked: list[Command] = []

    async def ask(command: Command) -> Any:
        asked.append(command)
        return {"addresses": ["a:1", "b:1", "c:1"]}

    places = Places(ask)
    assert ["a:1", "b:1", "c:1"] == await places.addresses("n")
    places.met("n", "b:1")
    assert ["b:1", "a:1", "c:1"] == await places.addresses("n")
    assert [Locate(node="n")] == asked
    await places.addresses("m")
    places.forget("n")
    assert ["a:1", "b:1", "c:1"] == await places.addresses("n")
    assert [Locate(node="n"), Locate(node="m"), Locate(node="n")] == asked
