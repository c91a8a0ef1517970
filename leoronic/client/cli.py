"""The command line: finds the command, runs it, and turns errors into one line and an exit code.

A command's module is imported when it is used: `leoronic list` need not wait for `top`.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

import click

import leoronic
from leoronic.client.context import INTERRUPTED, USAGE, CommandError, help_if_alone
from leoronic.errors import BadRequest, LeoronicError, Unavailable

REFUSED, UNREACHABLE = 1, 3

# name: (module under leoronic.client.commands, what it does)
COMMANDS = {
    "start": ("node", "Start a node here (also: `leoronic` alone)."),
    "ghost": ("node", "Start a ghost here: it runs tasks, and holds no queue."),
    "submit": ("submit", "Add a task, an array of tasks, or a file of tasks."),
    "list": ("tasks", "List tasks, newest first."),
    "show": ("tasks", "Show everything about a task."),
    "why": ("tasks", "Say why a task is not running."),
    "logs": ("output", "Print what a task printed."),
    "wait": ("output", "Wait until tasks have ended."),
    "cancel": ("tasks", "Cancel tasks, running ones too."),
    "hold": ("tasks", "Keep waiting tasks from starting."),
    "release": ("tasks", "Let held tasks start."),
    "redo": ("tasks", "Run ended tasks again, as new tasks."),
    "status": ("node", "Show the node and how many tasks it has."),
    "nodes": ("node", "List the nodes and what they have free."),
    "watch": ("live", "Print a line whenever a task changes."),
    "top": ("live", "Live view of the nodes and their tasks."),
    "tag": ("node", "Add, delete or list a node's tags."),
    "exec": ("execute", "Run a command on nodes now, beside their tasks."),
    "put": ("files", "Copy files to nodes."),
    "get": ("files", "Get the files that a task left."),
    "collect": ("files", "Bring all nodes' working directories here."),
    "drain": ("node", "Start nothing more on a node."),
    "join": ("cluster", "Print the line that brings another machine in."),
    "cookie": ("cluster", "Show or change the cluster's secret."),
    "splits": ("cluster", "Show what ran twice, and what that cost."),
    "stop": ("node", "Drain this node, then stop it."),
    "completion": ("completion", "Print the completion script of a shell."),
    "help": ("help", "Show help, as --help does."),
}

EPILOG = """\b
A command finds its node by --root, else LEORONIC_ROOT, else the nearest folder
from here upward that holds .leoronic/.

\b
Exit codes: 0 done, 1 refused, 2 wrong usage, 3 no node can be reached;
`wait` and `submit --wait`: the task's own, 128+N for signal N, 124 for a time limit.
"""


class Commands(click.Group):
    """A group whose commands live in modules that are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table above: the daily ones first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, its module imported; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"leoronic.client.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name in the error."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=3, cutoff=0.5)
            # Who mistypes a word mostly has its first letter right.
            near.sort(key=lambda name: name[0] != args[0][:1])
            hint = f"did you mean `leoronic {near[0]}`?" if near else "see `leoronic --help`"
            raise click.UsageError(f"no such command {args[0]!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table: the modules are not needed to list them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])


@click.command(
    cls=Commands,
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(leoronic.__version__, prog_name="leoronic", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> int | None:
    """A few machines, one computer: bash tasks that survive any single failure.

    \b
    leoronic                            start a node in this folder
    leoronic submit -- echo hello       add a task; prints its id
    leoronic logs ID                    what it printed
    leoronic COMMAND --help             more, with examples
    """
    return help_if_alone(ctx)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code; what goes wrong is told on stderr."""
    try:
        code = cli.main(
            args=None if argv is None else list(argv),
            prog_name="leoronic",
            standalone_mode=False,
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _said(_usage(error), USAGE)
    except CommandError as error:
        return _said(str(error), error.code) if str(error) else error.code
    except BadRequest as error:
        return _said(explained(error), REFUSED)
    except Unavailable as error:
        return _said(error.message, UNREACHABLE)
    except LeoronicError as error:
        return _said(error.message, REFUSED)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED


def explained(error: BadRequest) -> str:
    """A refusal with its problems, one a line where there are several."""
    if len(error.problems) == 1:
        return error.problems[0]
    if not error.problems:
        return error.message
    # The node's message goes on with the first problem, which the list has anyway.
    return "\n  ".join([error.message.partition(":")[0] + ":", *error.problems])


def _usage(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).removesuffix(".")
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    if context is None or "--help" in message or "did you mean" in message:
        return message
    return f"{message} (see `{context.command_path} --help`)"


def _said(message: str, code: int) -> int:
    sys.stdout.flush()
    print(f"leoronic: {message}", file=sys.stderr)
    return code
