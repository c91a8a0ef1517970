"""What a simulated process will do, written in its command.

`work S CODES FLAGS... #SERIAL WORD`: run for S seconds, end with the code of this attempt (and
element). `forever` never ends of itself, `stubborn` ignores TERM, `messy` leaves processes and open
output behind, `unstartable` has no shell that could be started, `fickle` fails on every other node.
"""

from __future__ import annotations

from typing import NamedTuple

from leoronic.core.run import Run


class Plan(NamedTuple):
    """See the module. `codes[i]` is the exit code of attempt i + 1; the last one repeats."""

    serial: int
    work_s: float = 1.0
    codes: tuple[int, ...] = (0,)
    flags: tuple[str, ...] = ()
    word: str = ""

    @property
    def command(self) -> str:
        """The command that means this plan."""
        codes = ",".join(map(str, self.codes))
        return " ".join(
            ["work", f"{self.work_s:g}", codes, *self.flags, f"#{self.serial}", self.word]
        )

    def exit_code(self, run: Run) -> int:
        """How this attempt ends; the elements of an array differ, and maybe the nodes."""
        if "fickle" in self.flags and run.env.get("LEORONIC_NODE", "")[-1:] in "13579":
            return 1
        step = run.attempt - 1 + int(run.env.get("LEORONIC_INDEX", "0")) % 3
        return self.codes[min(step, len(self.codes) - 1)]


def parse_plan(command: str) -> Plan:
    """The plan in a command that `Plan.command` made."""
    words = command.split(" ")
    mark = next(i for i, word in enumerate(words) if word.startswith("#"))
    codes = tuple(int(code) for code in words[2].split(","))
    flags = tuple(words[3:mark])
    return Plan(int(words[mark][1:]), float(words[1]), codes, flags, words[mark + 1])
