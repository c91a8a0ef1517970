"""A word count with actors: readers split lines, counters each hold a share of the words.

    python word_count.py [/path/of/a/node [FILE...]]

Without files it counts its own source. The state lives in the counters: named actors, which another
program could find by `leoronic.get_actor` while this one runs.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import leoronic

COUNTERS = 2
LINES_AT_ONCE = 200


@leoronic.remote(num_cpus=0.1, max_restarts=0)
class Share:
    """Counts its share of the words."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, counts: dict[str, int]) -> None:
        """Add what somebody counted."""
        self.counts.update(counts)

    def top(self, n: int) -> list[tuple[str, int]]:
        """Its most frequent words."""
        return self.counts.most_common(n)


@leoronic.remote
def read(lines: list[str], shares: list[Any]) -> int:
    """Count the words of some lines, and give each share its own. Returns how many there were."""
    parts: list[Counter[str]] = [Counter() for _ in shares]
    for word in re.findall(r"\w+", " ".join(lines).lower()):
        # Not `hash`, which differs from process to process.
        parts[zlib.crc32(word.encode()) % len(shares)][word] += 1
    leoronic.get([share.add.remote(dict(p)) for share, p in zip(shares, parts, strict=True)])
    return sum(part.total() for part in parts)


def main(root: str | None, files: list[str]) -> tuple[int, list[tuple[str, int]]]:
    """How many words there are, and the five most frequent."""
    leoronic.init(root, local=root is None)
    shares = [Share.options(name=f"share-{n}").remote() for n in range(COUNTERS)]
    lines = [line for file in files for line in Path(file).read_text().splitlines()]
    chunks = [lines[i : i + LINES_AT_ONCE] for i in range(0, len(lines), LINES_AT_ONCE)]
    total = sum(leoronic.get([read.remote(chunk, shares) for chunk in chunks]))
    tops = leoronic.get([share.top.remote(5) for share in shares])
    best = sorted((pair for top in tops for pair in top), key=lambda pair: (-pair[1], pair[0]))
    return total, best[:5]


if __name__ == "__main__":
    words, top = main(sys.argv[1] if len(sys.argv) > 1 else None, sys.argv[2:] or [__file__])
    print(f"{words} words")
    for word, count in top:
        print(f"{count:>6} {word}")
