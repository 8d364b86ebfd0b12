"""Memory: data frames made small without loss, and a budget that registered caches keep to."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import numpy as np

from ares.core.errors import ConfigError, DataError, MemoryBudgetError
from ares.market.arrowfile import DECIMALS_KEY, check_footer, check_parquet_frame, decimals_of
from ares.market.budget import memory_limit, parse_size
from ares.market.frames import exact_of_float32
from ares.market.shrink import smaller
from ares.market.table import guarded
from ares.store.atomic import write_atomic

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    import pandas as pd

_log = logging.getLogger("ares.market.memory")

Compression: TypeAlias = Literal["zstd", "snappy", "gzip", "lz4", "none"]

_FITS: Final = 1 << 30
"""Bytes in which a training on daily bars fits, libraries included."""

DECIMALS: Final = "decimals"
"""Key of `df.attrs`: column name to the decimals that its float32 values stand for."""


@dataclasses.dataclass(frozen=True)
class OptimizationReport:
    """What `optimize_dataframe` did: bytes before and after, and the columns it changed."""

    bytes_before: int
    bytes_after: int
    changes: tuple[str, ...]

    @property
    def saved(self) -> int:
        """Bytes saved."""
        return self.bytes_before - self.bytes_after


class MemoryEfficientDataManager:
    """Makes frames smaller without losing a bit, keeps them in Parquet and hands out views."""

    def __init__(self) -> None:
        self._report: OptimizationReport | None = None

    @property
    def report(self) -> OptimizationReport | None:
        """What the last `optimize_dataframe` did."""
        return self._report

    def optimize_dataframe(self, df: pd.DataFrame) -> pd.DataFrame:
        """A smaller frame with the same values; `df` is not modified.

        Integers get the smallest type that holds them. A float64 column becomes float32 only
        where every value comes back exactly at the column's decimals, which are kept in
        `attrs["decimals"]` of the result: `restore` and `Bars.from_frame` return the exact
        float64. Strings with few distinct values become categories. NaN stays NaN.

        Raises:
            DataError: Two columns have one name.
        """
        if not df.columns.is_unique:
            raise DataError("each column may be named once", where="optimize_dataframe")
        decimals = dict(df.attrs.get(DECIMALS, {}))
        columns: dict[Any, Any] = {}
        changes: list[str] = []
        for name in df.columns:
            column = df[name]
            columns[name], places = smaller(column)
            if places is not None:
                decimals[name] = places
            if columns[name].dtype != column.dtype:
                note = f" at {places} decimals" if places is not None else ""
                changes.append(f"{name}: {column.dtype} to {columns[name].dtype}{note}")
        result = df.assign() if not columns else _frame_like(df, columns)
        result.attrs = {**df.attrs, DECIMALS: decimals}
        self._report = OptimizationReport(_bytes_of(df), _bytes_of(result), tuple(changes))
        _log.info("optimize_dataframe: %s", self._report)
        return result

    def restore(self, df: pd.DataFrame) -> pd.DataFrame:
        """The exact float64 columns of a frame that `optimize_dataframe` made."""
        decimals = df.attrs.get(DECIMALS, {})
        exact = {
            name: exact_of_float32(df[name].to_numpy(dtype=np.float64), places)
            for name, places in decimals.items()
            if name in df.columns and df[name].dtype == np.float32
        }
        result = df.assign(**exact)
        result.attrs = {key: value for key, value in df.attrs.items() if key != DECIMALS}
        return result

    def save_to_parquet(
        self,
        df: pd.DataFrame,
        path: str | os.PathLike[str],
        compression: Compression = "zstd",
    ) -> None:
        """Write a frame as Parquet, all at once or not at all; `attrs["decimals"]` goes with it.

        Raises:
            DataError: A column's name or type cannot be written.
            StoreError: The disk is full, read-only or failing; an older file is then intact.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with guarded(str(path)):
            bare = df.copy(deep=False)
            bare.attrs = {}
            table = pa.Table.from_pandas(bare)
            note = json.dumps(df.attrs.get(DECIMALS, {}), sort_keys=True).encode()
            table = table.replace_schema_metadata({**table.schema.metadata, DECIMALS_KEY: note})
        write_atomic(path, lambda file: pq.write_table(table, file, compression=compression))

    def load_from_parquet(self, path: str | os.PathLike[str]) -> pd.DataFrame:
        """The frame that `save_to_parquet` wrote, types and `attrs["decimals"]` included.

        Raises:
            DataError: Missing, damaged, or more to decode than the file can honestly hold.
        """
        import pyarrow.parquet as pq

        where = str(path)
        file_path = Path(path)
        with guarded(where):
            check_parquet_frame(file_path, where)
            with pq.ParquetFile(file_path) as file:
                check_footer(file.metadata, file_path.stat().st_size, where)
                table = file.read()
            df: pd.DataFrame = table.to_pandas()
            decimals = decimals_of(table.schema.metadata, where)
            if decimals:
                df.attrs[DECIMALS] = decimals
        return df

    def get_subset(self, df: pd.DataFrame, start: Any, end: Any) -> pd.DataFrame:
        """Rows from `start` to `end` (exclusive) as a view: nothing is copied.

        Args:
            df: The frame; its index, or its column `timestamp`, must be sorted to cut by time.
            start: Row position, or a time; None is the first row.
            end: Row position or time after the last row; None is the end.

        Returns:
            A frame that shares memory with `df`; writing to it never reaches `df`.
        """
        first = 0 if start is None else _position(df, start)
        last = len(df) if end is None else _position(df, end)
        return df.iloc[first:last]


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


def _frame_like(df: pd.DataFrame, columns: dict[Any, Any]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(columns, index=df.index, copy=False)
    frame.columns = df.columns
    return frame


def _bytes_of(df: pd.DataFrame) -> int:
    return int(df.memory_usage(deep=True).sum())


def _position(df: pd.DataFrame, bound: Any) -> int:
    """Row position of a bound that is a position or a time."""
    import pandas as pd

    if isinstance(bound, int | np.integer):
        return int(bound)
    times = df["timestamp"] if "timestamp" in df.columns else df.index
    dtype = times.dtype
    moment = pd.Timestamp(bound)
    zone = getattr(dtype, "tz", None)
    if zone is not None and moment.tzinfo is None:
        moment = moment.tz_localize(zone)
    elif zone is None and moment.tzinfo is not None:
        moment = moment.tz_convert("UTC").tz_localize(None)
    return int(times.searchsorted(moment, side="left"))


def _strong(cache: MemoryCache) -> Callable[[], MemoryCache | None]:
    return lambda: cache
