"""What a supervisor keeps for each of its children, whatever kind it is.

A `Child` can be started again and again; its reference stays the same. How it ended of itself is
told to `on_exit` (an ordered `stop` is not).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.errors import NotFound
from leoronic.runtime.actor import Actor
from leoronic.runtime.cell import Cell
from leoronic.runtime.log import get_logger
from leoronic.runtime.ref import ActorRef, Directory, LocalRef

OnExit = Callable[["Child", BaseException | None], None]
"""Told that a running child ended of itself: its error, or None if it ended normally."""

Statistics = dict[str, Any]


class Child(ABC):
    """One child of a supervisor. `wanted`: it is to run; `restarts` counts its further starts."""

    def __init__(self, spec: ChildSpec | SupervisorSpec, on_exit: OnExit) -> None:
        self.spec: ChildSpec | SupervisorSpec = spec
        self.wanted = False
        self.restarts = 0
        self._on_exit = on_exit

    @property
    def name(self) -> str:
        """Its name, unique in the tree."""
        return self.spec.name

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it is started and has not ended."""

    @abstractmethod
    async def start(self) -> None:
        """Start it; returns once it is initialised. Raises whatever kept it from that."""

    @abstractmethod
    async def stop(self, *, survivors: bool) -> None:
        """End it in order; harmless if it has ended. `survivors`: even if it could survive."""

    @abstractmethod
    def forget(self) -> None:
        """It will not be started again: its name is free."""

    def statistics(self) -> list[Statistics]:
        """One line for it, and one for each actor below it."""
        return [
            {
                "name": self.name,
                "kind": "actor",
                "state": "running" if self.running else "stopped",
                "restarts": self.restarts,
            }
        ]


class LocalChild(Child):
    """An actor in this process."""

    spec: ChildSpec

    def __init__(self, spec: ChildSpec, directory: Directory, on_exit: OnExit) -> None:
        super().__init__(spec, on_exit)
        self._directory = directory
        self._cell: Cell | None = None
        self._stopping = False
        self._taken_before = 0
        self._high_water = 0
        self.ref = LocalRef(spec.name)
        directory.add(self.ref)

    @property
    def running(self) -> bool:
        """Whether an incarnation is up."""
        return self._cell is not None

    async def start(self) -> None:
        """Make a fresh actor and run its `started`."""
        assert self._cell is None, f"{self.name} runs already"
        assert callable(self.spec.factory)
        actor: Actor = self.spec.factory()
        cell = Cell(
            actor,
            self.ref,
            self._directory,
            mailbox_max=self.spec.mailbox_max,
            owner=self._owner(),
            on_exit=self._exited,
        )
        self._cell = cell
        self._stopping = False
        try:
            await cell.start(self.spec.start_s)
        except BaseException:
            self._cell = None
            raise

    async def stop(self, *, survivors: bool) -> None:
        """Let it finish its mailbox and `stopping()`, within the spec's `shutdown_s`."""
        cell = self._cell
        if cell is not None:
            # Kept until it is over: a stop that is interrupted can be repeated.
            self._stopping = True
            error = await cell.stop(self.spec.shutdown_s)
            if error is not None:
                get_logger(actor=self.name).error("not_stopped_in_order", exc_info=error)

    def forget(self) -> None:
        """Take its name out of the directory."""
        self._directory.remove(self.name)

    def statistics(self) -> list[Statistics]:
        """With `mailbox` and `mailbox_high` (messages), `mailbox_max`, `handled`, `lost`."""
        [line] = super().statistics()
        cell = self._cell
        line |= {
            "mailbox": len(cell.mailbox) if cell else 0,
            "mailbox_high": max(self._high_water, cell.mailbox.high_water if cell else 0),
            "mailbox_max": self.spec.mailbox_max,
            "handled": self._taken_before + (cell.mailbox.taken if cell else 0),
            "lost": self.ref.lost,
        }
        return [line]

    def _owner(self) -> ActorRef | None:
        if self.spec.owner is None:
            return None
        owner = self._directory.get(self.spec.owner)
        if owner is None:
            raise NotFound(f"{self.name}: there is no owner named {self.spec.owner}")
        return owner

    def _exited(self, cell: Cell, error: BaseException | None) -> None:
        self._taken_before += cell.mailbox.taken
        self._high_water = max(self._high_water, cell.mailbox.high_water)
        if cell is self._cell:
            self._cell = None
            if not self._stopping:
                self._on_exit(self, error)
