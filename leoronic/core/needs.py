"""What a task occupies while it runs, as its spec says."""

from __future__ import annotations

from leoronic.core.resources import Need, milli
from leoronic.core.spec import TaskSpec

_STEP_BYTES = 1024 * 1024


def need_of(spec: TaskSpec) -> Need:
    """What an attempt takes; room for the task's files comes on top of its `storage`."""
    storage = spec.storage
    if spec.files:
        storage += rounded_up(sum(file.size for file in spec.files))
    return Need(
        milli(spec.cpus),
        spec.memory,
        storage,
        tuple(sorted(spec.resources.items())) if spec.resources else (),
        not spec.concurrent,
    )


def rounded_up(size: int) -> int:
    """`size` in bytes, at most an eighth and a MiB more: so that sizes are few, as classes are."""
    step = max(_STEP_BYTES, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step
