"""The table and the plot of what a cluster costs as it grows, in the document."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from integration.bench import install, table
from integration.bench.scale import Size

HERE = Path(__file__).resolve().parent
PLOT = "cluster-sizes.svg"
PLOT_S_MAX = 60.0


def markdown(sizes: Sequence[Size]) -> str:
    """One row for each size."""
    return table.aligned(Size.COLUMNS, [size.cells() for size in sizes])


def write(document: Path, sizes: Sequence[Size]) -> None:
    """Put the table between its marks, and draw the plot beside the document.

    Raises `Unavailable` if it can't be drawn here; then nothing is changed.
    """
    python = install.python("plot", ("matplotlib",), HERE / "requirements.txt")
    data = json.dumps([dataclasses.asdict(size) for size in sizes]).encode()
    try:
        subprocess.run(
            [python, str(HERE / "plot_side.py"), str(document.with_name(PLOT))],
            input=data, capture_output=True, timeout=PLOT_S_MAX, check=True,
        )  # fmt: skip
    except subprocess.SubprocessError as error:
        raise install.Unavailable(f"the plot cannot be drawn here: {error}") from None
    text = f"{markdown(sizes)}\n\n![the same as a plot]({PLOT})"
    table.write(document, text, table.SIZES_BEGIN, table.SIZES_END)
