"""One run of the benchmark: its folder, its rivals and nodes, and rounds that take turns."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from integration.bench import rivals
from integration.bench.figure import Missing
from integration.bench.install import Unavailable
from integration.bench.rivals import Rival
from integration.harness import Node, running

if TYPE_CHECKING:
    from integration.bench.scale import Size

ROUND_S_MAX = 240.0
"""No further round is begun after this long."""

Samples = dict[str, list[float] | Missing]
Work = Callable[[], Sequence[float]]


class Session:
    """What the measurements share. `quick` asks for fewer rounds and smaller counts.

    `slow` asks also for what takes many minutes. `sizes` are what idle clusters cost, for a table.
    """

    def __init__(self, folder: Path, quick: bool, slow: bool = False) -> None:
        self.folder = folder
        self.quick = quick
        self.slow = slow
        self.sizes: list[Size] = []
        self._rivals: dict[type[Rival], Rival | Missing] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def say(self, text: str) -> None:
        """Progress, for people."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def scaled(self, count: int, least: int = 1) -> int:
        """`count`, or a tenth of it if this is to be quick."""
        return max(count // 10, least) if self.quick else count

    def rounds(self, count: int) -> int:
        """How many rounds: `count`, or 2 if this is to be quick."""
        return min(count, 2) if self.quick else count

    def rival(self, kind: type[Rival]) -> Rival | Missing:
        """That rival, started now unless it runs already."""
        if kind not in self._rivals:
            try:
                started = kind(self.folder / kind.__name__.lower())
                self._stack.callback(started.close)
                self._rivals[kind] = started
            except (Unavailable, OSError, subprocess.SubprocessError) as error:
                rivals.warn(kind.name, str(error))
                self._rivals[kind] = Missing(str(error))
        return self._rivals[kind]

    def end_rivals(self) -> None:
        """End all that were started; they start again when asked for."""
        self._stack.close()
        self._rivals.clear()

    @contextlib.contextmanager
    def node(self, *options: str) -> Iterator[Node]:
        """A node of ours with two cpus."""
        with running(self.folder, "--cpus", "2", *options) as node:
            try:
                yield node
            except Exception:
                self.say(f"the node's log ends with:\n{node.tail()}")
                raise

    def take_turns(self, rounds: int, works: Mapping[str, Work | Missing]) -> Samples:
        """All of `works` in turn, `rounds` times: what else the machine does hits all alike."""
        samples: Samples = {
            name: work if isinstance(work, Missing) else [] for name, work in works.items()
        }
        began = time.monotonic()
        for number in range(rounds):
            for name, work in works.items():
                found = samples[name]
                if isinstance(work, Missing) or isinstance(found, Missing):
                    continue
                self.say(f"  round {number + 1} of {rounds}: {name}")
                try:
                    found += work()
                except (Unavailable, subprocess.SubprocessError) as error:
                    rivals.warn(name, str(error))
                    samples[name] = Missing(str(error))
            if time.monotonic() - began > ROUND_S_MAX:
                break
        return samples

    def measured(
        self, kind: type[Rival], what: str, count: int, turn: Callable[[float], float]
    ) -> Work | Missing:
        """The work of a rival, as samples that `turn` makes of seconds."""
        rival = self.rival(kind)
        if isinstance(rival, Missing):
            return rival
        return lambda: [turn(seconds) for seconds in rival.measure(what, count)]


def ours(samples: Samples, name: str = "ours") -> list[float]:
    """Our own samples, taken out of those of all."""
    found = samples.pop(name)
    assert not isinstance(found, Missing)
    return found


def command_line(*arguments: str, node: Node, stdin: bytes = b"") -> float:
    """Seconds that `leoronic ARGUMENTS` takes, as a user would call it."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-X", "utf8", "-m", "leoronic.client", *arguments],
        cwd=node.root,
        env={**os.environ, "LEORONIC_ROOT": str(node.root), "PYTHONPATH": str(_REPOSITORY)},
        input=stdin,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )
    return time.perf_counter() - began


_REPOSITORY = Path(__file__).resolve().parents[2]
