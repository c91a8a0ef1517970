"""What a ghost is told at its start."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from leoronic.config import STDIN, Config, Parser, add_machine_options, config_of, given_cookie
from leoronic.core.addresses import parse_address
from leoronic.errors import BadRequest
from leoronic.wire.ghost_identity import token_of
from leoronic.wire.token import TOKEN_LENGTH_MAX, Token, decode_token, read_token, write_token

TOKEN_VARIABLE = "LEORONIC_TOKEN"
SECRETS = (TOKEN_VARIABLE, "LEORONIC_COOKIE")

_EXAMPLES = """
examples:
  leoronic join --ghost                 (on a node) prints the line that starts a ghost
  leoronic ghost                        with the token of that line: at the node of lowest address
  leoronic ghost 2                      at node 2 mod y, of the y that are found
  leoronic ghost 192.168.1.10           at that node, as long as it is there
"""


class GhostConfig(NamedTuple):
    """`machine`: as for a node. `wanted`: a number, HOST:PORT or '': see `GhostChoice`.

    `token_file` and `token`: where a token is given, and the token itself from the environment.
    """

    machine: Config
    wanted: str
    token_file: str | None
    token: str | None

    @property
    def token_path(self) -> Path:
        """Where the ghost keeps its token."""
        return self.machine.state_dir / "token"

    @property
    def is_number(self) -> bool:
        """Whether it is to be counted out who it is: so all must be known."""
        return self.wanted.isdigit()

    @property
    def given(self) -> tuple[str, ...]:
        """The address that it is told to call, if it is."""
        return (self.wanted,) if self.wanted and not self.is_number else ()


def read_ghost_config(arguments: Sequence[str], environment: Mapping[str, str]) -> GhostConfig:
    """Raises `BadRequest`; exits on --help, --version and wrong usage (2)."""
    options = vars(_parser().parse_args(arguments))
    wanted = _wanted(options.pop("clairvoyant"))
    token_file = options.pop("token")
    machine = config_of(options, environment)
    if (machine.state_dir / "leoronic.db").exists():
        raise BadRequest(
            f"{machine.root} is a node's folder: start the ghost in one of its own (--root DIR)"
        )
    return GhostConfig(machine, wanted, token_file, environment.get(TOKEN_VARIABLE))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="leoronic ghost",
        description="Start a ghost: it runs tasks and holds no queue; a node, its clairvoyant, "
        "gives it work.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "clairvoyant",
        nargs="?",
        metavar="N | ADDR[:PORT]",
        help="which node to ask for work (default: that of the lowest address)",
    )
    add_machine_options(parser)
    parser.add_argument(
        "--token", metavar="FILE", help=f"what lets it in (- is stdin; or {TOKEN_VARIABLE}); kept"
    )
    parser.add_argument(
        "--cookie", metavar="FILE", help="the cluster's secret, of which a token can be made"
    )
    return parser


def _wanted(text: str | None) -> str:
    if text is None:
        return ""
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return text
    try:
        return str(parse_address(text))
    except ValueError as error:
        raise BadRequest(str(error)) from None


def keep_token(config: GhostConfig) -> Token:
    """The token to use: the one that this start was given, else the one that is kept.

    Raises `BadRequest` and `OSError`.
    """
    given = _given_token(config)
    if given is None:
        try:
            return read_token(config.token_path)
        except FileNotFoundError:
            raise BadRequest(
                "a ghost needs a token: `leoronic join --ghost` on a node prints the line that "
                "starts it"
            ) from None
    write_token(config.token_path, given)
    return given


def _given_token(config: GhostConfig) -> Token | None:
    if config.token_file is not None:
        return decode_token(_read(config.token_file))
    if config.token:
        return decode_token(config.token)
    cookie = given_cookie(config.machine)
    return token_of(cookie) if cookie is not None else None


def _read(file: str) -> str:
    try:
        if file == STDIN:
            return sys.stdin.buffer.read(TOKEN_LENGTH_MAX + 1).decode()
        with Path(file).expanduser().open("rb") as opened:
            return opened.read(TOKEN_LENGTH_MAX + 1).decode()
    except OSError as error:
        raise BadRequest(f"token: {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise BadRequest(f"token: {file} is not text") from None


def forget_secrets() -> None:
    """Take them out of the environment: tasks inherit that, and need not know them."""
    for name in SECRETS:
        os.environ.pop(name, None)
