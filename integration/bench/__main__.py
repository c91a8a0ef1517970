"""Measures everything, prints tables: `python -m integration.bench [--quick] [--only NAME]`.

What is measured is kept part by part, as soon as a part has ended: nobody needs to have the time
for all of it at once. All that it starts it ends.
"""

from __future__ import annotations

import argparse
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
    files,
    footprint,
    ghost,
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
from integration.bench.install import Unavailable
from integration.bench.part import Part, read_json, write_json
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
    "files": files.measure,
    "ghost": ghost.measure,
}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
FAILURES = (AssertionError, LeoronicError, OSError, Unavailable, subprocess.SubprocessError)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m integration.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a tenth of the counts")
    parser.add_argument("--slow", action="store_true", help="also what takes many minutes")
    parser.add_argument(
        "--only", action="append", choices=tuple(SECTIONS), help="one part; may be repeated"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="all samples, as JSON; goes on with what is there"
    )
    parser.add_argument(
        "--from",
        dest="given",
        metavar="FILE",
        type=Path,
        action="append",
        help="measure nothing, take the parts of this file of an earlier --json; may be repeated",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"put the parts into {DOCUMENT.name}; its others stay as they are",
    )
    options = parser.parse_args()
    if options.given and options.only:
        parser.error("--from measures nothing, so there is nothing to choose with --only")
    return options


def main() -> int:
    """Measure what was asked for. Returns 0 also where goals are missed: the table says so.

    1 if a part could not be measured, or not be kept; the others are kept.
    """
    options = _arguments()
    # So that what was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.given:
        return 0 if _keep_given(options) else 1
    failed = False
    with tempfile.TemporaryDirectory(prefix="leoronic-bench-") as name:
        for section in options.only or SECTIONS:
            found = _measured(section, Path(name), options)
            failed |= found is None or not _keep(found, options)
    return int(failed)


def _measured(section: str, folder: Path, options: argparse.Namespace) -> Part | None:
    """One part, with rivals of its own: one's leavings are not another's burden."""
    before, began = machine.load(), time.monotonic()
    measured_at = time.strftime("%Y-%m-%d %H:%M")
    with Session(folder / section, options.quick, options.slow) as session:
        session.folder.mkdir()
        session.say(section)
        try:
            figures = SECTIONS[section](session)
        except FAILURES as error:
            # The other parts are still worth having.
            session.say(f"{section} failed: {type(error).__name__}: {error}")
            return None
        minutes = (time.monotonic() - began) / 60
        asked = {"--quick": options.quick, "--slow": options.slow}
        return Part(
            section,
            machine.describe(folder),
            measured_at,
            before,
            machine.load(),
            minutes,
            tuple(option for option, is_asked in asked.items() if is_asked),
            figures,
            session.sizes,
        )


def _keep_given(options: argparse.Namespace) -> bool:
    """Keep what earlier runs have measured; whether that went well. All files are read first."""
    try:
        given = [part for path in options.given for part in read_json(path)]
    except (OSError, ValueError) as error:
        print(f"python -m integration.bench: {error}", file=sys.stderr)
        return False
    unknown = [part.name for part in given if part.name not in SECTIONS]
    if unknown:
        print(f"no parts of this benchmark: {', '.join(unknown)}", file=sys.stderr)
    # Each, also after one that is not kept.
    kept = [_keep(part, options) for part in given if part.name in SECTIONS]
    return all(kept) and not unknown


def _keep(part: Part, options: argparse.Namespace) -> bool:
    """Print it, and put it where it was asked for; whether that went well."""
    print(part.markdown(), end="\n\n", flush=True)
    if part.sizes:
        print(sizes.markdown(part.sizes), end="\n\n", flush=True)
    try:
        if options.json:
            there = read_json(options.json) if options.json.exists() else []
            kept = {old.name: old for old in there} | {part.name: part}
            write_json(options.json, kept.values())
        if options.write:
            if part.sizes:
                sizes.write(DOCUMENT, part.sizes)
            table.write_parts(DOCUMENT, {part.name: part.markdown()}, tuple(SECTIONS))
    except (OSError, ValueError, Unavailable) as error:
        print(f"{part.name} is not kept: {error}", file=sys.stderr, flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
