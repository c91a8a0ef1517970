"""The composition root: the processes of a node, and how they begin.

keeper   this program; watches over the core and forks host processes (runtime/keeper.py)
core     the supervised actors (life.py, children.py), on one event loop
runner   a host process: the running tasks; outlives the core
"""

from __future__ import annotations

import fcntl
import gc
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from leoronic.config import Config, environment, forget_cookie, given_cookie, read_config
from leoronic.errors import BadRequest
from leoronic.logs import configure_logs, keep_writing, tell
from leoronic.runner.actor import RunnerActor
from leoronic.runner.config import RunnerConfig
from leoronic.runtime.host import run_host
from leoronic.runtime.keeper import Adopt, keep
from leoronic.runtime.loop import run
from leoronic.runtime.memory import one_arena
from leoronic.wire.cookie import keep_cookie

SWITCH_S = 0.0005


def main(arguments: Sequence[str]) -> int:
    """`leoronic [start] ...`: run a node until it is stopped; returns the exit code."""
    arguments = list(arguments)
    keep_writing()
    adopt, lock = _adoption(arguments)
    try:
        config = read_config(arguments, environment())
        if lock is None:
            lock = _lock(config)
            # Only now: a node that is adopted has it, and its file or stdin may be gone.
            keep_cookie(config.cookie_path, given_cookie(config))
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
        {"runner": partial(_runner_main, config)},
        core_fds=(lock,),
        adopt=adopt,
        tell=partial(tell, config.log_format),
    )


def _adoption(arguments: list[str]) -> tuple[Adopt | None, int | None]:
    """What a replaced keeper is told (see `KeeperLink`), taken out of `arguments`."""
    told: dict[str, int] = {}
    for option in ("--adopt", "--link", "--lock"):
        if option in arguments:
            at = arguments.index(option)
            told[option] = int(arguments[at + 1])
            del arguments[at : at + 2]
    if "--adopt" not in told:
        return None, None
    return Adopt(told["--adopt"], told["--link"]), told["--lock"]


def _lock(config: Config) -> int:
    """Make the folders and take the node's lock; raises `BadRequest` if another node has it."""
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = config.state_dir / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 20).decode(errors="replace").split("\n")[0]
        raise BadRequest(
            f"a node runs in {config.root} already (process {pid}); "
            "start this one elsewhere with --root DIR; to join others with it, stop it first "
            "(`leoronic stop`), then start it again with this line"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _runner_main(config: Config, host: dict[str, Any]) -> int:
    """A forked host process: the runner."""
    os.chdir("/")
    one_arena()
    settings = RunnerConfig(config.root, config.state_dir, config.output_dir)
    return run_host(partial(RunnerActor, settings), host)


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
