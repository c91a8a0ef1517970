"""Subscriptions: who hears what, and what slow listeners cost."""

from __future__ import annotations

from leoronic.actors.watchers import CHANGES_MAX, Watchers
from leoronic.core.queue_messages import Change


def change(task: str, attempt: int = 0) -> Change:
    return Change(task, "running", attempt, "n", 1.0)


class Desk:
    """Watchers, and what the queue was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.watchers = Watchers(lambda: self.told.append("on"), lambda: self.told.append("off"))


async def test_the_queue_reports_while_anybody_listens() -> None:
    """Turned on by the first, off by the last, also when a listener fails."""
    desk = Desk()
    with desk.watchers.subscribe():
        assert ["on"] == desk.told
        with desk.watchers.subscribe(["a"]):
            pass
        assert ["on"] == desk.told
    assert ["on", "off"] == desk.told
    try:
        with desk.watchers.subscribe():
            raise RuntimeError
    except RuntimeError:
        pass
    assert ["on", "off", "on", "off"] == desk.told


async def test_each_hears_of_its_own_tasks() -> None:
    """Elements count for their array; no names means all."""
    watchers = Desk().watchers
    with watchers.subscribe() as everything, watchers.subscribe(["a", "b"]) as some:
        changes = [change("a"), change("c"), change("b.3"), change("a.x"), change("ab")]
        watchers.offer(changes)
        assert changes == await everything.news()
        assert [change("a"), change("b.3")] == await some.news()


async def test_news_are_taken_once() -> None:
    """Then there are none, until the time is up."""
    watchers = Desk().watchers
    with watchers.subscribe() as subscription:
        watchers.offer([change("a")])
        assert [change("a")] == await subscription.news()
        assert [] == await subscription.news(0.0)


async def test_a_slow_listener_loses_the_oldest_and_knows() -> None:
    """Its memory is bounded."""
    watchers = Desk().watchers
    with watchers.subscribe() as subscription:
        watchers.offer([change("a", n) for n in range(CHANGES_MAX)])
        assert not subscription.missed
        watchers.offer([change("a", CHANGES_MAX)])
        assert subscription.missed
        news = await subscription.news()
        assert (CHANGES_MAX, 1) == (len(news), news[0].attempt)


async def test_a_queue_that_starts_anew_makes_all_look_again() -> None:
    """Whatever they missed; nobody there, nobody woken."""
    watchers = Desk().watchers
    assert not watchers.wake_all()
    with watchers.subscribe(["a"]) as subscription:
        assert watchers.wake_all()
        assert [] == await subscription.news()
        assert subscription.missed
