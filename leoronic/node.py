"""The composition root: the processes of a node, and how they begin.

keeper   this program; watches over the core and forks host processes (runtime/keeper.py)
core     the supervised actors (life.py, children.py), on one event loop
runner   a host process: the running tasks; outlives the core
relay    a host process, while there are ghosts: their connections (ghost/relay_host.py)
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from leoronic.beginning import adoption, renew_lock, runner_main, take_lock
from leoronic.config import Config, environment, forget_cookie, given_cookie, read_config
from leoronic.errors import BadRequest
from leoronic.logs import configure_logs, tell
from leoronic.runtime.host import run_host
from leoronic.runtime.keeper import keep
from leoronic.runtime.loop import run
from leoronic.runtime.memory import one_arena
from leoronic.wire.cookie import keep_cookie
from leoronic.writing import keep_writing

SWITCH_S = 0.0005


def main(arguments: Sequence[str]) -> int:
    """`leoronic [start] ...`: run a node until it is stopped; returns the exit code."""
    arguments = list(arguments)
    keep_writing()
    adopt, lock = adoption(arguments)
    try:
        config = read_config(arguments, environment())
        if lock is None:
            _refuse_ghosts_folder(config)
            lock = take_lock(config)
            # Only now: a node that is adopted has it, and its file or stdin may be gone.
            keep_cookie(config.cookie_path, given_cookie(config))
        else:
            renew_lock(lock)
    except BadRequest as error:
        print(f"leoronic: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"leoronic: {error.strerror}: {error.filename}", file=sys.stderr)
        return 1
    forget_cookie()
    configure_logs(config.name, config.log_format)
    return keep(
        partial(_core_main, config, arguments, lock),
        {"runner": partial(runner_main, config), "relay": partial(_relay_main, config)},
        core_fds=(lock,),
        adopt=adopt,
        tell=partial(tell, config.log_format),
    )


def _refuse_ghosts_folder(config: Config) -> None:
    """Its id is a ghost's, and what runs there was started for others. Raises `BadRequest`."""
    token = config.state_dir / "token"
    if token.exists() and not (config.state_dir / "leoronic.db").exists():
        raise BadRequest(
            f"{config.root} is a ghost's folder: `leoronic ghost` starts it. Start a node in "
            f"another one (--root DIR), or remove {token} if it is to be a ghost no more"
        )


def _relay_main(config: Config, host: dict[str, Any], node: str, handed: str) -> int:
    """A forked host process: the connections of ghosts."""
    one_arena()
    from leoronic.ghost.relay_host import RelayHostActor  # noqa: PLC0415 - there are few ghosts

    return run_host(partial(RelayHostActor, node, config.cookie_path, Path(handed)), host)


def _core_main(config: Config, arguments: list[str], lock: int, link: int) -> int:
    """A forked process: the core."""
    # The journal's thread needs the interpreter for moments only: let it have them soon.
    sys.setswitchinterval(SWITCH_S)
    # A million queued tasks are a million objects that live long: look at them seldom.
    gc.set_threshold(100_000, 20, 100)
    one_arena()
    from leoronic.life import Core  # noqa: PLC0415 - not in the keeper, nor in the runner

    gc.freeze()
    return run(Core(config, arguments, lock, link).run)
