"""The files that new tasks bring: kept as blobs before the tasks are accepted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from leoronic.actors.file_calls import Advance, MakeBlobs, Makings
from leoronic.core.attempt_files import named
from leoronic.core.blob import FileRef
from leoronic.core.cache_key import cache_key
from leoronic.core.spec import TaskSpec
from leoronic.errors import BadRequest, DiskFull, LeoronicError
from leoronic.runtime.ref import ActorRef

MAKE_S = 24 * 3600.0


def brings_files(specs: Sequence[TaskSpec]) -> bool:
    """Whether anything has to be done for these before they are accepted."""
    return any(spec.files or spec.cache for spec in specs)


async def with_files(
    store: ActorRef | None,
    specs: list[TaskSpec],
    folder: Path,
    advance: Advance | None = None,
) -> list[TaskSpec]:
    """`specs` with the blobs of their files, which are here now; and with their cache keys.

    Paths count from `folder`. Raises `BadRequest` with the place of each mistake, or what the
    store raises: then no task is to be accepted.
    """
    if not brings_files(specs):
        return specs
    paths = dict.fromkeys(
        file.path for spec in specs for file in spec.files if not (file.task or file.digest)
    )
    found: dict[str, FileRef | LeoronicError] = {}
    if paths:
        if store is None:
            raise BadRequest("this node keeps no files")
        made: Makings = await store.call(MakeBlobs(folder, tuple(paths), advance), MAKE_S)
        for path, one in zip(paths, made, strict=True):
            found[path] = (
                one
                if isinstance(one, LeoronicError)
                else FileRef(path, digest=one.blob.digest, size=one.blob.size, mode=one.mode)
            )
    return _brought(specs, found)


def _brought(specs: list[TaskSpec], found: dict[str, FileRef | LeoronicError]) -> list[TaskSpec]:
    problems: list[str] = []
    brought: list[TaskSpec] = []
    for index, spec in enumerate(specs):
        place = f"tasks[{index}].files" if len(specs) > 1 else "files"
        files: list[FileRef] = []
        for number, file in enumerate(spec.files):
            one = found.get(file.path, file)
            if isinstance(one, FileRef):
                files.append(one)
            elif isinstance(one, DiskFull) or not one.definite:
                raise one  # the fault of no task
            else:
                problems.append(f"{place}[{number}]: {one.message}")
        try:
            names = named(files, keep_names=spec.keep_names)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        whole = structs.replace(spec, files=names)
        brought.append(structs.replace(whole, cache_key=cache_key(whole)))
    if problems:
        raise BadRequest(problems[0] if len(problems) == 1 else "no task was added", problems)
    return brought
