"""Submissions on their way in: ids given, references resolved, mistakes named.

A submission is accepted whole or refused whole. One that refers to other tasks (`after`) or brings
its own ids is parked until the journal has told what it knows of them.
"""

from __future__ import annotations

import hashlib

import msgspec

from leoronic.core.blob import FileRef
from leoronic.core.entries import Entry, Finished, Submitted
from leoronic.core.graph import both, find_cycle
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.queue_messages import Known, LookedUp, SubmitSpecs
from leoronic.core.spec import After, TaskSpec
from leoronic.errors import BadRequest, Conflict

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
            for after in spec.after:
                if after.id not in inside:
                    wanted[after.id] = None
        return list(wanted)

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
            cached = answer.cached.get(spec.cache_key) if spec.cache_key else None
            if cached is None:
                self.entries.append(Submitted(task, spec, now, self.asked.source))
                continue
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
        problems: list[str] = []
        linked: list[TaskSpec] = []
        edges: dict[str, list[str]] = {}
        for index, (task, spec) in enumerate(zip(self.ids, specs, strict=True)):
            if not spec.after:
                linked.append(spec)
                continue
            place = f"tasks[{index}].after" if len(specs) > 1 else "after"
            after: dict[str, After] = {}
            meant: dict[str, list[str]] = {}
            for one in spec.after:
                targets = inside.get(one.id) or [known.id for known in _found(one.id, answer)]
                meant[one.id] = targets
                if not targets:
                    problems.append(f"{place}: no task has the id or name {one.id!r}")
                elif len(targets) > 1 and one.id not in inside:
                    problems.append(f"{place}: {one.id!r} fits {len(targets)} tasks; say more")
                for target in targets:
                    when = both(after[target].when, one.when) if target in after else one.when
                    if not when:
                        problems.append(f"{place}: {one.id!r} cannot both succeed and fail")
                    after[target] = After(target, when)
            edges[task] = list(after)
            files = _link_files(spec.files, meant, place.replace("after", "files"), problems)
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


def _link_files(
    files: tuple[FileRef, ...], meant: dict[str, list[str]], place: str, problems: list[str]
) -> tuple[FileRef, ...]:
    """The same files, with full ids of the tasks whose outputs they are; appends to `problems`."""
    linked = []
    for file in files:
        found = meant.get(file.task, [])
        if len(found) > 1:
            problems.append(
                f"{place}: {file.path}: {file.task!r} fits {len(found)} tasks; give the id of one"
            )
        linked.append(msgspec.structs.replace(file, task=found[0]) if found else file)
    return tuple(linked)


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
