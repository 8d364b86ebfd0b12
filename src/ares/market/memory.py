"""A budget of memory that registered caches keep to."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

from ares.core.errors import ConfigError, MemoryBudgetError
from ares.market.budget import memory_limit, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger("ares.market.memory")

_FITS: Final = 1 << 30
"""Bytes in which a training on daily bars fits, libraries included."""


class MemoryCache(Protocol):
    """What a cache offers to be registered."""

    @property
    def nbytes(self) -> int:
        """Bytes held now."""

    def evict(self) -> int:
        """Let go of everything that can be made again, and return the bytes that it took."""


class MemoryManager:
    """Keeps the process tree within a share of the memory there is, by evicting caches.

    Args:
        memory_threshold: Share of the smaller of physical memory and the cgroup's limit.
        budget: Bytes, or a size like "2GiB", that replaces that share.
        usage: Measures the bytes in use; default: resident memory of the process tree.

    Raises:
        ConfigError: A threshold outside (0, 1], or a budget that is no size.
    """

    def __init__(
        self,
        memory_threshold: float = 0.8,
        *,
        budget: int | str | None = None,
        usage: Callable[[], int] | None = None,
    ) -> None:
        if not 0 < memory_threshold <= 1:
            raise ConfigError(
                "memory_threshold must lie in (0, 1]",
                value=memory_threshold,
                where="computational_optimization.memory_management",
            )
        self.memory_threshold = memory_threshold
        self.limit_bytes = memory_limit()
        stated = parse_size(budget) if isinstance(budget, str) else budget
        self.budget_bytes = int(memory_threshold * self.limit_bytes) if stated is None else stated
        self._usage = usage or tree_bytes
        self._lock = threading.Lock()
        self._caches: dict[int, Callable[[], MemoryCache | None]] = {}
        self._evictions = 0
        self._freed = 0
        self._warned = False
        self.base_bytes = self._usage()
        self._peak = self.base_bytes

    def check_base(self) -> None:
        """Refuse a budget that the process alone passes, before any work.

        Raises:
            MemoryBudgetError: it does.
        """
        if self.budget_bytes <= self.base_bytes:
            fits = max(_FITS, 2 * self.base_bytes) >> 20
            raise MemoryBudgetError(
                f"the process alone takes {self.base_bytes >> 20} MiB of the memory budget",
                value=f"{self.budget_bytes} bytes",
                where="computational_optimization.memory_management",
                remedy=f"{fits} MiB would fit: --memory {fits}MiB.",
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
        """Measure the bytes in use now, and remember the peak."""
        used = self._usage()
        self._peak = max(self._peak, used)
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

        `base_bytes` is what the process took when the manager was made, imports included.
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
    def watch(self, interval: float = 0.1) -> Iterator[MemoryManager]:
        """Sample every `interval` seconds in the background, and keep the budget meanwhile."""
        stop = threading.Event()

        def run() -> None:
            while not stop.wait(interval):
                self.check_memory_usage()

        thread = threading.Thread(target=run, name="ares-memory", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()
            self.sample()

    def _live(self) -> list[MemoryCache]:
        """Registered caches that still exist, least recently used first."""
        with self._lock:
            self._caches = {k: held for k, held in self._caches.items() if held() is not None}
            return [cache for held in self._caches.values() if (cache := held()) is not None]


def tree_bytes() -> int:
    """Resident memory of this process and its children, in bytes."""
    import psutil

    total = 0
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += int(process.memory_info().rss)
    return total


def _strong(cache: MemoryCache) -> Callable[[], MemoryCache | None]:
    return lambda: cache
