"""Generators of remote calls, bound to the context of this process."""

from __future__ import annotations

from leoronic.remote import said
from leoronic.remote.context import Context
from leoronic.remote.conversation import Conversation
from leoronic.remote.generators import ObjectRefGenerator
from leoronic.remote.remote_call import RemoteCall


def generator_of(context: Context, call: RemoteCall) -> ObjectRefGenerator:
    """The generator for `call`, which was not submitted yet."""

    def tell_taken(number: int, count: int) -> None:
        found = context.calls.get(number)
        if found is not None and isinstance(found.place, Conversation):
            channel = found.place.channel
            if channel is not None:
                channel.say_item(said.TAKEN, (number, count))

    number = call.number
    return ObjectRefGenerator(
        call,
        lambda count: context.party.post(tell_taken, number, count),
        lambda: context.cancel(call.refs[0], False),
        context.blocked,
    )
