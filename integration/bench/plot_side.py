"""Draws the plot of what a cluster costs as it grows: runs where matplotlib is, not in ours.

Reads [{"nodes", "sent_bytes_per_s", "sent_to_each_peer", "memory_mib", ...}, ...] from stdin and
writes an SVG to the path that is given.
"""

from __future__ import annotations

import json
import sys

import matplotlib  # type: ignore[import-not-found]

matplotlib.use("svg")
# Text stays text, and a second drawing of the same is the same file.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "sizes", "font.size": 9})

import matplotlib.pyplot as plt  # type: ignore[import-not-found]  # noqa: E402

PANELS = (
    ("sent_bytes_per_s", "sent by each node, bytes/s"),
    ("sent_to_each_peer", "sent to each peer, bytes/s"),
    ("memory_mib", "memory of each node (PSS), MiB"),
)


def main() -> None:
    """One panel for each, side by side."""
    sizes = json.load(sys.stdin)
    nodes = [size["nodes"] for size in sizes]
    figure, axes = plt.subplots(1, len(PANELS), figsize=(10, 2.8), layout="constrained")
    for axis, (field, title) in zip(axes, PANELS, strict=True):
        axis.plot(nodes, [size[field] for size in sizes], marker="o", color="#1f6f8b")
        axis.set_xscale("log", base=2)
        axis.set_xticks(nodes, [str(count) for count in nodes])
        axis.set_ylim(bottom=0)
        axis.set_title(title)
        axis.set_xlabel("nodes")
        axis.grid(alpha=0.3)
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
