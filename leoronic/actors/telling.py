"""Telling another actor of this node, which may have none of that name."""

from __future__ import annotations

from leoronic.runtime.actor import ActorContext


async def tell(context: ActorContext, to: str, message: object) -> None:
    """Cast `message` to the actor `to`, if there is one. Raises as `ActorRef.cast`."""
    ref = context.get(to)
    if ref is not None:
        await ref.cast(message)
