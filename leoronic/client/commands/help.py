"""help: what --help says, for those who look for it here."""

from __future__ import annotations

from typing import Any

import click

from leoronic.client import cli


@click.command("help")
@click.argument("command", metavar="[COMMAND]...", nargs=-1)
def help_command(command: tuple[str, ...]) -> Any:
    """Show help, as --help does.

    \b
    leoronic help
    leoronic help submit
    leoronic help tag add
    """
    return cli.cli.main([*command, "--help"], prog_name="leoronic", standalone_mode=False)
