"""What numbers may be, wherever they come from: the doors and what other nodes send.

Annotated types are checked by `msgspec` while it decodes: what makes no sense is no message.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from leoronic.core.quantity import DURATION_S_MAX, SIZE_MAX

COUNT_MAX = 10_000_000
ITEMS_MAX = 1_000_000
CPUS_MAX = 1_000_000.0
RESOURCE_MAX = 1e12
PIDS_MAX = 4_194_304
PRIORITY_MAX = 1_000_000
RETRIES_MAX = 1000
ATTEMPT_MAX = 1 << 31
"""The highest attempt, and the highest revision of a hold."""
NUMBER_MAX = 1 << 53
"""The highest number of an entry, and the most bytes: JSON readers keep no more apart."""

Attempt = Annotated[int, Meta(ge=1, le=ATTEMPT_MAX)]
AttemptOrNone = Annotated[int, Meta(ge=0, le=ATTEMPT_MAX)]
"""0: none."""
Revision = Annotated[int, Meta(ge=0, le=ATTEMPT_MAX)]
Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
"""Of an entry or a message; 0: none."""
Size = Annotated[int, Meta(ge=0, le=SIZE_MAX)]
CpusMilli = Annotated[int, Meta(ge=0, le=int(CPUS_MAX) * 1000)]
Cpus = Annotated[float, Meta(ge=0, le=CPUS_MAX)]
Code = Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)]
"""An exit code, or a signal."""
Amount = Annotated[float, Meta(ge=0, le=RESOURCE_MAX)]
Seconds = Annotated[float, Meta(ge=0, le=DURATION_S_MAX)]
Time = Annotated[float, Meta(ge=0, le=253_402_300_799)]
"""Seconds since the epoch, to the end of the year 9999: what has a date that can be told."""
Priority = Annotated[int, Meta(ge=-PRIORITY_MAX, le=PRIORITY_MAX)]
Retries = Annotated[int, Meta(ge=0, le=RETRIES_MAX)]
Count = Annotated[int, Meta(ge=1, le=COUNT_MAX)]
Pids = Annotated[int, Meta(ge=1, le=PIDS_MAX)]
Index = Annotated[int, Meta(ge=0, le=COUNT_MAX - 1)]
Items = Annotated[list[str], Meta(min_length=1, max_length=ITEMS_MAX)]
Indexes = Annotated[list[Index], Meta(min_length=1, max_length=COUNT_MAX)]
OnLoss = Annotated[str, Meta(pattern=r"\A(retry|hold)\Z")]
NodeId = Annotated[str, Meta(min_length=1, max_length=64)]
NodeName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{0,63}\Z")]
"""Of a node, for people; it is shown on terminals."""
Tag = Annotated[str, Meta(min_length=1, max_length=64)]
When = Annotated[str, Meta(pattern=r"\A(succeeded|failed|ended)\Z")]
