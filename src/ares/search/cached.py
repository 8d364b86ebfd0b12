"""CachedBacktester: results are looked up before anything runs. Transparent: never changes one."""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ares.backtest.result import Outcome
from ares.backtest.strategies import SmaCross
from ares.core.environment import environment_salt
from ares.core.errors import ConfigError, InputError
from ares.core.identity import fingerprint
from ares.core.interrupts import check_interrupted
from ares.search.blocks import MAX_FLAT_BLOCKS, BlockTable
from ares.search.evaluator import EngineEvaluator, fallbacks_of, problem_of
from ares.search.frames import bars_from, technical_indicators
from ares.search.points import point_bytes
from ares.search.scorestore import Memory, Request, ScoreStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from ares.backtest.costs import Costs
    from ares.core.types import Fill, Float64Array
    from ares.market.bars import Bars
    from ares.search.blocks import BlockResults
    from ares.search.evaluator import BacktestEvaluator, Point, Problem
    from ares.search.objective import Objective, Score

_log = logging.getLogger("ares.search")

_LEAST: Final = 8  # points of a piece at least, and two for each worker
_SECONDS: Final = 2.0


class CachedBacktester:
    """An in-memory LRU over a persistent store, over an evaluator.

    The key covers bar content, strategy code and settings, normalised parameters, costs, fill,
    max_gap and blocks, salted with the digest of Ares, the library versions and the processor.
    What is stored are block results; the objective is computed from them, so another objective
    hits the same entries.

    Args:
        market_data: `Bars`, or a frame of bars (leniently read); None where `inner` knows it.
        strategy: What to backtest, where `inner` is not given.
        costs: Per side; None gives the calendar's defaults. Only without `inner`.
        max_cache_size: Results kept in memory.
        store: SQLite file of the persistent level; None keeps results in memory only. A file that
            cannot be used is one warning and an entry in `stats()["fallbacks"]`.
        inner: Evaluator that answers misses; default: the plain engine on `market_data`.
        fill: Where decisions are filled. Only without `inner`.
        max_gap: As in `simulate`. Only without `inner`.
        objective: What `run_cached_backtest` returns. Only without `inner`.
        n_blocks: Scoring blocks. Only without `inner`.

    Raises:
        ConfigError: `max_cache_size` below 1.
        InputError: neither market data nor `inner`.
    """

    def __init__(
        self,
        market_data: pd.DataFrame | Bars | None = None,
        *,
        strategy: Any = None,
        costs: Costs | None = None,
        max_cache_size: int = 1000,
        store: str | Path | None = None,
        inner: BacktestEvaluator | None = None,
        fill: Fill = "next_open",
        max_gap: int | None = None,
        objective: Objective | None = None,
        n_blocks: int = 16,
    ) -> None:
        if max_cache_size < 1:
            raise ConfigError(
                "max_cache_size must be at least 1", value=max_cache_size, where="max_cache_size"
            )
        if inner is None and market_data is None:
            raise InputError("a backtester needs market data or an inner evaluator")
        self._data = market_data
        self._inner: BacktestEvaluator = inner or EngineEvaluator(
            bars_from(market_data),
            strategy or SmaCross(),
            costs=costs,
            fill=fill,
            max_gap=max_gap,
            objective=objective,
            n_blocks=n_blocks,
        )
        self._memory = Memory(max_cache_size)
        self._store = None if store is None else ScoreStore(Path(store))
        self._counts = {"memory_hits": 0, "store_hits": 0, "misses": 0}
        self._fallbacks: list[str] = []
        self._indicators: dict[str, Float64Array] | None = None
        self._pace = _Pace(getattr(self._inner, "n_workers", 1))
        self._prefix = self._key_prefix()
        self._watch()

    @property
    def problem(self) -> Problem:
        """What is evaluated."""
        return self._inner.problem

    @property
    def memory_bytes(self) -> int:
        """Bytes of the results in memory."""
        return self._memory.nbytes

    @property
    def technical_indicators(self) -> dict[str, Float64Array]:
        """Arrays, one value per row of the market data, NaN where undefined (computed once).

        `sma_20 sma_50 ema_12 ema_26 rsi atr volatility volume_sma`, as far as the columns allow;
        what cannot be computed is left out with one warning. NaN splits the series: each stretch
        starts anew.
        """
        if self._indicators is None:
            data = self._inner.problem.bars if self._data is None else self._data
            self._indicators = technical_indicators(data)
        return self._indicators

    def run_cached_backtest(self, params: Mapping[str, Any]) -> float:
        """The full objective of one point; -inf where it has none."""
        return self.evaluate([params])[0].value

    def evaluate(
        self, points: Sequence[Point], blocks: Sequence[int] | None = None, *, of: int | None = None
    ) -> list[Score]:
        """As `Evaluator.evaluate`; equal points of one call run once."""
        if self._prefix is None:
            return self._inner.evaluate(points, blocks, of=of)
        requests = self._requests(points, blocks, of)
        found = self._look_up(requests)
        scores = self._known(found, flat=blocks is not None)
        lacking: dict[bytes, int] = {}
        for at, request in enumerate(requests):
            if request.key not in found:
                lacking.setdefault(request.key, at)
        for keys in self._pace.pieces(list(lacking)):
            with self._pace.timed(len(keys)):
                missing = [points[lacking[key]] for key in keys]
                fresh = self._inner.evaluate(missing, blocks, of=of)
            scores |= dict(zip(keys, fresh, strict=True))
            self._remember([(requests[lacking[key]], scores[key]) for key in keys])
        return [scores[request.key] for request in requests]

    def daily_returns(self, points: Sequence[Point]) -> Float64Array:
        """As `BacktestEvaluator.daily_returns`; whole curves are not cached."""
        return self._inner.daily_returns(points)

    def stats(self) -> dict[str, Any]:
        """Hits, misses, evictions, sizes, quarantined rows and the fallbacks taken."""
        store = self._store
        return {
            **self._counts,
            "entries": len(self._memory),
            "memory_bytes": self.memory_bytes,
            "max_cache_size": self._memory.max_entries,
            "evictions": self._memory.evictions,
            "stored": store.rows() if store else 0,
            "quarantined": store.quarantined if store else 0,
            "fallbacks": [*self._fallbacks, *fallbacks_of(self._inner)],
        }

    def evict(self, share: float = 0.5) -> int:
        """Drop this share of the results in memory, least recently used first; how many went."""
        return self._memory.evict(share)

    def close(self) -> None:
        """Close the persistent store."""
        if self._store is not None:
            self._store.close()

    def _key_prefix(self) -> str | None:
        problem = problem_of(self._inner)
        prefix = None if problem is None else cache_prefix(problem)
        if prefix is None:
            self._fall_back("uncached: the evaluator or its strategy has no identity")
        return prefix

    def _requests(
        self, points: Sequence[Point], blocks: Sequence[int] | None, of: int | None
    ) -> list[Request]:
        """What the entries of points are found by."""
        assert self._prefix is not None  # noqa: S101  # the caller looked
        which = "" if blocks is None else f"{of or MAX_FLAT_BLOCKS}:{','.join(map(str, blocks))}"
        head, normalise = key_head(self._prefix, which), self.problem.normalise
        every = [point_bytes(normalise(point)) for point in points]
        return [Request(key_of(head, params), params, which) for params in every]

    def _look_up(self, requests: list[Request]) -> dict[bytes, tuple[BlockResults, str]]:
        found: dict[bytes, tuple[BlockResults, str]] = {}
        wanted = dict.fromkeys(request.key for request in requests)
        for key in wanted:
            result = self._memory.get(key)
            if result is not None:
                found[key] = (result, "memory")
        self._counts["memory_hits"] += len(found)
        missing = [key for key in wanted if key not in found]
        if self._store is not None and missing:
            stored = self._store.get_many(missing)
            self._counts["store_hits"] += len(stored)
            for key, result in stored.items():
                self._memory.put(key, result)
                found[key] = (result, "store")
            self._watch()
        self._counts["misses"] += len(wanted) - len(found)
        return found

    def _known(
        self, found: dict[bytes, tuple[BlockResults, str]], *, flat: bool
    ) -> dict[bytes, Score]:
        """Scores of what was found: the objective is computed, not stored."""
        scores: dict[bytes, Score] = {}
        for source in ("memory", "store"):
            mine = {key: result for key, (result, place) in found.items() if place == source}
            if mine:
                table = BlockTable.of(list(mine.values()))
                scores |= zip(
                    mine, self.problem.scores(table, flat=flat, source=source), strict=True
                )
        return scores

    def _remember(self, fresh: list[tuple[Request, Score]]) -> None:
        # A run without numbers may have failed for a passing reason: it is tried again.
        # What a policy inside stopped early is no result of a whole run.
        check_interrupted()
        good = [
            (request, score.blocks)
            for request, score in fresh
            if score.full and score.outcome is not Outcome.NOT_FINITE
        ]
        for request, blocks in good:
            self._memory.put(request.key, blocks)
        if self._store is not None and good and self._prefix is not None:
            self._store.put_many(self._prefix, good)
            self._watch()

    def _watch(self) -> None:
        """Give up a store that failed, visibly and once."""
        if self._store is not None and self._store.failure is not None:
            self._fall_back(f"uncached on disk: {self._store.failure}")
            self._store = None

    def _fall_back(self, note: str) -> None:
        _log.warning(note)
        self._fallbacks.append(note)


def cache_prefix(problem: Problem) -> str | None:
    """What all keys of a problem share: all that shapes its results, and this environment."""
    if problem.identity is None:
        return None
    return fingerprint((problem.identity, environment_salt()))


def key_head(prefix: str, blocks: str) -> bytes:
    """What the keys of one problem and these blocks begin with."""
    return f"{prefix}\0{blocks}\0".encode()


def key_of(head: bytes, params: bytes) -> bytes:
    """The key of an entry: the digest of all that it answers."""
    return hashlib.blake2b(head + params, digest_size=20).digest()


class _Pace:
    """Cuts misses into pieces of a few seconds: what a piece found is kept if the next is killed."""

    def __init__(self, workers: int) -> None:
        self._least = max(_LEAST, 2 * workers)
        self._each: float | None = None

    def pieces(self, keys: list[bytes]) -> Iterator[list[bytes]]:
        """The keys, in their order; each piece is as long as the ones before were fast."""
        while keys:
            size = 0 if self._each is None else int(_SECONDS / max(self._each, 1e-9))
            size = max(size, self._least)
            yield keys[:size]
            keys = keys[size:]

    @contextmanager
    def timed(self, count: int) -> Iterator[None]:
        """Take the time of a piece."""
        began = time.perf_counter()
        yield
        self._each = (time.perf_counter() - began) / count


class EvictableCache:
    """The memory of a cached backtester as a memory manager sees it, which holds it weakly."""

    def __init__(self, backtester: CachedBacktester) -> None:
        self._backtester = backtester

    @property
    def nbytes(self) -> int:
        """Bytes of the results in memory."""
        return self._backtester.memory_bytes

    def evict(self) -> int:
        """Let go of all results in memory; the bytes that they took."""
        held = self.nbytes
        self._backtester.evict(1.0)
        return held
