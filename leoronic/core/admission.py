"""Submissions on their way in: ids given, references resolved, mistakes named.

A submission is accepted whole or refused whole. One that refers to other tasks (`after`) or brings
its own ids is parked until the journal has told what it knows of them.
"""

from __future__ import annotations

import hashlib

import msgspec

from leoronic.core.arrays import split_element
from leoronic.core.blob import FileRef
from leoronic.core.entries import Entry, Finished, Submitted
from leoronic.core.graph import both, find_cycle, satisfied
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.queue_messages import Known, LookedUp, SubmitSpecs
from leoronic.core.spec import After, TaskSpec, element_count
from leoronic.errors import BadRequest, Conflict

NAMES_SHOWN_MAX = 5
_ID_LETTERS = 10  # after the first two
_TOGETHER = 6  # ids made of one digest
_NEIGHBOURS = 85 * _TOGETHER  # ids that begin alike: whole groups, so that no group is torn
# Letters that are easily told apart (no i, l, o, u): ids are read aloud. 5 bits of each byte.
_LETTERS = bytes(b"0123456789abcdefghjkmnpqrstvwxyz"[byte & 31] for byte in range(256))


def make_ids(seed: str, first: int, count: int) -> list[str]:
    """Ids number `first` and on of those that `seed` names: 12 letters, unlike their neighbours'.

    Unlike, so that a few letters are enough to name a task. Only the first two are shared by 510
    in a row, because the index of ids grows four times as fast when neighbours are stored together.
    """
    ids: list[str] = []
    number = first
    while len(ids) < count:
        group, place = divmod(number, _TOGETHER)
        text = _letters(f"{seed}/{group}")
        start = _letters(f"{seed}/neighbours/{number // _NEIGHBOURS}")[:2]
        for index in range(place, min(_TOGETHER, place + count - len(ids))):
            ids.append(start + text[index * _ID_LETTERS : (index + 1) * _ID_LETTERS])
            number += 1
    return ids


def _letters(seed: str) -> str:
    """60 letters, a pure function of `seed`."""
    digest = hashlib.blake2b(seed.encode(), digest_size=_TOGETHER * _ID_LETTERS).digest()
    return digest.translate(_LETTERS).decode()


class Plan:
    """One submission: who asked, its specs, their ids, and which of them are new."""

    def __init__(self, request: object, asked: SubmitSpecs) -> None:
        self.request = request
        self.asked = asked
        self.ids: list[str] = []
        self.entries: list[Entry] = []

    def own_ids(self) -> list[str]:
        """The ids that the client chose."""
        return [spec.id for spec in self.asked.specs if spec.id]

    def claims(self) -> list[str]:
        """Ids that no other submission may use meanwhile: own ones, and those of tasks redone."""
        return self.own_ids() + [spec.redo_of for spec in self.asked.specs if spec.redo_of]

    def references(self) -> list[str]:
        """What must be looked up: own ids, and tasks of `after` that aren't in this batch."""
        inside: set[str] = set()
        for spec in self.asked.specs:
            inside.add(spec.id)
            inside.add(spec.name)
        wanted = dict.fromkeys(self.claims())
        for spec in self.asked.specs:
            for ref in (*(after.id for after in spec.after), *(file.task for file in spec.files)):
                for one in (ref, _array_of(ref)):
                    if one and one not in inside:
                        wanted[one] = None
        return list(wanted)

    def outputs_wanted(self) -> list[str]:
        """Tasks and elements whose outputs are brought."""
        specs = self.asked.specs
        return list({file.task: None for spec in specs for file in spec.files if file.task})

    def cache_keys(self) -> list[str]:
        """What earlier tasks may answer for."""
        return list({spec.cache_key: None for spec in self.asked.specs if spec.cache_key})

    def resolve(
        self, answer: LookedUp, ids_seed: str, first: int, now: float, node: str = ""
    ) -> int:
        """Give ids from number `first` on and make the entries. Returns how many ids were given.

        `node` is this node: it answers for tasks that were done before.

        Raises `BadRequest` (with the place of each mistake) or `Conflict`.
        """
        specs = self.asked.specs
        _check_redos(specs, answer)
        given = sum(not spec.id for spec in specs)
        fresh = iter(make_ids(ids_seed, first, given))
        self.ids = [spec.id or next(fresh) for spec in specs]
        if any(spec.after for spec in specs):
            specs = self._link(specs, answer)
        self.entries = []
        for task, spec in zip(self.ids, specs, strict=True):
            if spec.id and self._is_known(spec, answer):
                continue
            before = answer.cached.get(spec.cache_key) if spec.cache_key else None
            if not before:
                self.entries.append(Submitted(task, spec, now, self.asked.source))
                continue
            cached = before[0]
            told = msgspec.structs.replace(spec, cached_from=cached.task)
            self.entries.append(Submitted(task, told, now, self.asked.source))
            self.entries.append(Finished(task, 1, node, _again(cached.outcome, now), final=True))
        return given

    def _link(self, specs: list[TaskSpec], answer: LookedUp) -> list[TaskSpec]:
        """Replace names and shortened ids in `after` by full ids."""
        inside: dict[str, list[str]] = {}
        for task, spec in zip(self.ids, specs, strict=True):
            inside.setdefault(task, []).append(task)
            if spec.name:
                inside.setdefault(spec.name, []).append(task)
        counts = {task: element_count(spec) for task, spec in zip(self.ids, specs, strict=True)}
        sources = _Sources(inside, counts, answer)
        problems: list[str] = []
        linked: list[TaskSpec] = []
        edges: dict[str, list[str]] = {}
        for index, (task, spec) in enumerate(zip(self.ids, specs, strict=True)):
            if not spec.after:
                linked.append(spec)
                continue
            place = f"tasks[{index}].after" if len(specs) > 1 else "after"
            after = _link_after(spec, place, inside, answer, problems)
            edges[task] = list(after)
            files = sources.link(spec.files, after, place.replace("after", "files"), problems)
            linked.append(msgspec.structs.replace(spec, after=tuple(after.values()), files=files))
        cycle = find_cycle(edges)
        if cycle is not None:
            problems.append("after: tasks wait for each other in a circle: " + " > ".join(cycle))
        if problems:
            raise BadRequest(problems[0] if len(problems) == 1 else "no task was added", problems)
        return linked

    def _is_known(self, spec: TaskSpec, answer: LookedUp) -> bool:
        """Whether the same submission is on disk already. Raises `Conflict` if another is."""
        known = answer.specs.get(spec.id)
        if known is None:
            return False
        if known.command != spec.command or known.count != spec.count or known.items != spec.items:
            raise Conflict(
                f"the id {spec.id} belongs to another task; give this one an id of its own"
            )
        return True


def _again(outcome: Outcome, now: float) -> Outcome:
    """How a task ended that was done before: as it did then, in no time.

    Output that is in a file stays where it is: `cached_from` leads to it.
    """
    return Outcome(
        now,
        now,
        exit_code=outcome.exit_code,
        stdout=StreamRef(len(outcome.stdout.inline), outcome.stdout.inline),
        stderr=StreamRef(len(outcome.stderr.inline), outcome.stderr.inline),
        outputs=outcome.outputs,
        output_problems=outcome.output_problems,
    )


def _link_after(
    spec: TaskSpec,
    place: str,
    inside: dict[str, list[str]],
    answer: LookedUp,
    problems: list[str],
) -> dict[str, After]:
    """What a task waits for, by full id; adds `problems`."""
    after: dict[str, After] = {}
    brought = {file.task for file in spec.files if file.task}
    for one in spec.after:
        targets = _targets(one.id, inside, answer)
        array = _array_of(one.id)
        if not targets and array:
            # An element cannot be waited for, but for its output its whole array can.
            targets = _targets(array, inside, answer)
            if targets and one.id not in brought:
                problems.append(f"{place}: {one.id!r} is an element: wait for the array {array!r}")
        if not targets:
            problems.append(f"{place}: no task has the id or name {one.id!r}")
        elif len(targets) > 1 and one.id not in inside and array not in inside:
            problems.append(f"{place}: {one.id!r} fits {len(targets)} tasks; say more")
        for target in targets:
            if target in after and one.id in brought and one.when == "succeeded":
                continue  # it follows from the file alone, and something else was said
            when = both(after[target].when, one.when) if target in after else one.when
            if not when:
                problems.append(f"{place}: {one.id!r} cannot both succeed and fail")
            after[target] = After(target, when)
    return after


class _Sources:
    """Whose outputs the files of new tasks are.

    `inside` are the new tasks by id and name, `counts` how many elements each of them has.
    """

    def __init__(
        self, inside: dict[str, list[str]], counts: dict[str, int | None], answer: LookedUp
    ) -> None:
        self._inside = inside
        self._counts = counts
        self._answer = answer

    def link(
        self,
        files: tuple[FileRef, ...],
        after: dict[str, After],
        place: str,
        problems: list[str],
    ) -> tuple[FileRef, ...]:
        """The same files, with full ids of the tasks whose outputs they are; adds `problems`."""
        linked = []
        for file in files:
            task, problem = self._source(file, after) if file.task else ("", "")
            if problem:
                problems.append(f"{place}: {file.path}: {problem}")
            linked.append(msgspec.structs.replace(file, task=task) if task else file)
        return tuple(linked)

    def _source(self, file: FileRef, after: dict[str, After]) -> tuple[str, str]:
        """The full id of the task or element that leaves `file`, and what is wrong with it."""
        ref, element = file.task, None
        found = _targets(ref, self._inside, self._answer)
        if not found and (split := split_element(ref)):
            ref, element = split
            found = _targets(ref, self._inside, self._answer)
        if not found:
            return "", ""  # told of `after`
        if len(found) > 1:
            return "", f"{ref!r} fits {len(found)} tasks; give the id of one"
        [task] = found
        known = next((one for one in _found(ref, self._answer) if one.id == task), None)
        count = self._counts.get(task, None if known is None else known.elements)
        if element is None and count is not None:
            return "", (f"{ref} is an array: name an element of it, as task:{ref}.0/{file.output}")
        if element is not None and (count is None or element >= count):
            has = "is no array" if count is None else f"has the elements 0 to {count - 1}"
            return "", f"there is no element {element}: {ref} {has}"
        whole = task if element is None else f"{task}.{element}"
        return whole, self._why_absent(file, known, whole, after.get(task))

    def _why_absent(
        self, file: FileRef, known: Known | None, whole: str, after: After | None
    ) -> str:
        """Why it can never come, if that is known: its task has ended, and left other files."""
        left = self._answer.left.get(whole)
        if known is None or left is None or file.output in left or known.redone_as:
            return ""
        if after is None or not satisfied(known.state or "", after.when):
            return ""  # it is blocked, which a redo may mend
        names = ", ".join(left[:NAMES_SHOWN_MAX]) + (", ..." if len(left) > NAMES_SHOWN_MAX else "")
        return f"{whole} has ended and left no {file.output}, but {names or 'nothing'}"


def _targets(ref: str, inside: dict[str, list[str]], answer: LookedUp) -> list[str]:
    """Full ids of the tasks that `ref` names."""
    return inside.get(ref) or [known.id for known in _found(ref, answer)]


def _array_of(ref: str) -> str:
    """If `ref` may be an element: what names its array, else ''."""
    split = split_element(ref)
    return "" if split is None else split[0]


def _check_redos(specs: list[TaskSpec], answer: LookedUp) -> None:
    """A task is redone once, then its redo is: so what it blocked waits for one task, not two."""
    seen: set[str] = set()
    for spec in specs:
        redone_as = [k.redone_as for k in _found(spec.redo_of, answer) if k.id == spec.redo_of]
        if any(redone_as):
            raise Conflict(f"{spec.redo_of} was redone as {redone_as[0]}: redo that one")
        if spec.redo_of and spec.redo_of in seen:
            raise Conflict(f"{spec.redo_of} cannot be redone twice")
        seen.add(spec.redo_of)


def _found(ref: str, answer: LookedUp) -> list[Known]:
    return answer.found.get(ref, [])
