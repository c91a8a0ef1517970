"""`python -m leoronic.ghost [N | ADDR[:PORT]] [options]`: start a ghost."""

import sys

_hidden = "typing_extensions" not in sys.modules
if _hidden:
    # msgspec does without it, and it takes a megabyte.
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]

from leoronic.ghost.processes import main  # noqa: E402

if _hidden:
    del sys.modules["typing_extensions"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
