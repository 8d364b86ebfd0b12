"""A pool of spawned processes that outlives the death of its workers, and never its parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from concurrent.futures import Executor, ThreadPoolExecutor
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, Final

from ares.core.errors import AresError, InputError
from ares.search.workers.worker import Need, work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from ares.search.workers.worker import Answer, Cargo, Task

_ONE_THREAD: Final = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_STARTS: Final = 3
_starting: Final = threading.Lock()


class WorkerDiedError(AresError):
    """The worker that did this task died."""


class NoWorkersError(RuntimeError):
    """Worker processes cannot be started."""


class ProcessPool(Executor):
    """Spawned processes, each behind a thread that speaks with it.

    A task that was running when its worker died raises `WorkerDiedError`; no other task notices,
    and the next one gets a new worker. Workers end when this process ends, however it does, and
    leave Ctrl-C to it. Safe to share between threads.

    Args:
        n_workers: How many processes.

    Raises:
        InputError: a worker imports a script that does its work unguarded.
    """

    def __init__(self, n_workers: int) -> None:
        refuse_in_import()
        self.size = n_workers
        self.sent = 0
        self.deaths = 0
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="ares-process")
        self._local = threading.local()
        self._living: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._end = weakref.finalize(self, _end, self._living)

    @property
    def pids(self) -> list[int]:
        """Process ids of the living workers."""
        with self._lock:
            return [worker.pid for worker in self._living]

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Call a function, which must be importable, in a worker."""
        return self._threads.submit(self._call, (function, args, options), None)

    def submit_task(self, task: Task, cargo: Cargo) -> Future[Need | Answer]:
        """Do a task in a worker; the cargo travels where the worker asks for it."""
        return self._threads.submit(self._call, (work, (task,), {}), cargo)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; with `cancel_futures` at once, else after what was submitted."""
        if not cancel_futures:
            self._threads.shutdown(wait=wait)
        with self._lock:
            self._closed = True
        self._end()
        self._threads.shutdown(wait=wait, cancel_futures=True)

    def _call(self, call: tuple[Any, ...], cargo: Cargo | None) -> Any:
        worker = self._mine()
        try:
            worker.pipe.send(call)
        except OSError:  # it died while it waited: no task is to blame
            self._bury(worker)
            worker = self._mine()
            worker.pipe.send(call)
        try:
            answer = worker.pipe.recv()
            if isinstance(answer, Need) and cargo is not None:
                function, (task,), _ = call
                worker.pipe.send((function, (task, cargo), {}))
                with self._lock:
                    self.sent += 1
                answer = worker.pipe.recv()
        except (EOFError, OSError) as error:
            self._bury(worker)
            raise WorkerDiedError("a worker process died", value=worker.exit_code) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _mine(self) -> _Worker:
        """The process of this thread; a new one where there is none.

        Raises:
            NoWorkersError: processes cannot be started, or die before they are ready.
        """
        for attempt in range(_STARTS):
            worker: _Worker | None = getattr(self._local, "worker", None)
            if worker is not None:
                return worker
            try:
                worker = _Worker()
            except (OSError, AssertionError) as error:  # no memory; or a daemon's own children
                raise NoWorkersError(f"a worker process could not start ({error})") from error
            with self._lock:
                self._living.add(worker)
                closed = self._closed
            if closed:
                worker.end()
            self._local.worker = worker
            try:
                worker.pipe.recv()  # it says that it is ready
            except (EOFError, OSError) as error:
                self._bury(worker)
                if attempt + 1 == _STARTS:
                    raise NoWorkersError(
                        f"a worker process could not start (exit code {worker.exit_code}); a script that uses"
                        ' processes keeps its work under `if __name__ == "__main__":`'
                    ) from error
        return self._local.worker  # type: ignore[no-any-return]

    def _bury(self, worker: _Worker) -> None:
        worker.end()
        self._local.worker = None
        with self._lock:
            self._living.discard(worker)
            self.deaths += 1
            closed = self._closed
        if closed:
            raise NoWorkersError("the pool was shut down")


class _Worker:
    """A spawned process and this end of its pipe."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        pipes: tuple[Connection, Connection] = context.Pipe()
        self.pipe, theirs = pipes
        self._process: SpawnProcess = context.Process(
            target=serve, args=(theirs,), name="ares-worker", daemon=True
        )
        try:
            with _inheritance():
                self._process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            theirs.close()  # so that the death of the worker is the end of the pipe

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        """End it: it holds nothing that could be lost. Who reads from the pipe comes to its end."""
        self._process.kill()
        self._process.join()

    def end(self) -> None:
        """Kill it and close the pipe, for the thread that uses it."""
        self.kill()
        self.pipe.close()


@contextlib.contextmanager
def _inheritance() -> Iterator[None]:
    """What a process inherits at its start: Ctrl-C blocked, and one thread for the libraries."""
    resource_tracker.ensure_running()  # it would unblock signals
    with _starting:
        before = {name: os.environ.get(name) for name in _ONE_THREAD}
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def refuse_in_import() -> None:
    """Refuse to start processes while this one, itself a worker, imports the script that did.

    Raises:
        InputError: the script has its work outside `if __name__ == "__main__":`.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise InputError(
            'a script that uses processes keeps its work under `if __name__ == "__main__":`',
            where=str(getattr(sys.modules.get("__mp_main__"), "__file__", "the script")),
            remedy="Workers import the script and would do all its work again.",
        )


def _end(workers: set[_Worker]) -> None:
    for worker in list(workers):
        worker.kill()


def serve(pipe: Connection) -> None:
    """The life of a worker process: calls come in, answers go out, until the pipe ends."""
    guard_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answer: Any = "ready"
    while True:
        try:
            pipe.send(answer)
            function, args, options = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = function(*args, **options)
        except Exception as error:  # noqa: BLE001  # a call of anybody's
            answer = error


def guard_parent() -> None:
    """End this process when its parent is gone, even in the middle of a task."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="ares-parent", daemon=True).start()
