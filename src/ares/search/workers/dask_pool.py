"""A Dask cluster as a pool: one that is named by its scheduler's address, or a local one.

Needs the extra `dask`. A local cluster listens on the loopback address only, has no dashboard,
keeps its files in a temporary folder, and ends with this process, however that ends.
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import socket
import tempfile
import threading
import time
from concurrent.futures import Executor
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, Final

from ares.core.errors import ConfigError
from ares.search.workers.processes import refuse_in_import
from ares.search.workers.worker import here, packed, unpacked, work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from ares.search.workers.worker import Cargo, Task

_START_SECONDS: Final = 60
_COUNT_SECONDS: Final = 1.0
_NO_WORKERS_SECONDS: Final = 60.0
_SILENT: Final = logging.CRITICAL + 1
_ONE_THREAD: Final = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
)  # fmt: skip
_ANY_SIZE: Final = {"distributed.admin.large-graph-warning-threshold": "1TiB"}


class DaskPool(Executor):
    """An executor over `distributed.Client`.

    Args:
        n_workers: Processes of a local cluster, one thread each; a given scheduler has its own.
        scheduler: Address of a running scheduler, as tcp://host:port; None starts a local cluster.
        timeout: Seconds to wait for the scheduler.

    Raises:
        ConfigError: Dask is not installed, or nothing answers at the address, or no worker is there.
    """

    def __init__(
        self, n_workers: int = 2, *, scheduler: str | None = None, timeout: float = 10.0
    ) -> None:
        try:
            import distributed
        except ImportError as error:
            raise ConfigError(
                "workers on Dask need the package distributed",
                where="workers",
                remedy="pip install 'ares-trainer[dask]'",
            ) from error
        self.address = scheduler
        self.sent = 0
        self._stack = contextlib.ExitStack()
        self._size, self._counted = n_workers, -math.inf
        self._empty_since: float | None = None
        with contextlib.ExitStack() as stack:
            stack.enter_context(_silence)
            if scheduler is None:
                target: Any = stack.enter_context(_local_cluster(n_workers))
            else:
                target = scheduler
            self._client = self._connect(distributed, target, timeout)
            stack.callback(self._client.close)
            if not self._client.nthreads():
                raise ConfigError(
                    "the Dask cluster must have workers",
                    value=scheduler,
                    where="scheduler",
                    remedy=f"Start some: dask worker {scheduler}",
                )
            self._executor = self._client.get_executor(pure=False)
            self._stack = stack.pop_all()

    @property
    def size(self) -> int:
        """Threads of all workers, at least 1; the last known where the scheduler is gone."""
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            with contextlib.suppress(Exception):  # whoever submits next will hear of it
                self._size = max(1, sum(map(int, self._client.nthreads().values())))
            self._counted = time.monotonic()
        return self._size

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers, wherever they are."""
        return [int(pid) for pid in self._client.run(_pid).values()]

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Call a function, which must be importable, in a worker."""
        future: Future[Any] = self._executor.submit(function, *args, **options)
        return future

    def submit_task(self, task: Task, cargo: Cargo | None, worker: str = "") -> Future[bytes]:
        """Do a task; with its cargo at the worker of that address, if that one is still there."""
        import dask

        where = {"workers": [worker], "allow_other_workers": True} if worker else {}
        if cargo is not None:
            self.sent += 1
        with dask.config.set(_ANY_SIZE):
            future: Future[bytes] = self._executor.submit(
                _work, packed((task, cargo)), retries=0, **where
            )
        return future

    def killed(self, error: BaseException) -> bool:
        """Whether an error says that workers died over a task."""
        from distributed import KilledWorker

        return isinstance(error, KilledWorker)

    def check(self) -> None:
        """Look whether there are workers to wait for.

        Raises:
            TimeoutError: the cluster has had none for a minute.
        """
        if self._client.nthreads():
            self._empty_since = None
            return
        self._empty_since = self._empty_since or time.monotonic()
        if time.monotonic() - self._empty_since > _NO_WORKERS_SECONDS:
            raise TimeoutError("the Dask cluster has no workers left")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; a local one ends."""
        with contextlib.suppress(Exception):  # a scheduler that is gone cannot be left in order
            self._executor.shutdown(wait=wait and not cancel_futures)
        self._stack.close()

    @staticmethod
    def _connect(distributed: Any, target: Any, timeout: float) -> Any:
        try:
            if isinstance(target, str):  # a client that failed to connect would complain later
                host, port = distributed.comm.get_address_host_port(target, strict=True)
                socket.create_connection((host, port), timeout).close()
            return distributed.Client(target, timeout=timeout, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:  # a time-out is an OSError
            raise ConfigError(
                "a Dask scheduler must answer at this address",
                value=target,
                where="scheduler",
                remedy="Check the address and that the scheduler runs; it looks like"
                " tcp://127.0.0.1:8786.",
            ) from error


def _work(body: bytes) -> bytes:
    # As bytes both ways: Dask would look at every parameter of every point.
    task, cargo = unpacked(body)
    return packed(work(task, cargo, _address))


def _address() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:  # outside a worker
        return here()


def _pid() -> int:
    import os

    return os.getpid()


@contextlib.contextmanager
def _local_cluster(n_workers: int) -> Iterator[Any]:
    import dask
    from distributed import LocalCluster

    refuse_in_import()
    resource_tracker.ensure_running()  # it would unblock signals
    # Dask itself removes there what workers of a killed process left.
    folder = tempfile.gettempdir()
    settings = {
        "temporary-directory": folder,
        # Without its MALLOC_TRIM_THRESHOLD_, with which every array of a run is faulted in anew.
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(_ONE_THREAD, "1"),
    }
    with dask.config.set(settings):
        cluster = LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,  # and its plain HTTP server on the loopback address
            local_directory=folder,
            silence_logs=logging.CRITICAL,
            # A dead worker's task comes back at once: we know better what to do with it.
            scheduler_kwargs={"allowed_failures": 0, "dashboard_address": "127.0.0.1:0"},
            memory_limit=None,
            env={"NUMBA_NUM_THREADS": "1"},
        )
    try:
        # Workers inherit this: Ctrl-C is for the process that started them.
        cluster.loop.add_callback(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGINT})
        with dask.config.set(settings):
            cluster.scale(n_workers)
            _wait_for(cluster, n_workers)
        yield cluster
    finally:
        cluster.close()


def _wait_for(cluster: Any, n_workers: int) -> None:
    try:
        cluster.wait_for_workers(n_workers, timeout=_START_SECONDS)
    except TimeoutError as error:
        raise ConfigError(
            f"local Dask workers must start within {_START_SECONDS} seconds",
            where="workers",
            remedy='A script that uses them keeps its work under `if __name__ == "__main__":`.',
        ) from error


class _Silence:
    """Keeps what Dask logs off the terminal, as long as any pool lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: dict[str, int] = {}

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            # Some of its loggers have levels and handlers of their own.
            names = [n for n in logging.root.manager.loggerDict if n.startswith("distributed")]
            for name in ("distributed", *names):
                logger = logging.getLogger(name)
                self._before.setdefault(name, logger.level)
                logger.setLevel(_SILENT)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                for name, level in self._before.items():
                    logging.getLogger(name).setLevel(level)
                self._before = {}


_silence: Final = _Silence()
