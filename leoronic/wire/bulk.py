"""What two nodes say on a connection that carries files: sans-IO.

It is opened on the peer port, by a first line with `for=` and one of `PURPOSES`: so either side
may be the one that calls. Inside TLS both send `Begin`, who called first; then one of them *asks*
and the other *serves*: one answer for each request, in the order of the requests, of which several
may be under way. All in the frames of `wire/frames.py`; bytes of files are the blob of a `Bytes`.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

import msgspec

from leoronic.core.blob import Digest
from leoronic.core.bounds import Number
from leoronic.errors import ProtocolError
from leoronic.wire.hello import Refused
from leoronic.wire.preface import common_protocol

FILES, SERVE_FILES = "files", "serve-files"
GHOST_FILES, GHOST_SERVE = "ghost-files", "ghost-serve"
AS_GHOST = {FILES: GHOST_FILES, SERVE_FILES: GHOST_SERVE}
PURPOSES = (*AS_GHOST, *AS_GHOST.values())
"""`files`: who called asks. `serve-files`: who called serves, as it cannot be called itself.

`AS_GHOST`: what a ghost says instead, so that it is taken as one: it may ask for chunks only.
"""

NOT_HERE, CORRUPT, BUSY, REFUSED, UNREACHABLE, FAILED = (
    "not_here", "corrupt", "busy", "refused", "unreachable", "failed",
)  # fmt: skip
"""Why something did not come, see `Missed`."""

PART_BYTES_MAX = 4 * 1024 * 1024
PAGE_ENTRIES_MAX = 1000
PAGE_TEXT_MAX = 1024 * 1024
PATH_LENGTH_MAX = 4096
REQUEST_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 8 * 1024 * 1024
# That of a blob of 4 TiB.
CHUNK_BYTES_MAX = 64 * 1024 * 1024

_NODE = re.compile(r"[a-z0-9]{1,32}")

T = TypeVar("T")

Path = Annotated[str, msgspec.Meta(max_length=PATH_LENGTH_MAX)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Said(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type"):
    pass


class Begin(_Said, frozen=True):
    """Who I am. Repeats what was agreed on in the clear: nobody on the way has changed it."""

    node: str
    purpose: str
    protocol: int
    lowest: int
    highest: int


class GetChunk(_Said, frozen=True):
    """Chunk `index`, from 0, of a blob. Answer: `Bytes` or `Missed`."""

    request: Number
    digest: Digest
    index: Number


class GetPart(_Said, frozen=True):
    """At most `limit` bytes from `offset` of a file of the working directory.

    `path` is relative to that. Answer: `Bytes` (none at the end of the file) or `Missed`.
    """

    request: Number
    path: Path
    offset: Number
    limit: Annotated[int, msgspec.Meta(ge=1, le=PART_BYTES_MAX)]


class GetPage(_Said, frozen=True):
    """What is in the working directory, from the first entry behind `after` ('': from the start).

    Answer: `Page` or `Missed`.
    """

    request: Number
    after: Path = ""


Request = GetChunk | GetPart | GetPage


class Bytes(_Said, frozen=True):
    """They are the frame's blob. Of a part: `size` and `mtime_ns` of the file as it was then."""

    request: Number
    size: Size = 0
    mtime_ns: int = 0


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file, folder, link or other thing of a working directory, as it was just now.

    `kind`: `file`, `folder`, `link` (which leads to `target`) or `other`. `problem`: why it, or
    what is in it, cannot be had, for a person; then `path` may be only how its name is shown.
    """

    path: Path
    kind: str
    size: Size = 0
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)] = 0
    mtime_ns: int = 0
    target: Path = ""
    problem: str = ""


class Page(_Said, frozen=True):
    """A folder comes before what is in it. `more`: ask again, with the path of the last entry."""

    request: Number
    entries: Annotated[list[Entry], msgspec.Meta(max_length=PAGE_ENTRIES_MAX)] = []
    more: bool = False


class Missed(_Said, frozen=True):
    """It does not come, for `reason`. `code` is one of those above.

    `not_here`: ask another. `corrupt`: what came, or is there, is not what its digest says.
    `busy`: ask again later. `refused`: it never will. `unreachable`: that node could not be asked,
    or ceased to answer. `failed`: it came, and could not be kept here.
    """

    request: Number
    code: str
    reason: str


Answer = Bytes | Page | Missed
Said = Begin | Refused | GetChunk | GetPart | GetPage | Bytes | Page | Missed

_encoder = msgspec.json.Encoder()
_begin: msgspec.json.Decoder[Begin | Refused] = msgspec.json.Decoder(Begin | Refused)
_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_answer: msgspec.json.Decoder[Answer | Refused] = msgspec.json.Decoder(Answer | Refused)


def encode(said: Said) -> bytes:
    """The JSON part of its frame."""
    return _encoder.encode(said)


def decode_begin(json: bytes) -> Begin | Refused:
    """Raises `ProtocolError`."""
    return _decoded(_begin, json)


def decode_request(json: bytes) -> Request:
    """Raises `ProtocolError`."""
    return _decoded(_request, json)


def decode_answer(json: bytes) -> Answer | Refused:
    """Raises `ProtocolError`."""
    return _decoded(_answer, json)


def _decoded(decoder: msgspec.json.Decoder[T], json: bytes) -> T:
    try:
        return decoder.decode(json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not what is said of files: {error}") from None


def judge_begin(begin: Begin, mine: Begin, certified: str) -> Refused | None:
    """What is wrong with the other side's, given ours and the id in its certificate."""
    if not _NODE.fullmatch(begin.node) or begin.node != certified:
        return Refused(f"you say that you are {begin.node}, your certificate says {certified}")
    if begin.node == mine.node:
        return Refused("this is the same node")
    both = common_protocol((mine.lowest, mine.highest), (begin.lowest, begin.highest))
    agreed = (mine.purpose, mine.protocol, mine.protocol)
    if (begin.purpose, begin.protocol, both) != agreed:
        return Refused("somebody on the way has changed what was agreed on")
    return None
