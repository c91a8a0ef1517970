"""The thin client behind the shell functions: one request, and out, in about 10 ms.

Run as `python -I -S`, with nothing imported but what the interpreter has loaded anyway; `json`
(9 ms) only where something is unusual. The full client is `leoronic.client.connection`.
"""

from __future__ import annotations

import _socket
import os
import sys

from leoronic.client import locate

USAGE = 2
REFUSED = 1
UNREACHABLE = 3
ANSWER_TIMEOUT_S = 60.0
# Files are copied before the answer: a slow disk may say nothing of them for long.
FILES_TIMEOUT_S = 3600.0
BLOB_BYTES_MAX = 16 * 1024 * 1024
FIELDS = "MEM CORES STORAGE CONCURRENT CONDITIONS FILES COMMAND [ID]"
_TRUTH = {"true": "true", "1": "true", "yes": "true", "false": "false", "0": "false", "no": "false"}
_UNREACHABLE_CODES = {"unavailable", "node_unreachable", "timeout", "actor_gone", "mailbox_full"}
_FILES = '"files"'
_ITEM = b'{"request":1,"item":'
_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(32), 34, 92)}


class StoppedError(Exception):
    """Ends the command with `code`; the text is for a person."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def text(value: str) -> str:
    """`value` as a JSON string. Raises `StoppedError` if it is not UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise StoppedError(
            USAGE, f"{value!r} is not UTF-8: write it to a script and run that"
        ) from None
    return f'"{value.translate(_ESCAPES)}"'


def quantity(value: str) -> str:
    """A number, or a size with its unit, as JSON: `1024`, `0.5`, `"512M"`; empty is 0."""
    value = value.strip()
    if not value:
        return "0"
    whole, point, rest = value.partition(".")
    if whole.isascii() and whole.isdigit() and (not point or (rest.isascii() and rest.isdigit())):
        return (whole.lstrip("0") or "0") + point + rest
    return text(value)


def task(fields: list[str]) -> str:
    """The task that the arguments of `leoronic_add_task` describe, as a JSON object."""
    if not 7 <= len(fields) <= 8:
        raise StoppedError(
            USAGE,
            f"{len(fields)} fields where 7 or 8 belong: {FIELDS}; "
            "leoronic_task_format explains them",
        )
    memory, cores, storage, concurrent, conditions, files, command = fields[:7]
    truth = _TRUTH.get(concurrent.strip().lower())
    if truth is None:
        raise StoppedError(
            USAGE, f"CONCURRENT is true or false (may others run meanwhile?), not {concurrent!r}"
        )
    if not command.strip():
        raise StoppedError(USAGE, "COMMAND is empty")
    parts = [
        f'"command":{text(command)}',
        f'"memory":{quantity(memory)}',
        f'"cpus":{quantity(cores)}',
        f'"storage":{quantity(storage)}',
        f'"concurrent":{truth}',
    ]
    if conditions.strip():
        parts.append(f'"conditions":{text(conditions)}')
    if files.strip(" ;"):
        parts.append(f"{_FILES}:{text(files)}")
    if len(fields) == 8 and fields[7]:
        parts.append(f'"id":{text(fields[7])}')
    return "{" + ",".join(parts) + "}"


def tasks(lines: str) -> tuple[bytes, list[int]]:
    """Tasks written one a line, as JSON lines, and the line number (from 1) of each."""
    import shlex  # noqa: PLC0415 (6 ms that a single task need not pay)

    found: list[str] = []
    numbers: list[int] = []
    for number, line in enumerate(lines.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            found.append(task(shlex.split(line)))
        except ValueError as error:
            raise StoppedError(
                USAGE, f"line {number}: {error} (each line is one task, quoted as in a shell)"
            ) from None
        except StoppedError as error:
            raise StoppedError(error.code, f"line {number}: {error}") from None
        numbers.append(number)
    if not found:
        raise StoppedError(USAGE, "no tasks there: only blank lines and comments")
    blob = "\n".join(found).encode()
    if len(blob) > BLOB_BYTES_MAX:
        raise StoppedError(
            USAGE,
            f"{len(blob) >> 20} MiB are more than go in whole (16 MiB): split it, "
            "or give JSON lines to `leoronic submit -f`",
        )
    return blob, numbers


def call(command: str, blob: bytes = b"", answer_s: float = 0.0) -> bytes:
    """The JSON text of the node's answer to one command (JSON text). Raises `StoppedError`.

    It must come within `answer_s`, if that is given; items before it are shown as progress.
    """
    request = f'{{"request":1,"command":{command}}}'.encode()
    header = len(request).to_bytes(4, "big") + len(blob).to_bytes(4, "big")
    try:
        root = locate.find_root()
        sock = locate.open_socket(root)
    except locate.NoNodeError as error:
        raise StoppedError(UNREACHABLE, str(error)) from None
    within_s = answer_s or ANSWER_TIMEOUT_S
    sock.settimeout(within_s)
    try:
        sock.sendall(header + request + blob)
        json = _answer(sock)
    except TimeoutError:
        raise StoppedError(
            UNREACHABLE, f"the node in {root} gave no answer within {within_s:.0f} s"
        ) from None
    except OSError:
        json = b""
    finally:
        sock.close()
    if not json:
        raise StoppedError(
            UNREACHABLE,
            f"the node in {root} went away before it answered: "
            "look with `leoronic list` whether it was done",
        )
    return json


def _answer(sock: _socket.socket) -> bytes:
    """The JSON of the last frame; empty if it does not come whole. Raises `OSError`."""
    data = b""
    shown = False
    try:
        while True:
            while len(data) < 8 or len(data) < 8 + int.from_bytes(data[:4], "big"):
                part = sock.recv(262_144)
                if not part:
                    return b""
                data += part
            end = 8 + int.from_bytes(data[:4], "big")
            json, data = data[8:end], data[end:]
            # An item has no bytes with it.
            if not json.startswith(_ITEM):
                return json
            shown = _show(json) or shown
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _show(item: bytes) -> bool:
    """How far it is, on a terminal. Whether it was shown."""
    if not sys.stderr.isatty():
        return False
    import json  # noqa: PLC0415

    told = json.loads(item)["item"]
    share = told["stored"] * 100 // max(told["size"], 1)
    done, size = told["stored"] >> 20, told["size"] >> 20
    print(
        f"\r\x1b[Kstoring files: {done:,} of {size:,} MiB ({share}%)",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return True


def submit(blob: bytes, *, lines: bool = False) -> bytes:
    """The answer to `submit`; paths of files count from the current folder."""
    options = ',"lines":true' if lines else ""
    if _FILES.encode() not in blob:
        return call(f'{{"type":"submit"{options}}}', blob)
    try:
        options += f',"cwd":{text(os.getcwd())},"progress":true'  # noqa: PTH109
    except FileNotFoundError:
        raise StoppedError(
            REFUSED, "the current folder was removed: cd to one that is there"
        ) from None
    return call(f'{{"type":"submit"{options}}}', blob, FILES_TIMEOUT_S)


def result(answer: bytes, lines: list[int] | None = None) -> dict[str, list[str]]:
    """The result in an answer. `lines`: the line of each task sent. Raises `StoppedError`."""
    import json  # noqa: PLC0415

    message = json.loads(answer)
    error = message.get("error")
    if error is None:
        found: dict[str, list[str]] = message["result"]
        return found
    code = UNREACHABLE if error["code"] in _UNREACHABLE_CODES else REFUSED
    problems = error.get("problems") or []
    if lines is not None:
        problems = _placed(problems, lines)
    if len(problems) == 1:
        raise StoppedError(code, problems[0])
    if problems:
        problems.insert(0, error["message"].partition(":")[0] + ":")
    raise StoppedError(code, "\n  ".join(problems) or error["message"])


def _placed(problems: list[str], lines: list[int]) -> list[str]:
    from leoronic.client.places import moved  # noqa: PLC0415

    return [
        moved(problem, lambda index: f"line {lines[index]}", lambda line: lines[line - 1])
        for problem in problems
    ]


def new_id(answer: bytes) -> str:
    """The id in the answer to one submitted task. Raises `StoppedError`."""
    # What the node sends when all is well is known to the byte; anything else goes to `json`.
    start, middle, rest = answer.partition(b'"result":{"ids":["')
    found, end, _ = rest.partition(b'"')
    if start == b'{"request":1,' and middle and end and b"\\" not in found:
        return found.decode()
    return result(answer)["ids"][0]


def add(fields: list[str]) -> None:
    """`leoronic_add_task`: prints the new id."""
    print(new_id(submit(task(fields).encode())))


def add_many(arguments: list[str]) -> None:
    """`leoronic_add_tasks_from_file` (a file's name, `-` is stdin): prints the ids."""
    if len(arguments) != 1:
        raise StoppedError(USAGE, "one file is needed (- for the standard input)")
    name = arguments[0]
    try:
        with open(0 if name == "-" else name, "rb") as file:  # noqa: PTH123
            blob, lines = tasks(file.read().decode())
    except OSError as error:
        raise StoppedError(USAGE, f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise StoppedError(USAGE, f"{name} is not UTF-8 (byte {error.start})") from None
    answer = submit(blob, lines=True)
    print("\n".join(result(answer, lines)["ids"]))


def cancel(ids: list[str]) -> None:
    """`leoronic_cancel_task`: prints nothing; a task that has ended already is left alone."""
    if not ids:
        raise StoppedError(USAGE, "the id of a task is needed")
    result(call(f'{{"type":"cancel","ids":[{",".join(map(text, ids))}]}}'))


def tag(kind: str, arguments: list[str]) -> None:
    """`leoronic_add_tag` and `leoronic_del_tag`: TAG [NODE]."""
    if not 1 <= len(arguments) <= 2 or not arguments[0]:
        raise StoppedError(USAGE, "a tag is needed, and perhaps a node: TAG [NODE]")
    node = arguments[1] if len(arguments) == 2 else ""
    result(call(f'{{"type":"{kind}","tag":{text(arguments[0])},"node":{text(node)}}}'))


def main(argv: list[str]) -> int:
    """Run one of the commands above. Returns the exit code of CONTRACT."""
    try:
        match argv[0]:
            case "add":
                add(argv[1:])
            case "add-many":
                add_many(argv[1:])
            case "cancel":
                cancel(argv[1:])
            case "tagadd" | "tagdel":
                tag(argv[0], argv[1:])
            case _:
                raise StoppedError(USAGE, f"no such command {argv[0]!r}")
        sys.stdout.flush()
    except StoppedError as error:
        print(f"leoronic: {error}", file=sys.stderr)
        return error.code
    except BrokenPipeError:
        return REFUSED
    return 0
