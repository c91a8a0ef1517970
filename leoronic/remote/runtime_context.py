"""`get_runtime_context()`: where the code that asks runs, and as part of what."""

from __future__ import annotations

from typing import Any

from leoronic.remote.context import Context, current
from leoronic.remote.jobs import current as running_call


def get_runtime_context() -> RuntimeContext:
    """Of the process and the call in which this is called."""
    return RuntimeContext(current())


class RuntimeContext:
    """Ids are texts; None stands for what there is not."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._about = context.about

    @property
    def namespace(self) -> str:
        """That of actors which are made or looked for here without one."""
        return str(self._about.get("namespace", ""))

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor was restarted."""
        return self.get_actor_id() is not None and int(self._about.get("attempt", 1)) > 1

    @property
    def current_actor(self) -> Any:
        """A handle of the actor that runs this. Raises `RuntimeError` outside of one."""
        task = self.get_actor_id()
        if task is None:
            raise RuntimeError("current_actor: this code does not run in an actor")
        from leoronic.remote.actors import handle_of_task  # noqa: PLC0415 - only this needs it

        return handle_of_task(task)

    def get_job_id(self) -> str:
        """The driver's."""
        return str(self._about["job"])

    def get_node_id(self) -> str:
        """That of the node on which this runs."""
        return self._context.party.node

    def get_worker_id(self) -> str:
        """That of this process."""
        return self._context.party.id

    def get_task_id(self) -> str | None:
        """That of the call."""
        call = running_call()
        return f"{call.caller}-{call.number:x}" if call is not None else None

    def get_task_name(self) -> str | None:
        """What people call it."""
        call = running_call()
        return call.label.removesuffix("()") if call is not None else None

    def get_actor_id(self) -> str | None:
        """That of the actor."""
        return self._about.get("task") if self._about.get("kind") == "actor" else None

    def get_actor_name(self) -> str | None:
        """That of the actor; empty if it has none."""
        if self.get_actor_id() is None:
            return None
        return str(self._about.get("actor_name", ""))
