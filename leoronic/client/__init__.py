"""Outside the node: clients, the command line and the shell functions, over the control socket."""

from __future__ import annotations

# As `typing.TYPE_CHECKING`, without its 10 ms: the thin client passes through this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from leoronic.client.aio import AsyncClient
    from leoronic.client.connection import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> object:
    if name == "Client":
        from leoronic.client.connection import Client  # noqa: PLC0415

        return Client
    if name == "AsyncClient":
        from leoronic.client.aio import AsyncClient  # noqa: PLC0415

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
