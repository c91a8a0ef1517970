from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.effects import Fired, Log, SetTimer
from leoronic.core.inbox import (
    FILE_BYTES_MAX,
    LOOKS_MAX,
    PAUSE_MIN_S,
    REFUSED_AFTER_S,
    SETTLED_S,
    TIMER,
    Answered,
    AnsweredAll,
    Effect,
    Inbox,
    Listed,
    Look,
    Looked,
    LookedAt,
    Move,
    Moved,
    MovedAll,
    Seen,
    Submit,
    Wanted,
    is_candidate,
    shown,
    with_ids,
)
from leoronic.core.spec import TaskSpec

FILE = Seen("file", 10, 1_000, 7)
LATER = Seen("file", 12, 2_000, 7)
SPECS = [TaskSpec("a", id="x")]


def good(name: str, seen: Seen = FILE) -> Looked:
    return Looked(name, seen, writer=False, specs=SPECS)


def bad(name: str, seen: Seen = FILE) -> Looked:
    return Looked(name, seen, writer=False, problems=("not JSON",))


def without_logs(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Log)]


def listed(machine: Inbox, *names: str, now: float = 0.0, seen: Seen = FILE) -> list[Effect]:
    return machine.handle(Listed([(name, seen) for name in names]), now)


def looked(machine: Inbox, *results: Looked, now: float = 0.0) -> list[Effect]:
    return without_logs(machine.handle(LookedAt(list(results), []), now))


def answered(machine: Inbox, answer: Answered, now: float = 0.0) -> list[Effect]:
    return without_logs(machine.handle(AnsweredAll([answer]), now))


def test_a_good_file_is_submitted_then_moved() -> None:
    """Listed, looked at, submitted, moved to accepted, forgotten."""
    machine = Inbox()
    assert listed(machine, "a.json") == [Look([Wanted("a.json", None)])]
    assert looked(machine, good("a.json")) == [Submit("a.json", SPECS, "inbox:a.json")]
    assert answered(machine, Answered("a.json", 1)) == [Move("a.json", FILE, "accepted", "")]
    assert machine.handle(MovedAll([Moved("a.json", "moved")]), 0.0) == []
    assert machine.statistics == {"files": 0, "accepted": 1, "rejected": 0}


def test_a_file_in_hand_is_not_looked_at_again() -> None:
    """Listings while a file is looked at or submitted change nothing."""
    machine = Inbox()
    listed(machine, "a.json")
    assert listed(machine, "a.json") == []
    looked(machine, good("a.json"))
    assert listed(machine, "a.json", seen=LATER) == []


def test_a_file_that_is_being_written_waits_for_the_next_listing() -> None:
    """While somebody writes, nothing is read; the next listing looks again."""
    machine = Inbox()
    listed(machine, "a.json")
    assert looked(machine, Looked("a.json", FILE, writer=True)) == []
    assert listed(machine, "a.json") == [Look([Wanted("a.json", None)])]


def test_without_leases_a_file_has_to_be_unchanged_for_a_while() -> None:
    """Where writers cannot be told, a file is read once it has not changed for SETTLED_S."""
    machine = Inbox()
    listed(machine, "a.json")
    unread = Looked("a.json", FILE, writer=None)
    assert looked(machine, unread, now=0.1) == [SetTimer(TIMER, SETTLED_S)]
    assert machine.handle(Fired(TIMER), SETTLED_S) == [Look([Wanted("a.json", FILE)])]
    changed = Looked("a.json", LATER, writer=None)
    assert looked(machine, changed, now=0.4) == [SetTimer(TIMER, 0.4 + SETTLED_S)]
    assert machine.handle(Fired(TIMER), 0.7) == [Look([Wanted("a.json", LATER)])]
    assert looked(machine, good("a.json", LATER), now=0.7) == [
        Submit("a.json", SPECS, "inbox:a.json")
    ]


def test_what_cannot_be_understood_is_refused_once_it_stays_so() -> None:
    """Half of a file is given time; unchanged for REFUSED_AFTER_S, it is rejected."""
    machine = Inbox()
    listed(machine, "a.json")
    assert looked(machine, bad("a.json")) == [SetTimer(TIMER, REFUSED_AFTER_S)]
    assert listed(machine, "a.json", now=1.0) == []
    assert listed(machine, "a.json", now=1.5, seen=LATER) == [Look([Wanted("a.json", None)])]
    assert looked(machine, bad("a.json", LATER), now=1.5) == []
    [again] = machine.handle(Fired(TIMER), REFUSED_AFTER_S)
    assert again == SetTimer(TIMER, 1.5 + REFUSED_AFTER_S)
    assert machine.handle(Fired(TIMER), 3.5) == [Look([Wanted("a.json", LATER)])]
    assert looked(machine, bad("a.json", LATER), now=3.5) == [
        Move("a.json", LATER, "rejected", "not JSON\n")
    ]


def test_what_is_no_file_is_refused_at_once() -> None:
    """Directories, links out, links to nothing, pipes and devices are moved aside."""
    for kind in ("directory", "outside", "dangling", "other"):
        machine = Inbox()
        seen = Seen(kind, 0, 0, 1)
        listed(machine, "a.json", seen=seen)
        [move] = looked(machine, Looked("a.json", seen))
        assert isinstance(move, Move)
        assert (move.folder, move.report.startswith("it is ")) == ("rejected", True)


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    """Size alone refuses a file, once nobody writes it."""
    machine = Inbox()
    seen = Seen("file", FILE_BYTES_MAX + 1, 0, 1)
    listed(machine, "a.json", seen=seen)
    assert looked(machine, Looked("a.json", seen, writer=True)) == []
    listed(machine, "a.json", seen=seen)
    [move] = looked(machine, Looked("a.json", seen, writer=False))
    assert isinstance(move, Move)
    assert move.report == "it is larger than 16 MiB: use several files, or an array\n"


def test_a_file_without_permission_is_refused_once_it_stays_so() -> None:
    """Permission may come a moment later than the file."""
    machine = Inbox()
    listed(machine, "a.json")
    unreadable = Looked("a.json", FILE, writer=False, unreadable="permission denied")
    assert looked(machine, unreadable) == [SetTimer(TIMER, REFUSED_AFTER_S)]
    machine.handle(Fired(TIMER), REFUSED_AFTER_S)
    assert looked(machine, unreadable, now=REFUSED_AFTER_S) == [
        Move("a.json", FILE, "rejected", "permission denied\n")
    ]


def test_what_the_queue_refuses_is_rejected_with_its_reasons() -> None:
    """A conflict or a mistake that only the queue can find rejects the file."""
    machine = Inbox()
    listed(machine, "a.json")
    looked(machine, good("a.json"))
    answer = Answered("a.json", refused=("tasks[0].after: no task b", "another"))
    assert answered(machine, answer) == [
        Move("a.json", FILE, "rejected", "tasks[0].after: no task b\nanother\n")
    ]


def test_files_stay_while_the_queue_cannot_take_them() -> None:
    """Without a queue or room on the disk, files wait, longer each time, and it is told once."""
    machine = Inbox()
    listed(machine, "a.json", "b.json")
    looked(machine, good("a.json"), good("b.json"))
    effects = machine.handle(AnsweredAll([Answered("a.json", unavailable="disk full")]), 1.0)
    assert effects == [
        Log("inbox_waits", "warning", {"reason": "disk full"}),
        SetTimer(TIMER, 1.0 + PAUSE_MIN_S),
    ]
    assert machine.handle(AnsweredAll([Answered("b.json", unavailable="disk full")]), 1.0) == []
    assert listed(machine, "a.json", "b.json", now=1.2) == []
    [look] = machine.handle(Fired(TIMER), 1.5)
    assert isinstance(look, Look)
    assert [wanted.name for wanted in look.files] == ["a.json", "b.json"]
    looked(machine, good("a.json"), good("b.json"), now=1.5)
    assert machine.handle(AnsweredAll([Answered("a.json", unavailable="still")]), 1.5) == [
        SetTimer(TIMER, 1.5 + 2 * PAUSE_MIN_S)
    ]
    resumed = machine.handle(AnsweredAll([Answered("b.json", 1)]), 1.6)
    assert resumed[0] == Log("inbox_resumed", "info", {})


def test_a_file_that_changed_before_its_move_is_looked_at_again() -> None:
    """A new version under the old name is not moved away unread."""
    machine = Inbox()
    listed(machine, "a.json")
    looked(machine, good("a.json"))
    answered(machine, Answered("a.json", 1))
    assert machine.handle(MovedAll([Moved("a.json", "changed")]), 5.0) == [
        Look([Wanted("a.json", None)])
    ]


def test_a_file_that_cannot_be_moved_is_told_once_and_left() -> None:
    """What cannot be moved is not submitted again until it changes."""
    machine = Inbox()
    listed(machine, "a.json")
    looked(machine, good("a.json"))
    answered(machine, Answered("a.json", 1))
    [told] = machine.handle(MovedAll([Moved("a.json", "failed", "read-only")]), 0.0)
    assert isinstance(told, Log)
    assert (told.level, told.fields["reason"]) == ("error", "read-only")
    assert listed(machine, "a.json") == []
    assert listed(machine, "a.json", seen=LATER) == [Look([Wanted("a.json", None)])]


def test_files_that_vanish_are_forgotten() -> None:
    """A file may go at any time."""
    machine = Inbox()
    listed(machine, "a.json", "b.json")
    assert looked(machine, Looked("a.json", None), bad("b.json")) == [
        SetTimer(TIMER, REFUSED_AFTER_S)
    ]
    assert listed(machine) == []
    assert machine.statistics["files"] == 0
    assert machine.handle(Fired(TIMER), REFUSED_AFTER_S) == []


def test_many_files_are_taken_some_at_a_time() -> None:
    """At most LOOKS_MAX are looked at in one go; the rest follows, whatever the answers say."""
    machine = Inbox()
    names = [f"{i}.json" for i in range(2 * LOOKS_MAX + 1)]
    seen_names: list[str] = []
    effects = listed(machine, *names)
    while effects:
        [look] = effects
        assert isinstance(look, Look)
        assert len(look.files) <= LOOKS_MAX
        seen_names += [wanted.name for wanted in look.files]
        effects = looked(machine, *[Looked(wanted.name, None) for wanted in look.files])
    assert seen_names == names
    assert not machine.has_backlog


def test_a_bound_on_what_is_in_hand() -> None:
    """While LOOKS_MAX files wait for the queue, no more are read."""
    machine = Inbox()
    names = [f"{i}.json" for i in range(LOOKS_MAX + 1)]
    [look] = listed(machine, *names)
    assert isinstance(look, Look)
    effects = looked(machine, *[good(wanted.name) for wanted in look.files])
    assert len([effect for effect in effects if isinstance(effect, Submit)]) == LOOKS_MAX
    assert not [effect for effect in effects if isinstance(effect, Look)]
    answered(machine, Answered("0.json", 1))
    assert machine.handle(MovedAll([Moved("0.json", "moved")]), 0.0) == [
        Look([Wanted(names[-1], None)])
    ]


def test_what_was_too_much_for_one_go_is_looked_at_next() -> None:
    """Skipped names are looked at in the next go."""
    machine = Inbox()
    listed(machine, "a.json", "b.json")
    effects = machine.handle(LookedAt([good("a.json")], ["b.json"]), 0.0)
    assert effects[-1] == Look([Wanted("b.json", None)])


def test_which_names_are_for_the_node() -> None:
    """Only *.json, and nothing hidden or half-named."""
    names = ["a.json", ".a.json", "a.json.tmp", "a.json.part", "a.txt", ".json", "a.JSON"]
    assert [name for name in names if is_candidate(name)] == ["a.json"]


def test_ids_come_from_the_file() -> None:
    """The same file gives the same ids; another name, time, size or content gives others."""
    specs = [TaskSpec("a"), TaskSpec("a"), TaskSpec("b", id="own")]

    def ids(name: str = "a.json", seen: Seen = FILE, content: bytes = b"x") -> list[str]:
        return [spec.id for spec in with_ids(specs, name, seen, content)]

    assert ids() == ids(seen=FILE._replace(inode=99))
    assert ids()[2] == "own"
    everything = [*ids(), *ids("b.json"), *ids(seen=LATER), *ids(content=b"y")]
    assert len({one for one in everything if one != "own"}) == 8


def test_names_that_are_not_utf8_can_be_shown() -> None:
    """A file's name may be any bytes."""
    assert shown("a\udcff.json") == "a\ufffd.json"
    assert with_ids([TaskSpec("a")], "a\udcff.json", FILE, b"")[0].id


def test_what_was_accepted_together_is_one_line_of_the_log() -> None:
    """A burst of files does not flood the log."""
    machine = Inbox()
    names = [f"{i}.json" for i in range(5)]
    listed(machine, *names)
    looked(machine, *[good(name) for name in names])
    effects = machine.handle(AnsweredAll([Answered(name, 2) for name in names]), 0.0)
    [line] = [effect for effect in effects if isinstance(effect, Log)]
    assert line.fields == {"count": 5, "tasks": 10, "files": ["0.json", "1.json", "2.json"]}


steps = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.floats(0, 3)), max_size=60)


@given(steps)
def test_every_file_is_settled_whatever_happens(script: list[tuple[int, int, float]]) -> None:
    """Whatever is answered in whatever order, no file is submitted twice at a time, nor lost."""
    machine, now = Inbox(), 0.0
    names = ["a.json", "b.json", "c.json"]
    files = dict.fromkeys(names, FILE)
    asked: list[Effect] = []

    def perform(effect: Effect, choice: int) -> list[Effect]:
        match effect:
            case Look(wanted):
                results = [
                    [good, bad, lambda n, s: Looked(n, s, True), Looked][choice](
                        one.name, files[one.name]
                    )
                    if one.name in files
                    else Looked(one.name, None)
                    for one in wanted
                ]
                return machine.handle(LookedAt(results, []), now)
            case Submit(name):
                kinds = [{"tasks": 1}, {"refused": ("no",)}, {"unavailable": "x"}, {"tasks": 2}]
                return machine.handle(AnsweredAll([Answered(name, **kinds[choice])]), now)
            case Move(name):
                how = ["moved", "changed", "failed", "moved"][choice]
                if name not in files:
                    how = "gone"
                elif how == "moved":
                    del files[name]
                return machine.handle(MovedAll([Moved(name, how)]), now)
            case SetTimer(_, at):
                return machine.handle(Fired(TIMER), max(now, at))
        return []

    for action, choice, delay in script:
        now += delay
        if action == 0:
            asked += machine.handle(Listed(list(files.items())), now)
        elif action == 1:
            files[names[choice % 3]] = LATER if choice % 2 else FILE
        elif action == 2:
            files.pop(names[choice % 3], None)
        elif asked:
            asked += perform(asked.pop(0), choice)
        in_hand = [one.name for one in asked if isinstance(one, Submit | Move)]
        assert len(in_hand) == len(set(in_hand))
    for name in names:
        files[name] = Seen("file", 99, 99, 99)
    for _ in range(50):
        now += 10.0
        asked += machine.handle(Listed(list(files.items())), now)
        while asked:
            asked += perform(asked.pop(0), 0)
    assert files == {}
    assert machine.statistics["files"] == 0
