"""Measures everything, prints a table: `python -m integration.bench [--quick] [--only NAME]`.

About twenty minutes; a few with --quick. All that it starts it ends.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from integration.bench import (
    calm,
    cluster,
    failover,
    footprint,
    healing,
    latency,
    machine,
    rate,
    scale,
    sizes,
    submission,
    table,
    transfer,
)
from integration.bench.figure import Figure
from integration.bench.session import Session
from leoronic.errors import LeoronicError

SECTIONS = {
    "rate": rate.measure,
    "submission": submission.measure,
    "latency": latency.measure,
    "idle": footprint.measure,
    "cluster": cluster.measure,
    "failover": failover.measure,
    "healing": healing.measure,
    "calm": calm.measure,
    "scale": scale.measure,
    "transfer": transfer.measure,
}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m integration.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a tenth of the counts")
    parser.add_argument("--slow", action="store_true", help="also what takes many minutes")
    parser.add_argument(
        "--only", action="append", choices=tuple(SECTIONS), help="one part; may be repeated"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="all samples, as JSON")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    return parser.parse_args()


def main() -> int:
    """Measure what was asked for. Returns 0 also where goals are missed: the table says so.

    1 if a part could not be measured; then no document is written.
    """
    options = _arguments()
    # So that what was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    figures: list[Figure] = []
    failed: list[str] = []
    grown: list[scale.Size] = []
    with tempfile.TemporaryDirectory(prefix="leoronic-bench-") as name:
        folder = Path(name)
        about = machine.describe(folder)
        before, began = machine.load(), time.monotonic()
        for section in options.only or SECTIONS:
            # Each with rivals of its own, so that one's leavings are not another's burden.
            with Session(folder / section, options.quick, options.slow) as session:
                session.folder.mkdir()
                session.say(section)
                try:
                    figures += SECTIONS[section](session)
                    grown += session.sizes
                except (
                    AssertionError,
                    LeoronicError,
                    OSError,
                    subprocess.SubprocessError,
                ) as error:
                    # The other parts are still worth having.
                    session.say(f"{section} failed: {type(error).__name__}: {error}")
                    failed.append(section)
        passed = time.monotonic() - began
    table_text = table.markdown(figures)
    text = (
        f"Measured {time.strftime('%Y-%m-%d')} on {about}; load average {before:.1f} before, "
        f"{machine.load():.1f} at the end; {passed / 60:.0f} min"
        f"{', --quick' if options.quick else ''}.\n\n{table_text}"
    )
    print(text)
    if grown:
        print(f"\n{sizes.markdown(grown)}")
    if options.json:
        data: dict[str, object] = {
            "machine": about,
            "figures": [figure.as_json() for figure in figures],
        }
        data["sizes"] = [dataclasses.asdict(size) for size in grown]
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    if options.write and not failed:
        table.write(DOCUMENT, text)
        if grown:
            sizes.write(DOCUMENT, grown)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
