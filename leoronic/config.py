"""One frozen `Config`; the only reader of options, environment and TOML.

Later wins: defaults, ROOT/.leoronic/config.toml (or --config FILE), LEORONIC_* variables, options.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from leoronic import __version__
from leoronic.core.addresses import PORT, parse_address, parse_listen
from leoronic.core.conditions import checked_tag
from leoronic.core.cookie import COOKIE_LENGTH_MAX, check_cookie
from leoronic.core.quantity import duration, size
from leoronic.errors import BadRequest

PEERS_MAX = 256
STDIN = "-"
_COOKIE_VARIABLE = "LEORONIC_COOKIE"
# With characters of four bytes, and white space around it.
_COOKIE_BYTES_MAX = 5 * COOKIE_LENGTH_MAX

# SQLite's own limit is 512, for the file with its folder and suffix.
ROOT_BYTES_MAX = 470

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

_EXAMPLES = """
examples:
  leoronic                              start a node in the current folder
  leoronic start --root /srv/cluster    ... in another
  leoronic start --cpus 2 --memory 4GiB --tag gpu --resource gpu=1
  leoronic start --peer 192.168.1.10    ... that joins others (what to paste: `leoronic join`)
  leoronic start --listen 10.0.0.5:22581 --no-discovery --peer attic --peer [fd00::7]:22580

Then, in another terminal:  leoronic submit -- echo hello   and   leoronic --help
"""


@dataclass(frozen=True)
class Config:
    """How a node is to run. Sizes in bytes, durations in seconds; None: measured at the start."""

    root: Path
    name: str
    cpus: float | None = None
    memory: int | None = None
    storage: int | None = None
    resources: tuple[tuple[str, float], ...] = ()
    tags: tuple[str, ...] = ()
    log_format: str | None = None
    retention_s: float = 30 * 86400.0
    files_quota: int | None = None
    """What files of tasks may take on the disk; None: a tenth of it."""
    files_reserve: int | None = None
    """What they leave free there; None: 1 GiB or a twentieth, whichever is more."""
    listen_host: str = "::"
    """IP address or name to listen at for other nodes; `::` is all addresses, IPv4 and IPv6."""
    listen_port: int = PORT
    peers: tuple[str, ...] = ()
    """Nodes to look for, HOST:PORT each."""
    discovery: bool = True
    """Whether to look for nodes in the local network (mDNS), and be found there."""
    cookie: str | None = field(default=None, repr=False)
    """The cookie itself, from the environment."""
    cookie_file: str | None = None
    """Where it is otherwise given: a file, or `-` for the standard input. See `given_cookie`."""

    @property
    def state_dir(self) -> Path:
        """ROOT/.leoronic."""
        return self.root / ".leoronic"

    @property
    def inbox(self) -> Path:
        """ROOT/inbox."""
        return self.root / "inbox"

    @property
    def output_dir(self) -> Path:
        """Where the output of tasks is kept."""
        return self.state_dir / "output"

    @property
    def cookie_path(self) -> Path:
        """Where the node keeps its cookie."""
        return self.state_dir / "cookie"

    @property
    def peers_path(self) -> Path:
        """Where the addresses of nodes once met are remembered."""
        return self.state_dir / "peers.json"


def read_config(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """The configuration. Raises `BadRequest`; exits on --help, --version and wrong usage (2)."""
    return config_of(vars(_parser().parse_args(arguments)), environment)


def config_of(options: dict[str, Any], environment: Mapping[str, str]) -> Config:
    """The configuration, given the `options` that were parsed. Raises `BadRequest`."""
    root = Path(options.pop("root") or environment.get("LEORONIC_ROOT") or Path.cwd()).absolute()
    _check_root(root)
    file = options.pop("config")
    settings: dict[str, Any] = {}
    settings.update(_from_file(Path(file) if file else root / ".leoronic" / "config.toml", file))
    settings.update(_from_environment(environment))
    settings.update({key: value for key, value in options.items() if value not in (None, [])})
    return _build(root, settings)


def _check_root(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise BadRequest(f"{root} is not a folder: name one with --root, it is made if need be")
    length = len(os.fsencode(root))
    if length > ROOT_BYTES_MAX:
        raise BadRequest(
            f"the path of the node's folder is {length} bytes long, SQLite can't open files beyond "
            f"{ROOT_BYTES_MAX}: use a folder with a shorter path"
        )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="leoronic start",
        description="Start a node: it runs tasks until it is stopped (ctrl-C drains, twice stops).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_machine_options(parser)
    parser.add_argument(
        "--listen", metavar="ADDR:PORT", help=f"for other nodes (default: [::]:{PORT}, all)"
    )
    parser.add_argument(
        "--cookie",
        metavar="FILE",
        help="the cluster's secret (- is stdin; LEORONIC_COOKIE is the secret itself); it is kept",
    )
    parser.add_argument("--retention", metavar="TIME", help="keep history this long (default: 30d)")
    return parser


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Options of whatever runs tasks on a machine."""
    parser.add_argument("--root", metavar="DIR", help="its folder (default: this one)")
    parser.add_argument("--name", help="what people call it (default: the host's name)")
    parser.add_argument(
        "--peer", action="append", metavar="ADDR[:PORT]", help="a node to look for; may be repeated"
    )
    parser.add_argument(
        "--no-discovery", action="store_const", const=True, help="don't look in the local network"
    )
    parser.add_argument("--cpus", metavar="N", help="cpus for tasks (default: all)")
    parser.add_argument("--memory", metavar="SIZE", help="memory for tasks (default: all)")
    parser.add_argument("--storage", metavar="SIZE", help="disk for tasks (default: what's free)")
    parser.add_argument(
        "--resource", action="append", metavar="NAME=N", help="something else to count: gpu=1"
    )
    parser.add_argument("--tag", action="append", help="a tag for `worker:tag` conditions")
    parser.add_argument(
        "--files-quota", metavar="SIZE", help="disk for files of tasks (default: a tenth of it)"
    )
    parser.add_argument(
        "--files-reserve",
        metavar="SIZE",
        help="disk that such files leave free (default: 1GiB or a twentieth, whichever is more)",
    )
    parser.add_argument("--config", metavar="FILE", help="default: ROOT/.leoronic/config.toml")
    parser.add_argument(
        "--log-format", choices=["text", "json"], help="default: text on a terminal, else json"
    )
    parser.add_argument("--version", action="version", version=f"leoronic {__version__}")


class Parser(argparse.ArgumentParser):
    """Its errors are one line, as all others."""

    def error(self, message: str) -> NoReturn:
        """Tell it, and exit with 2."""
        self.exit(2, f"leoronic: {message}; see `{self.prog} --help`\n")


def _from_file(path: Path, asked_for: str | None) -> dict[str, Any]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        if asked_for:
            raise BadRequest(f"there is no {path}") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read: {error}") from error
    # Few have such a file, and all wait for what is imported at the start.
    import tomllib  # noqa: PLC0415

    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRequest(f"{path} is not TOML: {error}") from error
    known = set(_KEYS)
    unknown = sorted(set(found) - known)
    if unknown:
        raise BadRequest(f"{path}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in _KEYS:
        value = environment.get(f"LEORONIC_{key.upper()}")
        if value:
            name = "cookie_text" if key == "cookie" else key
            found[name] = value.split(",") if key in ("tag", "resource", "peer") else value
    return found


_KEYS = (
    "name", "cpus", "memory", "storage", "resource", "tag", "retention", "log_format", "listen",
    "peer", "no_discovery", "cookie", "files_quota", "files_reserve",
)  # fmt: skip


def _build(root: Path, settings: dict[str, Any]) -> Config:
    given: dict[str, Any] = {}
    for key, value in settings.items():
        try:
            given[_FIELD.get(key, key)] = _READERS[key](value)
        except (ValueError, TypeError, BadRequest) as error:
            told = error.message if isinstance(error, BadRequest) else str(error)
            raise BadRequest(f"{_SHOWN.get(key, key)}: {told}") from error
    listen = given.pop("listen", None)
    if listen is not None:
        given["listen_host"], given["listen_port"] = listen
    given.setdefault("name", _known_name(root) or _host_name())
    assert set(given) <= {field.name for field in fields(Config)}
    return Config(root=root, **given)


def _known_name(root: Path) -> str | None:
    """The name this node was last started with: a name once given is kept."""
    try:
        return _name((root / ".leoronic" / "name").read_text().strip())
    except (OSError, ValueError):
        return None


def _host_name() -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:63]
    return name if _NAME.fullmatch(name) else "node"


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a name: letters, digits, `-`, `_` and `.`, at most 63")
    return value


def _cpus(value: object) -> float:
    try:
        cpus = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        cpus = 0.0
    if not 0 < cpus <= 65536:
        raise ValueError(f"{value!r} is not a number of cpus, such as 2 or 0.5")
    return cpus


def _resources(value: object) -> tuple[tuple[str, float], ...]:
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        pairs = []
        for text in [value] if isinstance(value, str) else list(value):  # type: ignore[call-overload]
            name, equals, amount = str(text).partition("=")
            if not equals:
                raise ValueError(f"{text!r} is not NAME=N, such as gpu=1")
            pairs.append((name, amount))
    return tuple(sorted((_name(name), _amount(name, amount)) for name, amount in pairs))


def _amount(name: str, value: object) -> float:
    try:
        amount = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        amount = -1.0
    if not 0 <= amount < 1e15:
        raise ValueError(f"{name}: {value!r} is not a number of them, such as 1")
    return amount


def _retention(value: object) -> float:
    """A duration with its unit: whoever writes 30 means days, and would keep half a minute."""
    if isinstance(value, int | float) or (isinstance(value, str) and value.strip().isdigit()):
        raise ValueError(f"say the unit of {value}: 30d, 12h")
    return duration(value)


def _tags(value: object) -> tuple[str, ...]:
    tags = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    return tuple(sorted({checked_tag(tag) for tag in tags}))


def _log_format(value: object) -> str:
    if value not in ("text", "json"):
        raise ValueError(f"{value!r} is not text or json")
    return str(value)


def _peers(value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    if len(texts) > PEERS_MAX:
        raise ValueError(f"at most {PEERS_MAX} can be named; the others are learnt from these")
    return tuple(dict.fromkeys(str(parse_address(str(text))) for text in texts))


def _discovery(value: object) -> bool:
    """What `no_discovery` means for `discovery`."""
    words = {"1": False, "true": False, "yes": False, "0": True, "false": True, "no": True}
    found = words.get(str(value).lower())
    if found is None:
        raise ValueError(f"{value!r} is not true or false")
    return found


def _cookie_file(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not the name of a file")
    return value if value == STDIN else str(Path(value).expanduser().absolute())


def _cookie_text(value: object) -> str:
    return check_cookie(str(value))


def given_cookie(config: Config) -> str | None:
    """The cookie that this start was given, on one line; None if it was given none.

    The file, or the standard input, is read only now: once, when a node starts. Raises
    `BadRequest`.
    """
    if config.cookie_file is None:
        return config.cookie
    try:
        if config.cookie_file == STDIN:
            content = sys.stdin.buffer.read(_COOKIE_BYTES_MAX)
        else:
            with Path(config.cookie_file).open("rb") as file:
                content = file.read(_COOKIE_BYTES_MAX)
        text = content.decode()
    except OSError as error:
        raise BadRequest(
            f"cookie: {config.cookie_file} cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError:
        raise BadRequest(f"cookie: {config.cookie_file} is not text") from None
    try:
        return check_cookie(text)
    except BadRequest as error:
        raise BadRequest(f"cookie: {config.cookie_file}: {error.message}") from None


def forget_cookie() -> None:
    """Take the cookie out of the environment: tasks inherit that, and need not know it."""
    os.environ.pop(_COOKIE_VARIABLE, None)


_FIELD = {
    "resource": "resources",
    "tag": "tags",
    "retention": "retention_s",
    "peer": "peers",
    "no_discovery": "discovery",
    "cookie": "cookie_file",
    "cookie_text": "cookie",
}
_SHOWN = {"cookie_text": _COOKIE_VARIABLE}
_READERS: dict[str, Any] = {
    "name": _name,
    "cpus": _cpus,
    "memory": size,
    "storage": size,
    "files_quota": size,
    "files_reserve": size,
    "resource": _resources,
    "tag": _tags,
    "retention": _retention,
    "log_format": _log_format,
    "listen": parse_listen,
    "peer": _peers,
    "no_discovery": _discovery,
    "cookie": _cookie_file,
    "cookie_text": _cookie_text,
}


def environment() -> Mapping[str, str]:
    """The environment, for the composition root."""
    return os.environ
