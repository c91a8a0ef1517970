"""A node of the next version, as far as others can tell: this one, changed while it starts.

It speaks protocol 1 to 2, adds fields that nobody knows yet to every message and every journal
entry, says something unknown with every tenth message, and writes an entry of an unknown kind for
each task that it accepts. `environment(folder)` makes any node's processes such.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

PROTOCOL_MAX = "NEXT_VERSION_PROTOCOL_MAX"
PROTOCOL_MIN = "NEXT_VERSION_PROTOCOL_MIN"
VERSION = "9.9.0"
KIND = "remarked"
UNKNOWN_EVERY = 10


def environment(folder: Path, lowest: int = 1, highest: int = 2) -> dict[str, str]:
    """What makes a node one of the next version; `folder` is for what that takes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        "from integration import next_version\nnext_version.install()\n"
    )
    repository = Path(__file__).resolve().parents[1]
    return {
        "PYTHONPATH": f"{folder}:{repository}",
        PROTOCOL_MIN: str(lowest),
        PROTOCOL_MAX: str(highest),
    }


def install() -> None:
    """Change the modules of this process, before anything else imports them."""
    import os

    import leoronic
    from leoronic.wire import preface

    leoronic.__version__ = VERSION
    preface.PROTOCOL_MIN = int(os.environ[PROTOCOL_MIN])
    preface.PROTOCOL_MAX = int(os.environ[PROTOCOL_MAX])
    _change_entries()
    _change_messages()


# ---- fields that nobody knows yet ----


def extended(value: Any) -> Any:
    """`value` as plain data, with an unknown field in every object that has fields."""
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        plain = {
            field: extended(getattr(value, name))
            for name, field in zip(
                value.__struct_fields__, value.__struct_encode_fields__, strict=True
            )
        }
        if config.array_like:
            return list(plain.values())
        if config.tag_field is not None:
            plain[config.tag_field] = config.tag
        return {**plain, "since_9": {"new": [1, None, "x"]}}
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    if isinstance(value, dict):
        return {key: extended(one) for key, one in value.items()}
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [extended(one) for one in value]
    return value


def _json(value: Any) -> bytes:
    return json.dumps(extended(value), separators=(",", ":"), ensure_ascii=False).encode()


# ---- messages ----


def _change_messages() -> None:
    from leoronic.actors.link import Link
    from leoronic.core import peer
    from leoronic.wire import hello

    def encode(message: Any) -> tuple[bytes, bytes]:
        blob = message.blob if isinstance(message, peer.WithBlob) else b""
        bare = msgspec.structs.replace(message, blob=b"") if blob else message
        plain = extended(bare)
        plain.pop("blob", None)
        return json.dumps(plain).encode(), blob

    peer.encode = encode
    hello.codec.encode = _json  # type: ignore[method-assign]
    send, numbers = Link.send, itertools.count(1)

    def send_and_more(link: Link, message: Any) -> None:
        if link.phase == "open" and next(numbers) % UNKNOWN_EVERY == 0:
            link._send(json.dumps({"type": "Gossip", "node": message.node, "of": []}).encode(), b"")
        send(link, message)

    Link.send = send_and_more  # type: ignore[method-assign]


# ---- the journal ----


def _change_entries() -> None:
    from leoronic.core import entries

    class Remarked(entries._Entry, frozen=True, tag=KIND):
        """Nobody knows yet what this is good for."""

        task: str
        remark: str

    entries.Entry = entries.Entry | Remarked  # type: ignore[misc]
    entries._decoder = msgspec.json.Decoder(entries.Entry)
    entries.encode = _json

    from leoronic.journal import journal
    from leoronic.journal.join import Join

    apply = Join.apply

    def apply_known(join: Join, entry: Any, seq: int, writer: str) -> None:
        if not isinstance(entry, Remarked):
            apply(join, entry, seq, writer)

    def remarking(batch: Iterable[Any]) -> Iterable[Any]:
        for entry in batch:
            yield entry
            if isinstance(entry, entries.Submitted):
                yield Remarked(entry.task, "seen")

    write, take = journal.Journal.write, journal.Journal.take

    def known(result: Any) -> Any:
        kept = [one for one in result.entries if not isinstance(one.entry, Remarked)]
        return result._replace(entries=kept)

    Join.apply = apply_known  # type: ignore[method-assign]
    journal.Journal.write = lambda self, batch: known(write(self, remarking(batch)))  # type: ignore[method-assign]
    journal.Journal.take = lambda self, *given, **named: known(take(self, *given, **named))  # type: ignore[method-assign]
