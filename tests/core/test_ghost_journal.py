"""What a ghost writes gets to a node, whichever it is, and nothing is forgotten too early."""

from __future__ import annotations

import pytest

from leoronic.core.entries import Entry, Finished, Lost, Started, Tagged
from leoronic.core.executor_messages import LoadOpen, Open, OpenAttempt
from leoronic.core.ghost_journal import NEVER_STARTED, NOT_HERE, START_S_MAX, GhostJournal
from leoronic.core.ghost_messages import (
    ANSWER_S,
    GhostAppend,
    GhostAppended,
    GhostAppendFailed,
    GhostFetchSpecs,
    GhostLoadOpen,
    GhostOpen,
    GhostSpecs,
)
from leoronic.core.ghost_notices import (
    Attached,
    TicketsCame,
    ToClairvoyant,
    Unanswered,
    Working,
)
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    FetchSpecs,
    SpecsFetched,
    StopAttempt,
)
from leoronic.core.resources import Need
from leoronic.core.spec import TaskSpec
from tests.core.ghosting import GHOST, Driven

SPEC = TaskSpec("echo")
NEED = Need(1000, 0, 0)
KEY = ("t", 1)


def started(task: str = "t") -> Started:
    """It is about to begin there."""
    return Started(task, 1, GHOST, 100.0, "r1")


def finished(task: str = "t") -> Finished:
    """It ended."""
    return Finished(task, 1, GHOST, Outcome(1.0, 2.0, exit_code=0), final=True)


def said(journal: Driven) -> list[object]:
    """What it said to the clairvoyant, and of itself to the link."""
    return [
        one.message if isinstance(one, ToClairvoyant) else one for one in journal.sent("membership")
    ]


def appends(journal: Driven) -> list[GhostAppend]:
    """What it wants written."""
    return [one for one in said(journal) if isinstance(one, GhostAppend)]


def open_attempt(task: str = "t", stop_reason: str = "") -> OpenAttempt:
    """It has no end in the journal."""
    return OpenAttempt(task, 1, NEED, 0, False, "r1", stop_reason)


@pytest.fixture
def journal() -> Driven:
    """Attached, and the executor has been told that nothing runs."""
    journal = Driven(GhostJournal(GHOST))
    journal.tell(LoadOpen("runner", 7), Attached("a", 0.0))
    journal.tell(GhostOpen(Open([], ["blue"], 7)))
    assert [Open([], ["blue"], 7)] == journal.sent("runner")
    journal.forget()
    return journal


def start(journal: Driven, *tasks: str) -> None:
    """These run."""
    entries: list[Entry] = [started(task) for task in tasks]
    journal.tell(Append("runner", 1, entries, True))
    number = appends(journal)[-1].number
    journal.tell(GhostAppended(number, specs=dict.fromkeys(tasks, SPEC)))
    journal.forget()


def test_what_is_to_be_written_is_forwarded_and_answered(journal: Driven) -> None:
    """The executor gets what the journal said, without numbers that mean nothing to it."""
    journal.tell(Append("runner", 5, [started()], True))
    [append] = appends(journal)
    assert ([started()], True) == (append.entries, append.want_specs)
    journal.tell(GhostAppended(append.number, specs={"t": SPEC}, entry=77))
    assert [Appended(5, specs={"t": SPEC})] == journal.sent("runner")


def test_what_is_not_answered_goes_to_the_next(journal: Driven) -> None:
    """After all that runs; in the order in which it came."""
    start(journal, "t")
    journal.tell(Append("runner", 2, [finished()]), Append("runner", 3, [started("u")], True))
    journal.forget()
    journal.tell(Attached("b", 1.0))
    handed, ended, new = appends(journal)
    [one] = handed.entries
    assert isinstance(one, Started)
    assert ("t", True, "r1") == (one.task, one.handed, one.runner)
    assert [finished()] == ended.entries
    assert [started("u")] == new.entries


def test_an_end_is_kept_until_it_is_answered(journal: Driven) -> None:
    """Each clairvoyant gets it, and the executor hears of it once."""
    start(journal, "t")
    journal.tell(Append("runner", 2, [finished()]))
    for node in "bcd":
        journal.forget()
        journal.tell(Attached(node, 1.0))
    number = appends(journal)[-1].number
    journal.tell(GhostAppended(number), GhostAppended(number))
    assert [Appended(2)] == journal.sent("runner")
    journal.forget()
    journal.tell(Attached("e", 1.0))
    assert [] == appends(journal)


def test_what_was_to_start_too_long_ago_does_not(journal: Driven) -> None:
    """Others may have started it; should it have been written down, it is taken back."""
    journal.tell(Append("runner", 5, [started()], True))
    old = appends(journal)[0].number
    journal.tell(Attached("b", START_S_MAX + 1.0))
    key = frozenset([KEY])
    assert [Appended(5, key, unknown=key)] == journal.sent("runner")
    [append] = appends(journal)
    assert [Lost(*KEY, GHOST, 100.0, NEVER_STARTED, begun=False)] == append.entries
    journal.tell(GhostAppended(old, specs={"t": SPEC}))
    assert [] == journal.sent("runner")


def test_what_was_to_start_a_moment_ago_does(journal: Driven) -> None:
    """Nobody gives up a ghost so soon."""
    journal.tell(Append("runner", 5, [started()], True))
    journal.forget()
    journal.tell(Attached("b", START_S_MAX - 1.0))
    assert [[started()]] == [append.entries for append in appends(journal)]


def test_a_full_disk_is_told(journal: Driven) -> None:
    """The executor tries again by itself."""
    journal.tell(Append("runner", 5, [Tagged(GHOST, "x", 1.0)]))
    journal.tell(GhostAppendFailed(appends(journal)[0].number, "no room"))
    [failed] = journal.sent("runner")
    assert isinstance(failed, AppendFailed)
    assert (5, "no room") == (failed.token, failed.error.message)


def test_the_end_of_a_task_that_is_not_known_yet_is_told_again(journal: Driven) -> None:
    """Its former clairvoyant alone knew it; after two minutes nobody waits for that."""
    start(journal, "t")
    journal.tell(Append("runner", 2, [finished()]))
    key = frozenset([KEY])
    journal.tell(GhostAppended(appends(journal)[0].number, key, key))
    assert [] == journal.sent("runner")
    journal.fire("retry")
    [append] = appends(journal)
    assert [finished()] == append.entries
    journal.now += 200.0
    journal.tell(GhostAppended(append.number, key, key))
    assert [Appended(2, key, unknown=key)] == journal.sent("runner")


def test_a_new_executor_hears_what_has_no_end(journal: Driven) -> None:
    """But not of what ended, though the journal there has not heard of it."""
    start(journal, "t", "u")
    journal.tell(Append("runner", 2, [finished()]))
    journal.tell(GhostAppended(appends(journal)[0].number))
    journal.forget()
    journal.tell(LoadOpen("runner", 9))
    assert [GhostLoadOpen(9)] == [one for one in said(journal) if isinstance(one, GhostLoadOpen)]
    journal.tell(GhostOpen(Open([open_attempt(), open_attempt("u")], [], 9)))
    assert [Open([open_attempt("u")], [], 9)] == journal.sent("runner")


def test_a_new_executor_starts_nothing_of_the_old_one(journal: Driven) -> None:
    """It does not know of it: what may be written down by then is taken back."""
    journal.tell(Append("runner", 5, [started()], True))
    journal.forget()
    journal.tell(LoadOpen("runner", 9))
    lost, load = said(journal)
    assert isinstance(lost, GhostAppend)
    assert [Lost(*KEY, GHOST, 100.0, NEVER_STARTED, begun=False)] == lost.entries
    assert GhostLoadOpen(9) == load


def compare(journal: Driven, *attempts: OpenAttempt) -> None:
    """The journal there says that these have no end."""
    journal.fire("compare")
    [asked] = [one for one in said(journal) if isinstance(one, GhostLoadOpen)]
    journal.tell(GhostOpen(Open(list(attempts), [], asked.life)))


def test_what_it_does_not_have_is_lost(journal: Driven) -> None:
    """What runs, or ended lately, is not: the end is told again."""
    start(journal, "t", "u")
    journal.tell(Append("runner", 2, [finished()]))
    journal.tell(GhostAppended(appends(journal)[0].number))
    journal.forget()
    journal.tell(Attached("b", 1.0))
    journal.forget()
    compare(journal, open_attempt("t"), open_attempt("u"), open_attempt("v"))
    [append] = appends(journal)
    assert [finished(), Lost("v", 1, GHOST, 100.0, NOT_HERE)] == append.entries


def test_what_must_not_go_on_is_stopped(journal: Driven) -> None:
    """It was cancelled while the ghost had no node."""
    start(journal, "t")
    compare(journal, open_attempt("t", "cancelled"))
    assert [StopAttempt("t", 1, "cancelled")] == journal.sent("runner")


def test_it_says_when_nothing_is_written_for_long(journal: Driven) -> None:
    """Each time it waits longer, until there is an answer."""
    journal.tell(Append("runner", 5, [started()], True))
    number = appends(journal)[0].number
    waits: list[float] = []
    for _ in range(2):
        since = journal.now
        journal.fire("answer")
        waits.append(journal.now - since)
        assert any(isinstance(one, Unanswered) for one in said(journal))
    assert [ANSWER_S, 2 * ANSWER_S] == pytest.approx(waits)
    journal.tell(GhostAppended(number, specs={"t": SPEC}), Append("runner", 6, [finished()]))
    assert journal.now + ANSWER_S == pytest.approx(journal.timers["answer"])


def test_it_says_whether_anything_goes_on(journal: Driven) -> None:
    """From the first that is to be written to the last that ended."""
    journal.tell(Append("runner", 5, [started()], True))
    sent = said(journal)
    assert Working(True) in sent
    [append] = [one for one in sent if isinstance(one, GhostAppend)]
    journal.tell(GhostAppended(append.number, specs={"t": SPEC}))
    assert [] == said(journal)
    journal.tell(Append("runner", 6, [finished()]))
    [append] = appends(journal)
    journal.tell(GhostAppended(append.number))
    assert [Working(False)] == said(journal)


def test_a_large_batch_of_ends_goes_in_parts_and_is_one_answer(journal: Driven) -> None:
    """No frame is larger than a relay takes; the executor hears once all of it is written."""
    tasks = [f"t{n}" for n in range(600)]
    journal.tell(Append("runner", 2, [finished(task) for task in tasks]))
    asked = appends(journal)
    assert tasks == [entry.task for one in asked for entry in one.entries]  # type: ignore[union-attr]
    assert len(asked) > 1
    for append in asked:
        assert [] == journal.sent("runner")
        journal.tell(GhostAppended(append.number))
    assert [Appended(2)] == journal.sent("runner")


def test_entries_of_many_bytes_go_one_by_one(journal: Driven) -> None:
    """What a task left may be a long list."""
    problems = tuple("x" * 1000 for _ in range(700))
    outcome = Outcome(1.0, 2.0, exit_code=0, output_problems=problems)
    ends: list[Entry] = [Finished(t, 1, GHOST, outcome, final=True) for t in "abc"]
    journal.tell(Append("runner", 2, ends))
    assert [1, 1, 1] == [len(one.entries) for one in appends(journal)]


def test_specs_that_did_not_fit_are_asked_for(journal: Driven) -> None:
    """What is forgotten meanwhile does not start; what began anew is asked for anew."""
    journal.tell(Append("runner", 5, [started(task) for task in "tuvw"], True))
    number = appends(journal)[0].number
    journal.tell(GhostAppended(number, specs={"t": SPEC}, left=["u", "v", "w"]))
    assert [GhostFetchSpecs(["u", "v", "w"])] == said(journal)
    journal.tell(GhostSpecs({"u": SPEC}, ["v", "w"]))
    assert [GhostFetchSpecs(["v", "w"])] == said(journal)
    journal.tell(Attached("b", 1.0))
    assert GhostFetchSpecs(["v", "w"]) in said(journal)
    assert [] == journal.sent("runner")
    journal.tell(GhostSpecs({"w": SPEC}))
    key = frozenset([("v", 1)])
    expected = Appended(5, key, dict.fromkeys("tuw", SPEC), unknown=key)
    assert [expected] == journal.sent("runner")
    journal.tell(Attached("c", 1.0))
    assert ["t", "u", "w"] == [one.task for one in appends(journal)[0].entries]  # type: ignore[union-attr]


def test_what_waits_for_its_spec_too_long_does_not_start(journal: Driven) -> None:
    """It is on disk, but the executor has not heard of it."""
    journal.tell(Append("runner", 5, [started()], True))
    journal.tell(GhostAppended(appends(journal)[0].number, left=["t"]))
    journal.tell(Attached("b", START_S_MAX + 1.0))
    key = frozenset([KEY])
    assert [Appended(5, key, unknown=key)] == journal.sent("runner")
    [append] = appends(journal)
    assert [Lost(*KEY, GHOST, 100.0, NEVER_STARTED, begun=False)] == append.entries
    journal.tell(GhostSpecs({"t": SPEC}))
    assert [] == journal.sent("runner")


def test_what_a_node_does_not_know_yet_is_no_reason_to_leave_it(journal: Driven) -> None:
    """It answered; the ghost would go back and forth between two nodes that lack the same."""
    start(journal, "t", "u")
    journal.tell(Append("runner", 2, [finished("u")]))
    journal.tell(Attached("b", 1.0))
    until = journal.now + 60.0
    while journal.now < until:
        for one in said(journal):
            assert not isinstance(one, Unanswered)
            if isinstance(one, GhostAppend):
                keys = frozenset((e.task, e.attempt) for e in one.entries)  # type: ignore[union-attr]
                journal.tell(GhostAppended(one.number, keys, keys))
            elif isinstance(one, GhostLoadOpen):
                journal.tell(GhostOpen(Open([], [], one.life)))
        journal.fire(min(journal.timers, key=lambda name: journal.timers[name]))


def test_those_that_come_later_do_not_hold_up_what_is_to_be_told_again(journal: Driven) -> None:
    """Each end that is not known yet would put off the one before."""
    start(journal, *"abcdef")
    journal.tell(Append("runner", 9, [finished("a")]))
    first = appends(journal)[0].number
    journal.tell(GhostAppended(first, frozenset(), frozenset([("a", 1)])))
    due = journal.timers["retry"]
    journal.now += ANSWER_S - 1.0
    journal.tell(Append("runner", 10, [finished("b")]))
    journal.tell(GhostAppended(appends(journal)[0].number, frozenset(), frozenset([("b", 1)])))
    assert due == journal.timers["retry"]


def test_an_attempt_is_told_with_its_ticket(journal: Driven) -> None:
    """To each node, until it has ended."""
    journal.tell(TicketsCame({KEY: "ab", ("u", 1): "cd"}))
    journal.tell(Append("runner", 5, [started(), started("x")], True))
    [append] = appends(journal)
    assert ["ab", ""] == append.tickets
    specs = dict.fromkeys("tx", SPEC)
    journal.tell(GhostAppended(append.number, specs=specs), Append("runner", 6, [finished()]))
    journal.forget()
    journal.tell(Attached("b", 1.0))
    handed, ended = appends(journal)
    assert (["ab", ""], ["ab"]) == (handed.tickets, ended.tickets)
    journal.tell(GhostAppended(ended.number), Append("runner", 7, [finished()]))
    assert [[]] == [one.tickets for one in appends(journal)]


def test_specs_are_asked_for_again(journal: Driven) -> None:
    """By the next clairvoyant; the answer goes to who asked."""
    journal.tell(FetchSpecs("runner", ["t"]))
    journal.forget()
    journal.tell(Attached("b", 1.0))
    assert GhostFetchSpecs(["t"]) in said(journal)
    journal.tell(GhostSpecs({"t": SPEC}))
    assert [SpecsFetched({"t": SPEC})] == journal.sent("runner")
