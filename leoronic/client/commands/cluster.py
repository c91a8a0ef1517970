"""The cluster itself: join, cookie, splits."""

from __future__ import annotations

import click

from leoronic.client import cluster_text, text
from leoronic.client.connection import Client
from leoronic.client.context import (
    colour,
    help_if_alone,
    node_options,
    note,
    say,
    say_json,
    width,
)
from leoronic.core.commands import Cookie, Join, Splits


@click.command("join")
@node_options
@click.option("--ghost", is_flag=True, help="For a ghost: a machine that holds no queue.")
def join_command(root: str | None, as_json: bool, ghost: bool) -> None:
    """Print the line that brings another machine into this cluster, to be pasted there.

    It holds the cluster's secret (the cookie): whoever has it can run commands on all nodes.
    That of a ghost holds a token: whoever has it can be given tasks to run, and nothing else.
    Machines of one network need no addresses, as they find each other; elsewhere they do.

    \b
    leoronic join
    leoronic join | ssh attic 'mkdir -p node && cd node && bash'
    leoronic join --ghost
    """
    with Client(root) as client:
        answer = client.request(Join(ghost))
    if as_json:
        say_json(answer)
        return
    say([answer["line"]])
    if cluster_text.is_local_only(answer["addresses"]):
        note(
            "this node can be reached from its own machine only: "
            "for others, start it with `--listen ADDR` of a network"
        )
    elif ghost:
        note("paste that into a shell on the other machine, in a folder for its ghost")
    else:
        note(
            "paste that into a shell on the other machine, in a folder for its node; "
            "it holds the cluster's secret"
        )


@click.command("splits")
@node_options
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The newest."
)
def splits_command(root: str | None, as_json: bool, limit: int) -> None:
    """Show which tasks ran twice because nodes lost sight of each other, and what that cost.

    Of several runs one counts. `submit --on-loss hold` is for tasks that must not run twice.

    \b
    leoronic splits
    leoronic splits --json | jq '.splits[] | select(.outputs_differ)'
    """
    with Client(root) as client:
        answer = client.request(Splits(limit))
    if as_json:
        say_json(answer)
    elif answer["splits"]:
        say(cluster_text.splits(answer["splits"], width=width(), colour=colour()))
    else:
        note("nothing ran twice")


@click.group("cookie", invoke_without_command=True)
@click.pass_context
def cookie_command(ctx: click.Context) -> int | None:
    """Show or change the secret that makes nodes one cluster, without stopping any.

    \b
    leoronic cookie rotate      all nodes take a new one, and accept the old one too
    leoronic cookie show        who has it by now
    leoronic cookie finish      the old one is accepted no more
    """
    return help_if_alone(ctx)


@cookie_command.command("show")
@node_options
@click.option("--secret", is_flag=True, help="Print the cookie itself, and nothing else.")
def cookie_show(root: str | None, as_json: bool, secret: bool) -> None:
    """Show the cookie's fingerprint, and which nodes have it.

    \b
    leoronic cookie show
    leoronic cookie show --secret | ssh attic 'leoronic start --root node --cookie -'
    """
    with Client(root) as client:
        answer = client.request(Cookie("show"))
    if as_json:
        # What is shown, pasted and logged must not hold the secret by accident.
        say_json(answer if secret else {k: v for k, v in answer.items() if k != "cookie"})
    elif secret:
        say([answer["cookie"]])
    else:
        say(cluster_text.cookie(answer, colour=colour()))


@cookie_command.command("rotate")
@node_options
def cookie_rotate(root: str | None, as_json: bool) -> None:
    """Give all nodes a new cookie; the old one is accepted until `leoronic cookie finish`."""
    _change(root, as_json, "rotate")


@cookie_command.command("finish")
@node_options
def cookie_finish(root: str | None, as_json: bool) -> None:
    """Accept the old cookie no more. Nodes that lack the new one are left out, until they are
    started with the line that `leoronic join` prints.
    """
    _change(root, as_json, "finish")


def _change(root: str | None, as_json: bool, action: str) -> None:
    with Client(root) as client:
        answer = client.request(Cookie(action))
    if as_json:
        say_json({key: value for key, value in answer.items() if key != "cookie"})
        return
    say(cluster_text.cookie(answer, colour=colour()))
    if action == "finish":
        return
    lacking = [name for name, has in answer["nodes"].items() if not has]
    if lacking:
        note(
            f"{', '.join(map(text.one_line, lacking))} will be given it when they are back; only "
            "then, or to leave them out, `leoronic cookie finish`"
        )
    else:
        note("all nodes have it: `leoronic cookie finish` ends the change")
