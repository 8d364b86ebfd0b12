"""A memory budget: stages are admitted by prediction, sampled while they run, and caches evicted."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

from ares.core.errors import ConfigError, MemoryBudgetError
from ares.market.budget import memory_limit, parse_size, peak_of_process, tree_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger("ares.market.memory")

_FITS: Final = 1 << 30
"""Bytes in which a training on daily bars fits, libraries included."""
_INTERVAL: Final = 0.1
_WHERE: Final = "computational_optimization.memory_management"
_MIB: Final = 1 << 20


class MemoryCache(Protocol):
    """What a cache offers to be registered."""

    @property
    def nbytes(self) -> int:
        """Bytes held now."""

    def evict(self) -> int:
        """Let go of everything that can be made again, and return the bytes that it took."""


@dataclasses.dataclass(frozen=True)
class Demand:
    """What a stage takes above the base of the process, predicted.

    Attributes:
        fixed_bytes: Whatever the data and the number of workers.
        row_bytes: For each row of data.
        rows: Rows of data.
        worker_bytes: For each worker but the first.
    """

    fixed_bytes: int
    row_bytes: float = 0.0
    rows: int = 0
    worker_bytes: int = 0

    def total(self, workers: int = 1) -> int:
        """Bytes with that many workers."""
        data = int(self.row_bytes * self.rows)
        return self.fixed_bytes + data + (workers - 1) * self.worker_bytes


class Stage:
    """A piece of work whose peak is measured.

    Attributes:
        name: As it was given.
        peak_bytes: Highest resident memory of the process tree seen since it began.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.peak_bytes = 0


class MemoryManager:
    """Keeps the process tree within a share of the memory there is.

    Args:
        memory_threshold: Share of the smaller of physical memory and the cgroup's limit.
        budget: Bytes, or a size like "2GiB", that replaces that share.
        usage: Measures the bytes in use; default: resident memory of the process tree.
        enforced: Whether stages may be refused. They are measured all the same.

    Raises:
        ConfigError: A threshold outside (0, 1], or a budget that is no size.
    """

    def __init__(
        self,
        memory_threshold: float = 0.8,
        *,
        budget: int | str | None = None,
        usage: Callable[[], int] | None = None,
        enforced: bool = True,
    ) -> None:
        if not 0 < memory_threshold <= 1:
            raise ConfigError(
                "memory_threshold must lie in (0, 1]",
                value=memory_threshold,
                where=_WHERE,
                remedy="0.8, the default, is four fifths of the memory.",
            )
        self.memory_threshold = memory_threshold
        self.enforced = enforced
        self.limit_bytes = memory_limit()
        stated = parse_size(budget) if isinstance(budget, str) else budget
        self.budget_bytes = int(memory_threshold * self.limit_bytes) if stated is None else stated
        self._usage = usage or tree_bytes
        self._own_peak = peak_of_process if usage is None else lambda: 0
        self._lock = threading.Lock()
        self._caches: dict[int, Callable[[], MemoryCache | None]] = {}
        self._evictions = 0
        self._freed = 0
        self._warned = False
        self._stages: list[Stage] = []
        self._keeping = 0
        self._sampler: _Sampler | None = None
        self._peak = 0
        self.base_bytes = 0
        self.measure_base()

    def measure_base(self) -> int:
        """Take what is in use now as the base: what the process takes without data."""
        self.base_bytes = self.sample()
        return self.base_bytes

    def check_base(self) -> None:
        """Refuse a budget that the process alone passes, before any work.

        Raises:
            MemoryBudgetError: it does.
        """
        if self.budget_bytes <= self.base_bytes:
            fits = max(_FITS, 2 * self.base_bytes) // _MIB
            raise MemoryBudgetError(
                f"the process alone takes {self.base_bytes // _MIB} MiB of the memory budget",
                value=f"{self.budget_bytes // _MIB} MiB",
                where=_WHERE,
                remedy=f"For work on daily bars {fits} MiB would fit: --memory {fits}MiB.",
            )

    def admit(self, stage: str, demand: Demand, *, workers: int = 1) -> int:
        """Let a stage begin that is predicted to fit the budget, before it takes any memory.

        Args:
            stage: Its name, for the message.
            demand: What it is predicted to take above the base.
            workers: Workers that are wanted.

        Returns:
            The workers with which it fits, at least 1.

        Raises:
            MemoryBudgetError: it does not fit with one worker; the message says what would.
        """
        if not self.enforced:
            return workers
        room = self.budget_bytes - self.base_bytes
        while workers > 1 and demand.total(workers) > room:
            workers -= 1
        if demand.total(workers) <= room:
            return workers
        needed = -(-(self.base_bytes + demand.total()) // _MIB)
        remedy = f"It would fit with --memory {needed}MiB"
        fitting = int((room - demand.fixed_bytes) / demand.row_bytes) if demand.row_bytes else 0
        if fitting > 0:
            remedy += f", or with {fitting:,} of the {demand.rows:,} bars (--timerange)"
        raise MemoryBudgetError(
            f"{stage} is predicted to need {needed} MiB: {self.base_bytes // _MIB} MiB for the"
            f" process and {-(-demand.total() // _MIB)} MiB for {demand.rows:,} bars",
            value=f"a budget of {self.budget_bytes // _MIB} MiB",
            where=_WHERE,
            remedy=f"{remedy}.",
        )

    def register(self, cache: MemoryCache) -> None:
        """Put a cache under the budget; it is held weakly. Registering again marks it as used."""
        try:
            held: Callable[[], MemoryCache | None] = weakref.ref(cache)
        except TypeError:
            held = _strong(cache)
        with self._lock:
            self._caches.pop(id(cache), None)
            self._caches[id(cache)] = held

    def touch(self, cache: MemoryCache) -> None:
        """Mark a registered cache as used just now: the least recently used go first."""
        with self._lock:
            held = self._caches.pop(id(cache), None)
            if held is not None:
                self._caches[id(cache)] = held

    def sample(self) -> int:
        """Measure the bytes in use now, and remember the peak, also that of the open stages."""
        used = self._usage()
        self._remember(used)
        return used

    def check_memory_usage(self) -> bool:
        """Measure, and clean up where the budget is passed. True where it had to."""
        if self.sample() <= self.budget_bytes:
            return False
        self.cleanup()
        return True

    def cleanup(self) -> int:
        """Evict caches, least recently used first, until the budget holds.

        Without pressure all are evicted: the caller asked for it.

        Returns:
            Bytes that the caches say they let go of.
        """
        pressed = self.sample() > self.budget_bytes
        freed = 0
        for cache in self._live():
            freed += max(0, cache.evict())
            self._evictions += 1
            if pressed and self.sample() <= self.budget_bytes:
                break
        gc.collect()
        self._freed += freed
        self.sample()
        if pressed and (freed or not self._warned):
            self._warned = True
            _log.warning("memory budget passed: %d bytes of caches evicted", freed)
        return freed

    def profile_memory_usage(self) -> dict[str, Any]:
        """Numbers for `run_info.json` and reports; sizes in bytes.

        `base_bytes` is what the process took before it had data, imports included.
        """
        caches = self._live()
        return {
            "used_bytes": self.sample(),
            "peak_bytes": self._peak,
            "base_bytes": self.base_bytes,
            "budget_bytes": self.budget_bytes,
            "limit_bytes": self.limit_bytes,
            "memory_threshold": self.memory_threshold,
            "caches": len(caches),
            "cache_bytes": sum(cache.nbytes for cache in caches),
            "evictions": self._evictions,
            "evicted_bytes": self._freed,
        }

    @contextlib.contextmanager
    def watch(self, interval: float = _INTERVAL) -> Iterator[MemoryManager]:
        """Keep the budget in the background: sample, and evict where it is passed."""
        with self._sampling(interval):
            self._keeping += 1
            try:
                yield self
            finally:
                self._keeping -= 1
        self.sample()

    @contextlib.contextmanager
    def stage(self, name: str, interval: float = _INTERVAL) -> Iterator[Stage]:
        """Measure the peak of a stage; stages may nest."""
        stage = Stage(name)
        before = self._own_peak()
        with self._sampling(interval):
            self._stages.append(stage)
            self.sample()
            try:
                yield stage
            finally:
                self.sample()
                exact = self._own_peak()
                if exact > before:  # between two samples, but the kernel saw it
                    self._remember(exact)
                self._stages.remove(stage)

    @contextlib.contextmanager
    def _sampling(self, interval: float) -> Iterator[None]:
        """One thread, whoever asks for it."""
        if self._sampler is not None:
            yield
            return
        self._sampler = _Sampler(self._tick, interval)
        try:
            yield
        finally:
            self._sampler.stop()
            self._sampler = None

    def _tick(self) -> None:
        if self._keeping:
            self.check_memory_usage()
        else:
            self.sample()

    def _remember(self, used: int) -> None:
        self._peak = max(self._peak, used)
        for stage in self._stages:
            stage.peak_bytes = max(stage.peak_bytes, used)

    def _live(self) -> list[MemoryCache]:
        """Registered caches that still exist, least recently used first."""
        with self._lock:
            self._caches = {k: held for k, held in self._caches.items() if held() is not None}
            return [cache for held in self._caches.values() if (cache := held()) is not None]


class _Sampler:
    """A thread that calls `tick` every `interval` seconds until it is stopped."""

    def __init__(self, tick: Callable[[], object], interval: float) -> None:
        self._tick = tick
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ares-memory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._interval):
            self._tick()


def _strong(cache: MemoryCache) -> Callable[[], MemoryCache | None]:
    return lambda: cache
