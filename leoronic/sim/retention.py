"""How long the nodes of a seed keep history, and remember who is away: minutes, not weeks."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from leoronic.core.timeouts import Timeouts, lan


class Retention(NamedTuple):
    """All in seconds: `keep_s` of history; every `every_s` what is older is forgotten.

    Who has been away for `forget_after_s` is not counted any more.
    """

    keep_s: float
    forget_after_s: float
    every_s: float

    @property
    def away_s(self) -> float:
        """Who is away for so long may have missed what the others have forgotten since."""
        return self.keep_s + self.forget_after_s + 2 * self.every_s

    @property
    def timeouts(self) -> Timeouts:
        """Those of membership."""
        return lan()._replace(forget_after_s=self.forget_after_s)


def short_retention(chance: Random) -> Retention:
    """Either may be the longer one: a week, and however long a person wants history to be kept."""
    return Retention(chance.uniform(5.0, 30.0), chance.uniform(8.0, 30.0), chance.uniform(2.0, 6.0))
