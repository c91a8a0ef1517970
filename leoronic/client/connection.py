"""The synchronous client: requests and streams over a node's control socket.

    with Client() as client:
        [task] = client.submit("hostname")["ids"]
        for data in client.output(task, follow=True):
            sys.stdout.buffer.write(data)

A method for each command is in `asking.py`; `request` and `stream` take any of `core.commands`.

Several requests may be under way at once: `send` them all, then ask for each `answer`.
Not for several threads at once: give each its own.
"""

from __future__ import annotations

import _socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import orjson

from leoronic.client import locate
from leoronic.client.asking import Asking
from leoronic.core.commands import Command, Logs, Request, Watch
from leoronic.errors import (
    BadRequest,
    CallTimeout,
    LeoronicError,
    NodeUnreachable,
    ProtocolError,
    from_code,
)
from leoronic.wire.codec import to_json
from leoronic.wire.frames import FrameDecoder, encode_frame

ANSWER_TIMEOUT_S = 60.0
READ_BYTES = 256 * 1024


class Answer(NamedTuple):
    """One frame of an answer: an item of a stream, or (`last`) the result or error that ends it."""

    request: int
    last: bool
    value: Any
    blob: bytes = b""
    error: LeoronicError | None = None

    def result(self) -> Any:
        """The value; raises the error the node answered with."""
        if self.error is not None:
            raise self.error
        return self.value


def request_json(number: int, command: Command) -> bytes:
    """The JSON of one request. Raises `BadRequest` for text that JSON cannot hold."""
    try:
        return to_json(Request(number, command))
    except (orjson.JSONEncodeError, UnicodeEncodeError):
        raise BadRequest("text that is not UTF-8 cannot be sent to a node") from None


def parse_answer(json: bytes, blob: bytes) -> Answer:
    """The answer in one frame. Raises `ProtocolError` if it is none."""
    try:
        message = orjson.loads(json)
        number = message["request"]
        if "error" in message:
            return Answer(number, True, None, blob, _error(message["error"]))
        if "item" in message:
            return Answer(number, False, message["item"], blob)
        return Answer(number, True, message["result"], blob)
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ProtocolError(f"the node sent what is no answer: {error}") from error


def _error(fields: dict[str, Any]) -> LeoronicError:
    error = from_code(fields["code"], fields["message"])
    if isinstance(error, BadRequest):
        error.problems = list(fields.get("problems") or [])
    return error


class Stream:
    """The items of one streamed answer; `result` is set once the last has been read."""

    def __init__(self, client: Client, number: int) -> None:
        self._client = client
        self._number = number
        self.result: Any = None

    def __iter__(self) -> Iterator[tuple[Any, bytes]]:
        while True:
            answer = self._client.next_answer({self._number})
            if answer.last:
                self.result = answer.result()
                return
            yield answer.value, answer.blob


class Client(Asking):
    """A connection to one node. Raises `NodeUnreachable` if none answers in `root`.

    `root` as for the command line: else LEORONIC_ROOT, else the nearest `.leoronic/` upward.
    `timeout_s` bounds the wait for the answer to a request; streams may last.
    """

    def __init__(self, root: str | None = None, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        try:
            self.root = locate.find_root(root)
            self._sock: _socket.socket = locate.open_socket(self.root)
        except locate.NoNodeError as error:
            raise NodeUnreachable(str(error)) from None
        self._timeout_s = timeout_s
        self._decoder = FrameDecoder()
        self._numbers = 0
        # Answers that came while another was waited for; what is under way is up to the caller.
        self._early: deque[Answer] = deque()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what was under way on the node's side goes on."""
        self._sock.close()

    def send(self, command: Command, blob: bytes = b"") -> int:
        """Send a request without waiting. Returns its number, for `answer` or `next_answer`."""
        self._numbers += 1
        frame = encode_frame(request_json(self._numbers, command), blob)
        try:
            self._sock.settimeout(self._timeout_s)
            self._sock.sendall(frame)
        except TimeoutError:
            raise CallTimeout(f"the node in {self.root} does not read what it is sent") from None
        except OSError:
            # It may have said why before it closed: the answer tells, or the end of the stream.
            if not self._early:
                self._drain_refusals()
            if not self._early:
                raise self._lost() from None
        return self._numbers

    def _drain_refusals(self) -> None:
        try:
            while self._read(0.1):
                pass
        except (NodeUnreachable, OSError):
            return

    def answer(self, number: int) -> Any:
        """The result of request `number`. Raises what the node answered, or `CallTimeout`."""
        answer = self.next_answer({number}, time.monotonic() + self._timeout_s)
        if answer is None:
            raise CallTimeout(
                f"the node in {self.root} gave no answer within {self._timeout_s:.0f} s"
            )
        return answer.result()

    def request(self, command: Command, blob: bytes = b"") -> Any:
        """Ask and wait for the result. Raises what the node answered, or `CallTimeout`."""
        return self.answer(self.send(command, blob))

    def stream(self, command: Command, blob: bytes = b"") -> Stream:
        """Ask for a streamed answer: iterate over (item, blob), then see `.result`."""
        return Stream(self, self.send(command, blob))

    def finish(self, command: Command, blob: bytes = b"") -> Any:
        """See `Asking.finish`."""
        stream = self.stream(command, blob)
        for _ in stream:
            pass
        return stream.result

    def output(
        self, task_id: str, stream: str = "stdout", *, attempt: int = 0, follow: bool = False
    ) -> Iterator[bytes]:
        """What a task printed, part by part; `follow`: until it has ended, over retries."""
        for _, blob in self.stream(Logs(task_id, stream, follow, attempt)):
            yield blob

    def watch(self) -> Iterator[Any]:
        """What happens to tasks from now on, as it does: items of `commands.Watch`."""
        for item, _ in self.stream(Watch()):
            yield item

    def get(self, task_id: str, folder: str = ".", *, replace: bool = False) -> Any:
        """See `Asking.get`."""
        from leoronic.client import bringing  # noqa: PLC0415 - it uses this module

        return bringing.get(self, task_id, Path(folder), replace=replace)

    def collect(self, folder: str) -> Any:
        """See `Asking.collect`."""
        from leoronic.client import bringing  # noqa: PLC0415

        return bringing.collect(self, Path(folder))

    def next_answer(self, numbers: set[int], deadline: float | None = None) -> Any:
        """The next `Answer` to one of `numbers`, whichever comes first.

        None once `deadline` (of `time.monotonic()`) has passed; without one it waits for ever.
        """
        while True:
            for index, answer in enumerate(self._early):
                if answer.request in numbers:
                    del self._early[index]
                    return answer
            left = None if deadline is None else deadline - time.monotonic()
            # A deadline that has passed still takes what has arrived already.
            if not self._read(None if left is None else max(left, 0.0)):
                return None

    def _read(self, timeout_s: float | None) -> bool:
        self._sock.settimeout(timeout_s)
        try:
            data = self._sock.recv(READ_BYTES)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            raise self._lost() from None
        if not data:
            raise self._lost()
        self._early += [parse_answer(*frame) for frame in self._decoder.feed(data)]
        return True

    def _lost(self) -> NodeUnreachable:
        return NodeUnreachable(
            f"the node in {self.root} went away before it answered: "
            "look with `leoronic list` whether it was done"
        )

    def wait_closed(self) -> None:
        """Wait until the node closes the connection, however long that takes."""
        try:
            while self._read(None):
                pass
        except NodeUnreachable:
            return
