"""joblib on the cluster, and so all that uses joblib, such as scikit-learn.

    leoronic.register_joblib()
    with joblib.parallel_config(backend="leoronic", num_cpus=2):
        joblib.Parallel()(joblib.delayed(work)(item) for item in items)

joblib itself is not required: who uses this has it. Version 1.4 or later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib.parallel import (  # type: ignore[import-untyped]
    AutoBatchingMixin,
    ParallelBackendBase,
    SequentialBackend,
    register_parallel_backend,
)

from leoronic.remote.api import cluster_resources
from leoronic.remote.executor import Executor

NAME = "leoronic"


def register_joblib() -> None:
    """From now on joblib knows the backend `leoronic`."""
    register_parallel_backend(NAME, LeoronicBackend)


class LeoronicBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Batches of joblib as calls. `requirements` are those of `Executor`."""

    supports_retrieve_callback = True
    supports_timeout = True
    supports_sharedmem = False
    uses_threads = False
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **requirements: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._requirements = requirements
        self._executor: Executor | None = None
        self.parallel: Any = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """All that the cluster can run for None and -1, one less for -2, and so on."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        for_each = float(self._requirements.get("num_cpus", 1)) or 1.0
        can_run = math.floor(cluster_resources().get("CPU", 1.0) / for_each)
        return max(1, can_run + 1 + (-1 if n_jobs is None else n_jobs))

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None,
        **ignored: Any,
    ) -> int:  # fmt: skip
        """For the calls of one `Parallel`."""
        n_jobs = self.effective_n_jobs(n_jobs)
        self.parallel = parallel
        self._executor = Executor(n_jobs, **self._requirements)
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object]) -> Future[Any]:
        """Have a batch run; `callback` gets the future once it is over."""
        assert self._executor is not None
        future = self._executor.submit(func)
        future.add_done_callback(callback)
        return future

    # Of joblib up to 1.4.
    apply_async = submit

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """What came of a batch."""
        return out.result()

    def terminate(self) -> None:
        """Nothing more will come."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """After an exception: drop what has not been begun."""
        self.terminate()
        if ensure_ready and self.parallel is not None:
            self.configure(self.parallel.n_jobs, self.parallel)

    def get_nested_backend(self) -> tuple[Any, int | None]:
        """Within a batch joblib goes on in the worker itself, which has what it asked for."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None
