"""`python -m leoronic`: start a node, or, with a command, ask one: the same as `leoronic`."""

import sys


def main(arguments: list[str]) -> int:
    """No command, options, or `start`: a node. Anything else is for the command line."""
    if arguments[:1] == ["start"]:
        arguments = arguments[1:]
    elif arguments and (not arguments[0].startswith("-") or arguments[0] in ("--help", "-h")):
        from leoronic.client.cli import main as client  # noqa: PLC0415 - not in a node

        return client(arguments)
    hidden = "typing_extensions" not in sys.modules
    if hidden:
        # msgspec does without it, and it takes memory.
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    from leoronic.node import main as node  # noqa: PLC0415 - not in a client

    if hidden:
        del sys.modules["typing_extensions"]
    return node(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
