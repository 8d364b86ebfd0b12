"""What the workers of a search are, by name, and one pool of them for all searches of a run."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Literal, TypeAlias

Workers: TypeAlias = Literal["threads", "processes", "dask"]


def make_executor(workers: Workers, n_workers: int, scheduler: str | None = None) -> Executor:
    """The executor that a configuration names; it can be shared by several backtesters.

    Raises:
        ConfigError: Dask is not installed, or no scheduler answers.
    """
    match workers:
        case "threads":
            return ThreadPoolExecutor(n_workers, thread_name_prefix="ares-search")
        case "processes":
            from ares.search.workers.processes import ProcessPool

            return ProcessPool(n_workers)
        case "dask":
            from ares.search.workers.dask_pool import DaskPool

            return DaskPool(n_workers, scheduler=scheduler)


class SharedPool:
    """Workers outside this process, started when they are first needed.

    Args:
        workers: "processes" or "dask".
        n_workers: How many.
        scheduler: Address of a Dask scheduler; None starts a local cluster.
    """

    def __init__(self, workers: Workers, n_workers: int, scheduler: str | None = None) -> None:
        self._what = (workers, n_workers, scheduler)
        self._pool: Executor | None = None
        self._lock = threading.Lock()

    @staticmethod
    def of(workers: Workers, n_workers: int, scheduler: str | None) -> SharedPool | None:
        """A pool to share; None for threads, which cost nothing to start."""
        return None if workers == "threads" else SharedPool(workers, n_workers, scheduler)

    def get(self) -> Executor:
        """The pool.

        Raises:
            ConfigError: Dask is not installed, or no scheduler answers.
        """
        with self._lock:
            if self._pool is None:
                self._pool = make_executor(*self._what)
            return self._pool

    def close(self) -> None:
        """End the workers at once."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
