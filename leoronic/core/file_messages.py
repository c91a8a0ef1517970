"""What the executor and the doors say to the file store of their own node.

Files of an attempt are *placed* before it starts, and what it leaves is *kept* after its end. Both
are asked for by level: a request for an attempt that is known is answered again, or goes on.
"""

from __future__ import annotations

from typing import NamedTuple

from leoronic.core.blob import FileRef
from leoronic.core.run import AttemptKey


class PlaceFiles(NamedTuple):
    """From the executor: fetch what is not here, and put a copy of each file where the attempt
    finds it: `folder`/`FileRef.name`. Answered by `FilesPlaced` or `FilesMissing`.

    `folder` is relative to the node's root. The blobs are held until `ForgetFiles`.
    """

    key: AttemptKey
    folder: str
    files: tuple[FileRef, ...]


class FilesPlaced(NamedTuple):
    """To the executor: all files of the attempt are in its folder, whole. `fetched`: some were not
    here.
    """

    key: AttemptKey
    fetched: bool = False


class FilesMissing(NamedTuple):
    """To the executor: they cannot be had now, for `reason`; nothing of them is left.

    `lost`: nor ever, as all nodes that are known are there, and none of them has one of them.
    """

    key: AttemptKey
    reason: str
    lost: bool = False


class KeepOutputs(NamedTuple):
    """From the executor, of an attempt that ended: keep what matches `globs` in `folder` as blobs.

    `folder` is absolute: the working directory that the attempt had. What was not changed since
    `since` (seconds since the epoch) is of others, and not kept. Answered by `OutputsKept`.
    """

    key: AttemptKey
    folder: str
    globs: tuple[str, ...]
    since: float = 0.0


class OutputsKept(NamedTuple):
    """To the executor: on this node's disk now. `problems` name what could not be kept, and why."""

    key: AttemptKey
    outputs: tuple[FileRef, ...]
    problems: tuple[str, ...] = ()


class ForgetFiles(NamedTuple):
    """From the executor: these attempts need their files no longer; their folders may go."""

    keys: tuple[AttemptKey, ...]


class FilesStarted(NamedTuple):
    """To the executor: the file store has begun anew, and knows of no request."""


class FindBlobs(NamedTuple):
    """From the queue: is there a node that can be reached and has each of these? Answered, within
    some seconds, by `BlobsFound` with the same token.
    """

    token: int
    digests: tuple[str, ...]


class BlobsFound(NamedTuple):
    """To the queue: nobody that can be reached has those in `lost`; somebody has the others."""

    token: int
    lost: frozenset[str]


class FilesOf(NamedTuple):
    """From the executor, once it knows what it has: files of any other attempt are left over."""

    keys: tuple[AttemptKey, ...]
