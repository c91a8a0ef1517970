"""What a ghost may say to nodes, and nodes to it: what its own attempts and files need."""

from __future__ import annotations

import msgspec

from leoronic.core import peer
from leoronic.core.peer import PeerMessage

FROM_LEAF = frozenset(
    {
        peer.Offer,
        peer.Freed,
        peer.FilesPresent,
        peer.Answered,
        peer.SeekBlobs,
        peer.KeepBlobs,
        peer.BlobsHere,
        peer.AskChunks,
        peer.ChunkPlan,
    }
)
TO_LEAF = frozenset(
    {
        peer.Interest,
        peer.Reserve,
        peer.Assign,
        peer.CheckFiles,
        peer.Ask,
        peer.SeekBlobs,
        peer.BlobsHere,
        peer.AskChunks,
        peer.ChunkPlan,
        peer.CallBack,
    }
)
# What can be wrong with JSON that came raw: its text, too, and how deep it nests.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read_from_leaf(ghost: str, text: bytes, blob: bytes) -> PeerMessage | str:
    """What a ghost says to a node; or what is wrong with it."""
    try:
        message = peer.decode(text, blob)
    except _UNREADABLE as error:
        return f"it said what makes no sense: {error}"
    if type(message) not in FROM_LEAF:
        return f"a ghost may not say {type(message).__name__}"
    if message.node != ghost:
        return f"it spoke in the name of {message.node}"
    return message


def read_to_leaf(text: bytes, blob: bytes) -> PeerMessage | str:
    """What a node says to a ghost; or why that is not for it."""
    try:
        message = peer.decode(text, blob)
    except _UNREADABLE as error:
        return f"it makes no sense: {error}"
    if type(message) not in TO_LEAF:
        return f"{type(message).__name__} is not for ghosts"
    return message
