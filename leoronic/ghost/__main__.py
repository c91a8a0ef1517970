"""`python -m leoronic.ghost [N | ADDR[:PORT]] [options]`: start a ghost."""

import sys

from leoronic.ghost.processes import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
