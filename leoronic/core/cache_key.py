"""What tasks that do the same have in common: command, files and surroundings."""

from __future__ import annotations

import hashlib

import msgspec

from leoronic.core.spec import TaskSpec


def cache_key(spec: TaskSpec) -> str:
    """The same text for specs that do the same; '' for one that cannot be answered for.

    That is one that does not ask for it, an array, or one that brings outputs which do not exist
    yet. Memory, place, order and name of a task change nothing of what it does.
    """
    if not spec.cache or spec.count is not None or spec.items is not None:
        return ""
    if any(not file.digest for file in spec.files):
        return ""
    does = (
        spec.command,
        sorted(spec.env.items()),
        spec.stdin,
        [(file.path, file.name, file.digest, file.mode) for file in spec.files],
        spec.keep_names,
        spec.outputs,
        spec.workdir,
        spec.fresh_shell,
    )
    return hashlib.blake2b(msgspec.json.encode(does), digest_size=16).hexdigest()
