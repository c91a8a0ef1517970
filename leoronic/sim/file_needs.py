"""Which blobs entries refer to: read here anew, so that the journal's own reading is checked."""

from __future__ import annotations

from leoronic.core.entries import Finished, Numbered, Submitted


def referred(entries: list[Numbered]) -> tuple[str, ...]:
    """The blobs that these entries refer to."""
    found: dict[str, None] = {}
    for numbered in entries:
        match numbered.entry:
            case Submitted(_, spec):
                found.update(dict.fromkeys(file.digest for file in spec.files))
            case Finished(_, _, _, outcome):
                found.update(dict.fromkeys(file.digest for file in outcome.outputs))
    return tuple(found)
