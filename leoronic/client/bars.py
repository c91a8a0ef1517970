"""Progress bars for bytes, on a terminal's standard error; nothing elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from leoronic.client import text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bars:
    """One bar for each label, there while it lasts. Costs nothing before the first is shown."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._on = enabled and sys.stderr.isatty()
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    def show(self, label: str, done: int, size: int) -> None:
        """`done` of `size` bytes are there."""
        if not self._on:
            return
        progress = self._started()
        label = text.one_line(label)
        if label not in self._bars:
            self._bars[label] = progress.add_task(label, total=size)
        progress.update(self._bars[label], completed=done, total=size)

    def end(self, label: str) -> None:
        """Take a bar away."""
        bar = self._bars.pop(label, None)
        if bar is not None and self._progress is not None:
            self._progress.remove_task(bar)

    def clear(self) -> None:
        """Take all of them away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._bars.clear()

    def _started(self) -> Progress:
        if self._progress is None:
            self._progress = _make()
            self._progress.start()
        return self._progress


def _make() -> Progress:
    from rich import progress  # noqa: PLC0415 (only who waits at a terminal pays for it)
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class Speed(progress.ProgressColumn):
        """In the units of the sizes beside it."""

        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{text.size(speed)}/s" if speed else "")

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        Speed(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
