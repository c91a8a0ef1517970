"""The pipes of attempts that run: read as they fill, and their bytes put into files in good time.

Most attempts end before anybody needs a file. So output waits in memory until its attempt is
`file_after_s` old, and one timer serves all that wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from leoronic.core.run import AttemptKey
from leoronic.runner.live import Live
from leoronic.runner.stream import Stream
from leoronic.runner.telling import Guard


class Pipes:
    """Reads them for one runner.

    `news` is told of each attempt that has printed or closed something, `closed` once of each whose
    pipes have both ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        guarded: Guard,
        file_after_s: float,
        *,
        news: Callable[[Live], None],
        closed: Callable[[Live], None],
    ) -> None:
        self._loop = loop
        self._file_after_s = file_after_s
        self._news = news
        self._closed = closed
        self._in_memory: dict[AttemptKey, Live] = {}
        """Young attempts that have printed: they get their files once they are old."""
        self._timer: asyncio.TimerHandle | None = None
        self._readable = guarded(self._on_readable)
        self._due = guarded(self._file_due)

    # --- reading ---

    def attach(self, live: Live) -> None:
        """Read its pipes whenever there is something in them."""
        for stream in live.streams:
            if not stream.watched and not stream.at_end and not stream.blocked:
                stream.watched = True
                self._loop.add_reader(stream.fd, self._readable, live, stream)
        self.file_later(live)

    def pump(self, live: Live, stream: Stream) -> None:
        """Read one turn's worth, and stop watching at the end or while the disk is full."""
        if not stream.at_end:
            stream.read()
        old_at = live.started + self._file_after_s
        if stream.young and stream.size and self._loop.time() >= old_at:
            stream.age()
        if stream.at_end or stream.blocked:
            self._unwatch(stream)
            if stream.at_end:
                stream.close()

    def tell_closed(self, live: Live) -> None:
        """Tell `closed` if it has not been told, and both pipes have ended."""
        if live.output_ended and not live.output_told:
            live.output_told = True
            self._closed(live)

    def close(self, live: Live) -> None:
        """Stop reading, after what is there now, though somebody may still hold it open."""
        for stream in live.streams:
            self._unwatch(stream)
            stream.read_rest()
            stream.close()
        live.output_told = True

    def drop(self, live: Live) -> None:
        """It never began: close its pipes unread."""
        self.forget(live)
        for stream in live.streams:
            self._unwatch(stream)
            stream.close()

    def forget(self, live: Live) -> None:
        """Its output is somebody else's business from here on."""
        self._in_memory.pop(live.key, None)

    def _on_readable(self, live: Live, stream: Stream) -> None:
        self.pump(live, stream)
        self.file_later(live)
        self._news(live)
        self.tell_closed(live)

    def _unwatch(self, stream: Stream) -> None:
        if stream.watched:
            stream.watched = False
            self._loop.remove_reader(stream.fd)

    # --- files ---

    def file_later(self, live: Live) -> None:
        """What it has printed gets a file once it is old, if it is still there by then."""
        stdout, stderr = live.stdout, live.stderr
        if (stdout.young and stdout.size) or (stderr.young and stderr.size):
            self._in_memory[live.key] = live
            if self._timer is None:
                self._timer = self._loop.call_at(live.started + self._file_after_s, self._due)

    def file_all(self, attempts: Iterable[Live]) -> None:
        """Put all output of these into files: what there is now, and whatever comes."""
        for live in attempts:
            self._file(live)

    def stop(self) -> None:
        """No timer of these pipes fires any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _file_due(self) -> None:
        self._timer = None
        started_before = self._loop.time() - self._file_after_s
        for live in [live for live in self._in_memory.values() if live.started <= started_before]:
            self._file(live)
        if self._in_memory:
            first = min(live.started for live in self._in_memory.values())
            self._timer = self._loop.call_at(first + self._file_after_s, self._due)

    def _file(self, live: Live) -> None:
        for stream in live.streams:
            stream.age()
        self.forget(live)
