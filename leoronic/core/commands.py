"""What can be asked of a node: one surface for the command line, scripts, inbox and Python.

    request  = {"request": N, "command": {"type": "show", "id": "..."}}   + blob (Submit only)
    answer   = {"request": N, "result": ...}                                the last one
             | {"request": N, "item": ...}  + blob                         of a stream, before it
             | {"request": N, "error": {"code", "message", "definite", "problems"}}

Answers are plain JSON: the same data that `--json` prints. Times in them are RFC 3339 in UTC.
Any node answers about all of them; NODE is a node's name, its id or a unique beginning of that, and
empty means the node that is asked. A *node object* is

    {"id", "name", "address": HOST:PORT as seen from here,
     "state": up|suspect|draining|down|left,
     "kind": "node"|"ghost", "cpus", "memory", "storage", "tags",
     "free": {"cpus", "memory", "storage"},
     "running": attempts there, "version", "seen_s": seconds since a sign of life, 0 for the asked,
     "reason": why it is not up, else "", "owner_of": [names of the nodes that it stands in for],
     "resources": {name: number}, "ready": whether it has caught up with the others}

with null for `free` and `running` of a node that did not answer at once; a ghost has no address,
and "clairvoyant": the name of the node that gives it work; the node that is asked
has {"cpu_percent", "memory_percent", "load"} as well.
"""

from __future__ import annotations

import msgspec


class _Command(msgspec.Struct, frozen=True, omit_defaults=True, tag=str.lower, tag_field="type"):
    pass


class Submit(_Command, frozen=True):
    """Add the tasks in the frame's blob: one object, an array, JSON lines, or defaults and tasks.

    Result: {"ids": [...], "held_by": [node names]}, once all are on disk. Whole or not at all.
    `held_by` are the nodes that hold all of them durably, the one asked first.
    `lines` says that the blob is JSON lines, which is faster than finding out. `cwd` is where the
    paths in `files` count from ("": the node's root). With `progress` the files that are stored
    are told first, as items {"stored": bytes, "size": bytes}.
    """

    lines: bool = False
    cwd: str = ""
    progress: bool = False


class Show(_Command, frozen=True):
    """Result: the task object of CONTRACT. `id` may be shortened; `ID.INDEX` is an element."""

    id: str


class Locate(_Command, frozen=True):
    """Where a task runs, or how a node can be called: for those who then talk to it directly.

    Result: {"task", "state", "attempt", "node": id of the node of that attempt, "name": of that
    node, "addresses": [HOST:PORT of its peer port, the best first], "here": whether it is the node
    that is asked, "reason": why it does not run, else ""}. With `wait_s` (at most 50) the answer
    comes once an attempt later than `after_attempt` runs, or the task is final, or the time is
    over. With `node` (an id) instead of `id` it is about that node: no task, attempt 0.
    """

    id: str = ""
    node: str = ""
    wait_s: float = 0.0
    after_attempt: int = 0


class List(_Command, frozen=True):
    """Result: {"tasks": [task objects, newest first], "more": bool}.

    `since` in seconds since the epoch; `label` is `KEY` or `KEY=VALUE`. With `before` (an `order`
    of an earlier answer's last task) the next page. A page ends sooner if its tasks are big.
    """

    state: str | None = None
    label: str | None = None
    since: float | None = None
    limit: int = 100
    before: int | None = None


class Why(_Command, frozen=True):
    """Result: {"id", "state", "reasons": [str], "nodes": {name: [str]}}."""

    id: str


class Logs(_Command, frozen=True):
    """Stream: items {"offset"} with a blob of output. Result: {"task", "attempt", "at_end"}.

    With `follow`, lasts until the task is final, over retries (an item {"attempt": N} tells of a
    new attempt). `attempt` 0 is the latest.
    """

    id: str
    stream: str = "stdout"
    follow: bool = False
    attempt: int = 0
    offset: int = 0


class Wait(_Command, frozen=True):
    """Stream: items {"id", "state", "progress"}. Result: {"tasks": [task objects], "timed_out"}.

    A task that is blocked counts as ended: it can never start as things stand. At most 1,000 ids.
    """

    ids: list[str]
    time_limit: float | None = None


class Cancel(_Command, frozen=True):
    """Result: {"changed": [ids], "unchanged": [ids that were final already]}."""

    ids: list[str]


class Hold(_Command, frozen=True):
    """Keep waiting tasks from starting. Result as `Cancel`."""

    ids: list[str]


class Release(_Command, frozen=True):
    """Let held tasks start. Result as `Cancel`."""

    ids: list[str]


class Redo(_Command, frozen=True):
    """Submit ended tasks again, as new tasks; what they blocked waits for these. {"ids": [...]}."""

    ids: list[str] = []
    failed: bool = False


class Status(_Command, frozen=True):
    """Result: the status object, with statistics of each actor under `actors`.

    {"node": {"id", "name", "pid", "uptime_s", "version", "root", "inbox", "address", "running"},
     "tasks": {state: count}, "nodes": {state: count}, "actors": [...]}
    """


class Nodes(_Command, frozen=True):
    """Result: {"nodes": [node objects], "unreached": [{"address", "reason"}]}.

    The one asked first, then by name. `seen_s` is null for a node never heard of. `unreached` are
    addresses where nobody could be reached.
    """


class Join(_Command, frozen=True):
    """How to bring another machine in. Result: {"addresses": [HOST:PORT], "cookie", "line"}.

    `addresses` are those at which this node can be reached, the best first; `line` is to be pasted
    into a shell there (`addresses.join_line`). With `ghost`, that is for a ghost, and there is
    `token` instead of `cookie`.
    """

    ghost: bool = False


class Cookie(_Command, frozen=True):
    """The secret that makes nodes one cluster.

    `action` is `show`, `rotate` (all connected nodes take a new one, and accept the old one as
    well) or `finish` (they accept the old one no more; refused while a node that is up lacks the
    new one). Result of each: {"cookie", "fingerprint", "old": fingerprint of the one that is
    accepted as well, or "", "nodes": {name: whether it has the cookie}, "not_there": [names of
    those that could not be asked]}. A new cookie is always made by the node.
    """

    action: str = "show"


class Splits(_Command, frozen=True):
    """What ran twice because nodes lost sight of each other. Result: {"splits": [newest first]}.

    {"id", "name", "runs": [{"attempt", "node", "state", "started_at", "finished_at", "exit_code",
     "won": bool}], "suspicions": [{"node", "by", "at", "reason"}], "seconds_lost": what the runs
     that did not win took, "outputs_differ": bool, or null if that is not known}
    """

    limit: int = 100


class Watch(_Command, frozen=True):
    """Stream: items {"id", "state", "attempt", "node", "at", "name", ...} as tasks change."""


class TagAdd(_Command, frozen=True):
    """Result: {"node": its name, "tags": [all that it has]}. Refused if that node is down."""

    tag: str
    node: str = ""


class TagDel(_Command, frozen=True):
    """Result: {"node", "tags": [...]}."""

    tag: str
    node: str = ""


class TagList(_Command, frozen=True):
    """Result: {"node", "tags": [...]}."""

    node: str = ""


class Exec(_Command, frozen=True):
    """Run a command on nodes now, beside whatever runs there.

    Result: {"ids": {node name: task id}, "skipped": {node name: why not there}}. It is a task of
    its own with `cpus: 0`, pinned to its node; its output is read by `Logs`. Skipped are nodes that
    are down; those that left are none. Refused if there is nobody to run it.
    """

    command: str
    node: str = ""
    tag: str = ""
    all: bool = False


class Put(_Command, frozen=True):
    """Copy files into the working directories of nodes, in place of what has their names there.

    Paths count from `cwd`; a file keeps the last part of its path as its name, or a single one gets
    `name`, a path in the directory. Without `node` and `tag` it goes to all nodes. Refused whole if
    a file cannot be read, or if nobody is there. Stream: items {"stored": bytes, "size": bytes}
    while the files are read, then {"node", "done": bytes, "size": bytes}. Result:

        {"files": [{"path", "name", "size", "digest"}],
         "nodes": {node name: {"placed": [names], "problems": [str]}}}

    Nodes that are down are there too, with that as their problem; those that left are not.
    """

    files: list[str]
    cwd: str = ""
    name: str = ""
    node: str = ""
    tag: str = ""


class Get(_Command, frozen=True):
    """The files that a task left, see `outputs`. `have`: of which of them, from which byte on.

    Stream: items {"path", "offset"} with a blob, in order, for each path in `have` up to its end;
    {"path", "problem"} for one that can't be had now; and while something has to come from other
    nodes {"fetched": bytes, "size": bytes}. Result, which is all there is without `have`:
    {"task", "attempt", "files": [{"path", "size", "mode", "digest"}], "problems": [str]}.
    """

    id: str
    have: dict[str, int] = {}


class ListFiles(_Command, frozen=True):
    """What is in a node's working directory, without the node's state and its inbox; by pages.

    Result: {"entries": [{"path", "kind": file|folder|link|other, "size", "mode", "mtime_ns",
    "target", "problem"}], "more": bool, "after": str}. In the order of names, a folder before what
    is in it. The next page is that with `after`. `problem`: why it can't be had.
    """

    node: str = ""
    after: str = ""


class ReadFiles(_Command, frozen=True):
    """Files of a node's working directory: (path, offset, size as it was listed) of each.

    Stream: in order, items {"path", "offset", "size", "mtime_ns", "last": bool} with a blob, or
    {"path", "problem"} as the last of a file. `size` and `mtime_ns` as they are now; a file that
    changes while it is read is a problem. Result: {}. At most 1,000 files.
    """

    files: list[tuple[str, int, int]]
    node: str = ""


class Drain(_Command, frozen=True):
    """Start nothing more on a node; what runs ends. Result: the node object of that node."""

    node: str = ""
    undo: bool = False


class Stop(_Command, frozen=True):
    """Drain this node, then stop it. With `now` running tasks are ended. Result: {}."""

    now: bool = False


class Debug(_Command, frozen=True):
    """Raise an error inside an actor, to see it restarted. Only if LEORONIC_DEBUG is set."""

    actor: str
    message: str = "asked for by a debug command"


Command = (
    Submit
    | Show
    | Locate
    | List
    | Why
    | Logs
    | Wait
    | Cancel
    | Hold
    | Release
    | Redo
    | Status
    | Nodes
    | Join
    | Cookie
    | Splits
    | Watch
    | TagAdd
    | TagDel
    | TagList
    | Exec
    | Put
    | Get
    | ListFiles
    | ReadFiles
    | Drain
    | Stop
    | Debug
)
"""Every command, told apart by its `type`, the name of its class in lower case."""


class Request(msgspec.Struct, frozen=True):
    """One request of a client. `request` is its number, unique on its connection."""

    request: int
    command: Command
