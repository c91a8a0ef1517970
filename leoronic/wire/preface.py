"""What two nodes say before TLS, so that those that do not fit are told why: sans-IO.

Each side sends one line; who called goes first. From the two lines both sides conclude the same:

    leoronic protocol=1-2 clusters=3f2a90c1,77b0e4d2 version=0.3.0

`protocol` is the lowest and the highest version of the protocol that it speaks, `clusters` the
fingerprints of the cookies that it accepts, `version` that of its program, for people. `for` says
what the connection is for, if not for the messages of nodes; who takes it as such repeats the word
in its own line, who does not (or does not know it) leaves it out. `party` is whom a connection for
calls is for (`calls.py`). What else stands there is ignored. Nothing of it is secret, and none of
it is believed for long: what is first said inside TLS repeats what matters.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from leoronic.errors import ProtocolError

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
LINE_BYTES_MAX = 512
MAGIC = "leoronic"

_FINGERPRINT = re.compile(r"[0-9a-f]{8}")
_RANGE = re.compile(r"(\d{1,6})-(\d{1,6})")
_VERSION = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_PURPOSE = re.compile(r"[a-z-]{0,16}")
_PARTY = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,79})?")


class Preface(NamedTuple):
    """One side's line. `clusters`: fingerprints, that of the current cookie first.

    `purpose`: what the connection is for, empty for the messages of nodes. `party`: for whom at
    that node, if not for the node itself.
    """

    clusters: tuple[str, ...]
    version: str
    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX
    purpose: str = ""
    party: str = ""

    def encode(self) -> bytes:
        """The line, with its end."""
        purpose = f" for={self.purpose}" if self.purpose else ""
        party = f" party={self.party}" if self.party else ""
        line = (
            f"{MAGIC} protocol={self.protocol_min}-{self.protocol_max} "
            f"clusters={','.join(self.clusters)} version={self.version}{purpose}{party}\n"
        )
        assert len(line) <= LINE_BYTES_MAX
        return line.encode()


class Agreed(NamedTuple):
    """Both speak `protocol` and hold the cookie with this fingerprint."""

    protocol: int
    cluster: str


class Mismatch(NamedTuple):
    """They cannot talk. `reason` tells a person on this side what to do."""

    reason: str


def decode_preface(line: bytes) -> Preface:
    """The other side's line. Raises `ProtocolError`."""
    try:
        magic, *words = line.decode("ascii").split()
    except (UnicodeDecodeError, ValueError):
        magic, words = "", []
    if magic != MAGIC or len(line) > LINE_BYTES_MAX:
        raise ProtocolError("what speaks there is no leoronic node")
    fields = dict(word.partition("=")[::2] for word in words)
    protocol = _RANGE.fullmatch(fields.get("protocol", ""))
    clusters = fields.get("clusters", "").split(",")
    version = fields.get("version", "")
    purpose = fields.get("for", "")
    party = fields.get("party", "")
    if (
        protocol is None
        or not all(_FINGERPRINT.fullmatch(cluster) for cluster in clusters)
        or not _VERSION.fullmatch(version)
        or not _PURPOSE.fullmatch(purpose)
        or not _PARTY.fullmatch(party)
    ):
        raise ProtocolError("what speaks there sends a damaged greeting")
    lowest, highest = int(protocol[1]), int(protocol[2])
    if not 0 < lowest <= highest:
        raise ProtocolError(f"it speaks protocol {lowest} to {highest}, which cannot be")
    return Preface(tuple(clusters), version, lowest, highest, purpose, party)


def agree(ours: Preface, theirs: Preface) -> Agreed | Mismatch:
    """What follows from both lines; both sides find the same."""
    # The wrong cluster first: nobody should update a node that is none of ours.
    common = set(ours.clusters) & set(theirs.clusters)
    if not common:
        return Mismatch(
            f"it belongs to another cluster (its cookie is {_list(theirs.clusters)}, ours "
            f"{_list(ours.clusters)}): to make them one, run `leoronic join` on a node of the "
            "cluster that stays, and paste the line that it prints on the other"
        )
    protocol = common_protocol(
        (ours.protocol_min, ours.protocol_max), (theirs.protocol_min, theirs.protocol_max)
    )
    if protocol is None:
        older = "this node" if ours.protocol_max < theirs.protocol_min else "that node"
        return Mismatch(
            f"it runs leoronic {theirs.version} and speaks protocol {_range(theirs)}, this node "
            f"runs {ours.version} and speaks {_range(ours)}: update leoronic on {older}"
        )
    # By rank on both sides, so that both choose the same, and a current one before an old one.
    rank = {one: ours.clusters.index(one) + theirs.clusters.index(one) for one in common}
    return Agreed(protocol, min(common, key=lambda one: (rank[one], one)))


def common_protocol(ours: tuple[int, int], theirs: tuple[int, int]) -> int | None:
    """The highest version that both ranges (lowest, highest) contain; None if there is none."""
    highest = min(ours[1], theirs[1])
    return highest if highest >= max(ours[0], theirs[0]) else None


def _list(clusters: tuple[str, ...]) -> str:
    return " or ".join(clusters)


def _range(preface: Preface) -> str:
    lowest, highest = preface.protocol_min, preface.protocol_max
    return str(lowest) if lowest == highest else f"{lowest} to {highest}"
