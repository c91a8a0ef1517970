"""How a party is reached: its sockets here, and what is said for it at the peer port of its node.

A party is a process that takes part in remote calls (`leoronic/remote/party.py`). It listens at
`ROOT/.leoronic/calls/ID.sock` for those of this machine; at `ID.handed` it takes connections from
other machines, which the node hands to it: who calls `for=call party=ID` reaches it, and nobody
in between reads along.
"""

from __future__ import annotations

import re
from pathlib import Path

CALL = "call"
NO_PARTY = "no-party"
"""What the node answers instead of `CALL` if nobody of that id listens."""
FOLDER = "calls"
LOCAL, HANDED = ".sock", ".handed"
PARTY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


def socket_path(state_dir: Path, party: str, kind: str = LOCAL) -> Path:
    """Where `party` listens. `kind` is `LOCAL` or `HANDED`."""
    assert PARTY.fullmatch(party), party
    return state_dir / FOLDER / f"{party}{kind}"
