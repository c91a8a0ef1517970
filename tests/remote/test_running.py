"""Where calls run: none before there is something to call."""

from __future__ import annotations

import threading
from typing import Any, cast

from leoronic.remote.executing import Work
from leoronic.remote.running import Threads


def test_threads_wait_for_the_constructor() -> None:
    """What comes while the object is being made runs afterwards, in its order."""
    threads = Threads(
        cast(Work, None), lambda *_: cast(Any, None), lambda *_: None, count=1, groups={}
    )
    seen: list[str] = []
    came = threading.Event()

    def create() -> None:
        threads.call(lambda: seen.append("first"))
        threads.call(came.set)
        threads.call(end)
        # A thread that did not wait would have begun by now: there is nothing else to do for it.
        assert not came.wait(0.05)
        seen.append("made")

    def end() -> None:
        seen.append("later")
        threads.stop(3)

    assert 3 == threads.run(create)
    assert ["made", "first", "later"] == seen
