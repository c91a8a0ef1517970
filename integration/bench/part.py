"""One part of the benchmark, measured: its figures, when that was, on what, and how busy it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.bench import table
from integration.bench.figure import Figure
from integration.bench.scale import Size


@dataclass(frozen=True, slots=True)
class Part:
    """`load_before` and `load_after` are averages over a minute; `options` those of the command.

    `minutes` is None where only the time of several parts together is known; the loads are then
    those before the first and after the last of them.
    """

    name: str
    machine: str
    measured_at: str
    load_before: float
    load_after: float
    minutes: float | None
    options: tuple[str, ...]
    figures: list[Figure]
    sizes: list[Size] = field(default_factory=list)

    def markdown(self) -> str:
        """A heading, a line about the run, and the table."""
        took = "in a run of several parts" if self.minutes is None else f"{self.minutes:.1f} min"
        about = (
            f"Measured {self.measured_at}, {took}; load average {self.load_before:.1f} before, "
            f"{self.load_after:.1f} at the end; {self.machine}."
        )
        title = " ".join((self.name, *self.options))
        return f"### `{title}`\n\n{about}\n\n{table.markdown(self.figures)}"

    def as_json(self) -> dict[str, object]:
        """The same as plain data; see `from_json`."""
        return {
            "machine": self.machine,
            "measured_at": self.measured_at,
            "load_before": self.load_before,
            "load_after": self.load_after,
            "minutes": self.minutes,
            "options": list(self.options),
            "figures": [figure.as_json() for figure in self.figures],
            "sizes": [dataclasses.asdict(size) for size in self.sizes],
        }

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any]) -> Part:
        """What `as_json` gave. Raises KeyError or TypeError if it is something else."""
        return cls(
            name,
            data["machine"],
            data["measured_at"],
            data["load_before"],
            data["load_after"],
            data["minutes"],
            tuple(data["options"]),
            [Figure.from_json(figure) for figure in data["figures"]],
            [Size(**size) for size in data["sizes"]],
        )


def write_json(path: Path, parts: Iterable[Part]) -> None:
    """All samples of these parts."""
    data = {"parts": {part.name: part.as_json() for part in parts}}
    path.write_text(json.dumps(data, indent=1) + "\n")


def read_json(path: Path) -> list[Part]:
    """The parts of a file of `write_json`. Raises ValueError if it is none, and OSError."""
    try:
        parts = json.loads(path.read_text())["parts"]
        return [Part.from_json(name, part) for name, part in parts.items()]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} does not hold the parts of a run: {error!r}") from None
