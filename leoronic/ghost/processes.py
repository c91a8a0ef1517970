"""The composition root of a ghost: its processes, and how they begin. Compare `leoronic/node.py`.

keeper   this program; watches over the core and forks host processes (runtime/keeper.py)
core     the actors of `ghost/children.py`
runner   a host process: the running tasks; outlives the core. The same as a node's

All on asyncio's own event loop, and with plain loggers: uvloop and structlog take memory.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from functools import partial

from leoronic.beginning import adoption, renew_lock, runner_main, take_lock
from leoronic.config import environment
from leoronic.errors import BadRequest, LeoronicError
from leoronic.ghost.config import GhostConfig, forget_secrets, keep_token, read_ghost_config
from leoronic.runtime.keeper import keep, print_on_stderr
from leoronic.runtime.log import get_logger
from leoronic.runtime.loop import run, use_plain_loop
from leoronic.runtime.memory import one_arena
from leoronic.runtime.plain_log import use_plain_loggers
from leoronic.writing import keep_writing, logs_are_text


def main(arguments: Sequence[str]) -> int:
    """`leoronic ghost ...`: run a ghost until it is stopped; returns the exit code."""
    arguments = list(arguments)
    keep_writing()
    adopt, lock = adoption(arguments)
    try:
        config = read_ghost_config(arguments, environment())
        if lock is None:
            lock = take_lock(config.machine)
            # Only now: a ghost that is adopted has it, and its file or stdin may be gone.
            keep_token(config)
        else:
            renew_lock(lock)
    except LeoronicError as error:
        print(f"leoronic: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"leoronic: {error.strerror}: {error.filename}", file=sys.stderr)
        return 1
    forget_secrets()
    use_plain_loop()
    use_plain_loggers(config.machine.name, text=logs_are_text(config.machine.log_format))
    return keep(
        partial(_core_main, config, arguments, lock),
        {"runner": partial(runner_main, config.machine)},
        core_fds=(lock,),
        adopt=adopt,
        tell=partial(_tell, config.machine.log_format),
    )


def _tell(log_format: str | None, line: str, story: list[str]) -> None:
    """Tell people what they must know, as the rest of stderr is told."""
    if logs_are_text(log_format):
        print_on_stderr(line, story)
    else:
        get_logger().critical(line, **({"story": story} if story else {}))


def _core_main(config: GhostConfig, arguments: list[str], lock: int, link: int) -> int:
    """A forked process: the core."""
    one_arena()
    from leoronic.ghost.life import GhostCore  # noqa: PLC0415 - not in the keeper, nor the runner

    gc.freeze()
    tell = partial(_tell, config.machine.log_format)
    try:
        core = GhostCore(config, arguments, lock, link, tell)
    except (BadRequest, OSError) as error:
        tell(f"cannot start: {error}", [])
        return 70
    return run(core.run)
