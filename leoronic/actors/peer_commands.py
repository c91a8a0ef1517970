"""What one node may ask of another on behalf of people, and what only nodes ask of each other.

The receiver answers for itself alone and asks nobody else for it, so that nothing goes in circles.
"""

from __future__ import annotations

import msgspec

from leoronic.core.blob import FileRef
from leoronic.core.bounds import Attempt, Number, Seconds
from leoronic.core.commands import Drain, Nodes, TagAdd, TagDel, TagList, Why
from leoronic.core.outcome import StreamRef


class ReadPart(msgspec.Struct, frozen=True, tag="readpart", tag_field="type"):
    """Up to `limit` bytes of what the run (attempt, node) printed on `stream`, from `offset` on.

    The receiver is `node`, or keeps a copy. Result: {"offset", "at_end", "known"} + blob; not
    `known`: there is nothing of it here (yet). With `wait_s` it waits for more of a run that runs.
    `ref` is where it is there, once it has ended, for a ghost: that keeps no journal.
    """

    task: str
    attempt: Attempt
    node: str
    stream: str
    offset: Number
    limit: Number
    wait_s: Seconds = 0.0
    ref: StreamRef | None = None


class TakeCookie(msgspec.Struct, frozen=True, tag="takecookie", tag_field="type"):
    """One step to another cookie: `accept` it beside the present one, `use` it, or `finish`.

    After `finish` no other is accepted. Each step may be repeated, and implies those before it;
    `show` changes nothing. Result: {"fingerprint", "old"}, as of `commands.Cookie`.
    """

    step: str
    cookie: str = ""


class PlaceFile(msgspec.Struct, frozen=True, tag="placefile", tag_field="type"):
    """Have the blob of `file` and copy it to `file.name` in the working directory.

    Result: {"done": bool, "bytes": how many are there}. It answers within `wait_s`, and goes on as
    long as it is asked again.
    """

    file: FileRef
    wait_s: Seconds = 0.0


PeerCommand = TagAdd | TagDel | TagList | Drain | Why | Nodes | ReadPart | TakeCookie | PlaceFile
"""What may be asked of another node; with a `node` in it, that is the receiver's own."""
