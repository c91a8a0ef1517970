"""`python -m leoronic`: start a node."""

import sys

from leoronic.node import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["start"]:
        arguments = arguments[1:]
    sys.exit(main(arguments))
