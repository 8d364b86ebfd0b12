"""The crews that chunks can go to: here, threads, any executor, processes, a Dask cluster."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ares.search.workers.processes import ProcessPool, WorkerDiedError
from ares.search.workers.worker import answer, work

if TYPE_CHECKING:
    from ares.search.evaluator import BacktestEvaluator
    from ares.search.workers.dask_pool import DaskPool
    from ares.search.workers.dispatch import Crew, Fate
    from ares.search.workers.worker import Answer, Cargo, Need, Task


@dataclass(frozen=True)
class Here:
    """This thread."""

    evaluator: BacktestEvaluator
    size: int = 1
    shared: bool = True
    blames: bool = True

    def submit(self, task: Task, *, carry: bool, worker: str) -> Future[Need | Answer]:  # noqa: ARG002
        """Do it now."""
        future: Future[Need | Answer] = Future()
        future.set_result(answer(task, self.evaluator))
        return future

    def fate(self, error: BaseException) -> Fate:  # noqa: ARG002
        """Nothing is killed here."""
        return "refused"

    def check(self) -> None:
        """Nothing to wait for."""


@dataclass(frozen=True)
class Threads:
    """Threads of this process, on one evaluator: nothing is sent."""

    executor: Executor
    evaluator: BacktestEvaluator
    size: int
    shared: bool = True
    blames: bool = True

    def submit(self, task: Task, *, carry: bool, worker: str) -> Future[Need | Answer]:  # noqa: ARG002
        """Do it in a thread."""
        return self.executor.submit(answer, task, self.evaluator)

    def fate(self, error: BaseException) -> Fate:  # noqa: ARG002
        """A thread does not die."""
        return "refused"

    def check(self) -> None:
        """Threads end by themselves."""


@dataclass(frozen=True)
class Processes:
    """Our own spawned processes."""

    pool: ProcessPool
    cargo: Cargo
    shared: bool = False
    blames: bool = True

    @property
    def size(self) -> int:
        """Processes."""
        return self.pool.size

    def submit(self, task: Task, *, carry: bool, worker: str) -> Future[Need | Answer]:  # noqa: ARG002
        """The pool itself hands the data to a worker that asks for it."""
        return self.pool.submit_task(task, self.cargo)

    def fate(self, error: BaseException) -> Fate:
        """A dead process is replaced."""
        return "died" if isinstance(error, WorkerDiedError) else "refused"

    def check(self) -> None:
        """The death of a process is noticed at once."""


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster. Who dies takes the tasks beside him along: accused chunks run alone."""

    pool: DaskPool
    cargo: Cargo
    shared: bool = False
    blames: bool = False

    @property
    def size(self) -> int:
        """Threads of its workers."""
        return self.pool.size

    def submit(self, task: Task, *, carry: bool, worker: str) -> Future[bytes]:
        """Data goes to the worker that asked for it."""
        return self.pool.submit_task(task, self.cargo if carry else None, worker)

    def fate(self, error: BaseException) -> Fate:
        """Dask replaces dead workers; a cluster that cancels our tasks is gone."""
        if self.pool.killed(error):
            return "died"
        return "lost"

    def check(self) -> None:
        """Raise where no workers are left."""
        self.pool.check()


@dataclass(frozen=True)
class Given:
    """An executor of the user's, about which nothing is known: it may be made of processes."""

    executor: Executor
    cargo: Cargo
    size: int
    shared: bool = False
    blames: bool = True

    def submit(self, task: Task, *, carry: bool, worker: str) -> Future[Need | Answer]:  # noqa: ARG002
        """Whoever takes it has it; data may reach a worker twice where two ask at one time."""
        return self.executor.submit(work, task, self.cargo if carry else None)

    def fate(self, error: BaseException) -> Fate:
        """A pool that was closed says RuntimeError; anything else may be the doing of a point."""
        broken = isinstance(error, BrokenExecutor) and not isinstance(error, BrokenThreadPool)
        return "lost" if broken or not isinstance(error, RuntimeError) else "refused"

    def check(self) -> None:
        """A broken executor says so by its futures."""


def crew_for(
    executor: Executor | None, evaluator: BacktestEvaluator, cargo: Cargo | None, size: int
) -> Crew:
    """The crew of an executor; None is this thread.

    Args:
        executor: Where to run.
        evaluator: What runs, where memory is shared.
        cargo: What is sent, where it is not.
        size: Workers, where the executor does not say.
    """
    from ares.search.workers.dask_pool import DaskPool

    if executor is None:
        return Here(evaluator)
    if isinstance(executor, ThreadPoolExecutor) or cargo is None:
        return Threads(executor, evaluator, size)
    if isinstance(executor, ProcessPool):
        return Processes(executor, cargo)
    if isinstance(executor, DaskPool):
        return Cluster(executor, cargo)
    return Given(executor, cargo, size)
