"""Completion for shells: the scripts come from click, the ids from the node."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from leoronic.client import cli

VARIABLE = "_LEORONIC_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script of a shell. It completes commands, options and task ids.

    \b
    eval "$(leoronic completion bash)"                      in ~/.bashrc
    eval "$(leoronic completion zsh)"                       in ~/.zshrc
    leoronic completion fish > ~/.config/fish/completions/leoronic.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click.Choice lets through only shells that click knows
    click.echo(kind(cli.cli, {}, "leoronic", VARIABLE).source())
