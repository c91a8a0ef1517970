"""Parties of one machine: they find each other, share connections, and notice ends."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leoronic.errors import NodeUnreachable
from leoronic.remote import said, tls
from leoronic.remote.channel import Channel
from leoronic.remote.gone import PartyGone
from leoronic.remote.party import STRANGERS_MAX, Party
from leoronic.remote.threads import LoopThread
from leoronic.wire.calls import CALL, HANDED, socket_path
from leoronic.wire.cookie import fingerprint, write_cookies
from leoronic.wire.handing import hand_socket
from leoronic.wire.preface import Preface

WITHIN_S = 10.0
MakeParty = Callable[[str], Party]


def dial(party: Party, to: str) -> Channel:
    return party.run(party.dial("n", to)).result(WITHIN_S)


def test_a_call_and_its_answer(make_party: MakeParty) -> None:
    """From the thread of the caller through both loops and back."""
    caller, worker = make_party("d-1"), make_party("t.1")
    answered = threading.Event()
    results: list[object] = []

    def answer(channel: Channel, body: Any) -> None:
        channel.say(said.RESULTS, [(number, True, 2 * value) for number, value in body])

    def take(channel: Channel, body: object) -> None:
        results.append(body)
        answered.set()

    worker.handlers[said.CALLS] = answer
    caller.handlers[said.RESULTS] = take
    caller.start()
    worker.start()
    channel = dial(caller, "t.1")
    caller.post(channel.say_item, said.CALLS, (1, 21))
    assert answered.wait(WITHIN_S)
    assert [[(1, True, 42)]] == results


def test_both_directions_share_a_connection(make_party: MakeParty) -> None:
    """Who was called calls back by the same, however often."""
    one, other = make_party("d-1"), make_party("t.1")
    told: list[str] = []
    met = threading.Event()

    def on_channel(channel: Channel) -> None:
        told.append(channel.peer.party)
        met.set()

    other.on_channel = on_channel
    one.info = {"kind": "driver"}
    one.start()
    other.start()
    channel = dial(one, "t.1")
    assert met.wait(WITHIN_S)
    assert channel is dial(one, "t.1")
    back = dial(other, "d-1")
    assert ("d-1", "n", "job") == back.peer[:3]
    assert {"kind": "driver"} == back.peer.info
    assert not back.is_remote
    assert (["d-1"], [back], [channel]) == (told, other.channels(), one.channels())


def test_many_who_dial_at_once_get_one_connection(make_party: MakeParty) -> None:
    """They all wait for the same; that one gives up does not matter to the others."""
    one, other = make_party("d-1"), make_party("t.1")
    one.start()
    other.start()

    async def many() -> int:
        tasks = [asyncio.ensure_future(one.dial("n", "t.1")) for _ in range(20)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        found = await asyncio.gather(*tasks[1:])
        return len(set(found))

    assert 1 == one.run(many()).result(WITHIN_S)


def test_nobody_of_that_name(make_party: MakeParty) -> None:
    """It is told that nobody listens, for a name that never was and for one that has ended."""
    one, other = make_party("d-1"), make_party("t.1")
    one.start()
    other.start()
    for name in ("t.2", "t.1"):
        other.stop()
        with pytest.raises(PartyGone) as raised:
            dial(one, name)
        assert raised.value.nobody_listens


def test_an_end_is_told_with_its_reason(make_party: MakeParty) -> None:
    """To the others, once; what was said before arrives."""
    one, other = make_party("d-1"), make_party("t.1")
    lost: list[tuple[str, str]] = []
    heard: list[object] = []
    ended = threading.Event()

    def on_lost(channel: Channel, reason: str) -> None:
        lost.append((channel.peer.party, reason))
        ended.set()

    one.on_lost = on_lost
    one.handlers[said.ASK] = lambda channel, body: heard.append(body)
    one.start()
    other.start()
    dial(one, "t.1")
    large = bytes(8 << 20)
    back = dial(other, "d-1")
    other.post(back.say, said.ASK, (1, large))
    other.stop("it was idle")
    assert ended.wait(WITHIN_S)
    assert [("t.1", "it was idle")] == lost
    assert [(1, large)] == heard
    assert [] == one.channels()


def test_its_sockets_are_there_while_it_is(make_party: MakeParty, root: Path) -> None:
    """For its user alone; what a killed one has left is no hindrance."""
    folder = root / ".leoronic" / "calls"
    folder.mkdir()
    (folder / "t.1.sock").touch()
    party = make_party("t.1")
    party.start()
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {"t.1.sock": 0o600, "t.1.handed": 0o600} == modes
    party.stop()
    assert [] == list(folder.iterdir())


def test_strangers_from_the_network_are_bounded(
    make_party: MakeParty, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has waited longest without a proof goes first; the newest are not sent away."""
    monkeypatch.setattr(tls, "HANDSHAKE_S_MAX", 6 * WITHIN_S)
    cookie = "a" * 32
    write_cookies(root / ".leoronic" / "cookie", [cookie])
    make_party("t.1").start()
    line = Preface((fingerprint(cookie),), "1", purpose=CALL, party="t.1").encode().rstrip()
    path = str(socket_path(root / ".leoronic", "t.1", HANDED))
    strangers = []
    for _ in range(STRANGERS_MAX + 1):
        ours, theirs = socket.socketpair()
        ours.settimeout(WITHIN_S)
        assert hand_socket(path, theirs, line)
        strangers.append(ours)
        assert b"for=call" in ours.recv(1000)
    assert b"" == strangers[0].recv(1000)
    strangers[-1].setblocking(False)
    with pytest.raises(BlockingIOError):
        strangers[-1].recv(1000)
    for stranger in strangers:
        stranger.close()


def test_a_forked_child_is_no_party(make_party: MakeParty) -> None:
    """It says so when it is used, and keeps no connection open when its parent has died."""
    one, other = make_party("d-1"), make_party("t.1")
    one.start()
    other.start()
    channel = dial(one, "t.1")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            one.post(print)
            told = b"nothing"
        except RuntimeError as error:
            told = str(error).encode()
        try:
            os.fstat(channel.descriptor)
            told += b" still open"
        except OSError:
            told += b" closed"
        os.write(writing, told)
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(reading, 1000)
    os.close(reading)
    os.close(writing)
    assert told.startswith(b"this process was forked")
    assert told.endswith(b" closed")
    # The parent goes on.
    assert channel is dial(one, "t.1")
    assert not channel.closed


def test_a_folder_without_a_node_has_no_parties(tmp_path: Path) -> None:
    """Nothing is left running."""
    before = threading.active_count()
    with pytest.raises(NodeUnreachable):
        Party(str(tmp_path), "d-1").start()
    assert before == threading.active_count()


def test_a_connection_that_has_just_ended_is_no_longer_used(make_party: MakeParty) -> None:
    """Also before its end was told: who dials gets another one."""
    one, other = make_party("d-1"), make_party("t.1")
    one.start()
    other.start()

    async def again() -> bool:
        channel = await one.dial("n", "t.1")
        channel.abort("broken")
        assert one.channel("n", "t.1") is None
        assert [] == one.channels()
        found = await one.dial("n", "t.1")
        return found is not channel and not found.closed

    assert one.run(again()).result(WITHIN_S)


def test_a_party_that_cannot_listen_leaves_no_thread(make_party: MakeParty, root: Path) -> None:
    """Its start says why."""
    before = threading.active_count()
    (root / ".leoronic" / "calls").write_text("no folder")
    with pytest.raises(OSError, match="calls"):
        make_party("t.1").start()
    assert before == threading.active_count()


def test_a_mistake_in_what_was_posted_takes_nothing_with_it(
    make_party: MakeParty, caplog: pytest.LogCaptureFixture
) -> None:
    """What others have posted is done, in order."""
    party = make_party("d-1")
    done: list[int] = []
    finished = threading.Event()
    for number in range(3):
        party.post(done.append, number)
        party.post(lambda: 1 / 0)
    party.post(finished.set)
    party.start()
    assert finished.wait(WITHIN_S)
    assert [0, 1, 2] == done
    assert "ZeroDivisionError" in caplog.text


class LastMoment(deque[Any]):
    """Gets one more item just after the loop has seen that there are none."""

    def __init__(self, late: Any) -> None:
        super().__init__()
        self.late = [late]

    def __len__(self) -> int:
        found = super().__len__()
        if not found and self.late:
            self.append(self.late.pop())
        return found


def test_what_is_posted_at_the_last_moment_is_done(make_party: MakeParty) -> None:
    """Another thread sees that the loop is awake, just before that goes to sleep."""
    thread = LoopThread("test")
    done, late = threading.Event(), threading.Event()
    thread._posted = LastMoment((late.set, ()))
    thread.post(done.set)
    thread.start()
    assert done.wait(WITHIN_S)
    assert late.wait(WITHIN_S)
    thread.stop()


def test_what_many_threads_post_is_all_done_in_their_order(make_party: MakeParty) -> None:
    """One wake-up serves many, and none is missed."""
    party = make_party("d-1")
    party.start()
    done: list[tuple[int, int]] = []

    def post(thread: int) -> None:
        for number in range(2000):
            party.post(done.append, (thread, number))

    threads = [threading.Thread(target=post, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finished = threading.Event()
    party.post(finished.set)
    assert finished.wait(WITHIN_S)
    for thread in range(4):
        assert list(range(2000)) == [number for who, number in done if who == thread]
