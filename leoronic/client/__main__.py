"""`python -m leoronic.client`: the command line, without a node's world."""

from __future__ import annotations

import sys

from leoronic.client.cli import main

sys.exit(main())
