"""ParallelBacktester: points in several workers. Transparent: the same results in any order."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from ares.backtest.strategies import SmaCross
from ares.core.errors import AresError, ConfigError, InputError
from ares.search.evaluator import EngineEvaluator, engine_of, fallbacks_of
from ares.search.frames import bars_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from ares.backtest.costs import Costs
    from ares.core.types import Float64Array
    from ares.market.bars import Bars
    from ares.search.evaluator import BacktestEvaluator, Point, Problem
    from ares.search.objective import Objective, Score

_log = logging.getLogger("ares.search")

_CHUNKS_PER_WORKER: Final = 4


class ParallelBacktester:
    """Threads (kernels release the GIL), or any `concurrent.futures.Executor`.

    A pool that breaks is one warning and an entry in `stats()["fallbacks"]`; the rest of the work
    is done serially. Results never depend on the number of workers or on who finished first.

    Args:
        n_workers: Default: the processors this process may use.
        executor: Pool to use; it is not shut down here. Its workers must be able to receive the
            inner evaluator (processes: strategy and evaluator by pickle).
        strategy: What to backtest, where `inner` is not given.
        costs: Per side; None gives the calendar's defaults. Only without `inner`.
        inner: Evaluator that runs in the workers; default: the plain engine on the market data of
            `evaluate_batch`.
        objective: What is maximised. Only without `inner`.

    Raises:
        ConfigError: `n_workers` below 1.
    """

    def __init__(
        self,
        n_workers: int | None = None,
        *,
        executor: Executor | None = None,
        strategy: Any = None,
        costs: Costs | None = None,
        inner: BacktestEvaluator | None = None,
        objective: Objective | None = None,
    ) -> None:
        if n_workers is not None and n_workers < 1:
            raise ConfigError("n_workers must be at least 1", value=n_workers, where="n_workers")
        self.n_workers = n_workers or processors()
        self._given = executor
        self._own: ThreadPoolExecutor | None = None
        self._broken = False
        self._strategy = strategy or SmaCross()
        self._costs = costs
        self._objective = objective
        self._inner = inner
        self._data: EngineEvaluator | None = None
        self._lock = threading.Lock()
        self._counts = {"points": 0, "chunks": 0}
        self._fallbacks: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the own threads; an executor that was given stays with its owner."""
        if self._own is not None:
            self._own.shutdown(wait=True, cancel_futures=True)
            self._own = None

    @property
    def problem(self) -> Problem:
        """What is evaluated."""
        return self._evaluator().problem

    def evaluate_batch(
        self, param_batch: Sequence[Mapping[str, Any]], market_data: pd.DataFrame | Bars
    ) -> list[float]:
        """The full objective of each point on `market_data`; -inf where it has none."""
        evaluator = self._evaluator(market_data)
        return [score.value for score in self._map(evaluator, param_batch, None, None)]

    def evaluate(
        self, points: Sequence[Point], blocks: Sequence[int] | None = None, *, of: int | None = None
    ) -> list[Score]:
        """As `Evaluator.evaluate`, on `inner` or on the market data given last."""
        return self._map(self._evaluator(), points, blocks, of)

    def daily_returns(self, points: Sequence[Point]) -> Float64Array:
        """As `BacktestEvaluator.daily_returns`."""
        evaluator = self._evaluator()
        chunks = self._chunks(points)
        parts = self._run([(_returns, evaluator, chunk) for chunk in chunks])
        return np.concatenate(parts) if parts else evaluator.daily_returns(points)

    def stats(self) -> dict[str, Any]:
        """Workers, points, chunks and the fallbacks taken."""
        return {
            "workers": 1 if self._broken else self.n_workers,
            **self._counts,
            "fallbacks": [*self._fallbacks, *fallbacks_of(self._inner)],
        }

    def _evaluator(self, market_data: pd.DataFrame | Bars | None = None) -> BacktestEvaluator:
        if market_data is not None:
            # A frame may have been written to since the last call: content is compared.
            bars = bars_from(market_data)
            if self._inner is not None and self._inner.problem.bars == bars:
                return self._inner
            if self._data is None or self._data.problem.bars != bars:
                self._data = self._engine(bars)
            return self._data
        if self._inner is not None:
            return self._inner
        if self._data is None:
            raise InputError(
                "a parallel backtester needs an inner evaluator or market data",
                where="ParallelBacktester",
                remedy="Give `inner=`, or call evaluate_batch(points, market_data).",
            )
        return self._data

    def _engine(self, bars: Bars) -> EngineEvaluator:
        if self._inner is None:
            return EngineEvaluator(
                bars, self._strategy, costs=self._costs, objective=self._objective
            )
        known = self._inner.problem
        return engine_of(dataclasses.replace(known, bars=bars, start=0, stop=len(bars)))

    def _map(
        self,
        evaluator: BacktestEvaluator,
        points: Sequence[Point],
        blocks: Sequence[int] | None,
        of: int | None,
    ) -> list[Score]:
        chunks = self._chunks(points)
        parts = self._run([(_scores, evaluator, chunk, blocks, of) for chunk in chunks])
        return [score for part in parts for score in part]

    def _chunks(self, points: Sequence[Point]) -> list[list[Point]]:
        """Contiguous chunks; how many there are shapes no result."""
        self._counts["points"] += len(points)
        size = max(1, -(-len(points) // (self.n_workers * _CHUNKS_PER_WORKER)))
        return [list(points[at : at + size]) for at in range(0, len(points), size)]

    def _run(self, tasks: list[tuple[Any, ...]]) -> list[Any]:
        """Results of `tasks` (function, *arguments), in their order."""
        self._counts["chunks"] += len(tasks)
        executor = self._executor()
        if executor is None or len(tasks) < 2:
            return [task(*rest) for task, *rest in tasks]
        results: list[Any] = []
        try:
            futures = [executor.submit(task, *rest) for task, *rest in tasks]
            try:
                for future in futures:
                    results.append(future.result())  # noqa: PERF401  # keeps what came before an error
            finally:
                for future in futures:
                    future.cancel()
        except AresError:
            raise
        except Exception as error:  # noqa: BLE001  # pools break in many ways; see below
            self._fall_back(error)
        # What fails for its own reason fails here again, with its own error.
        return results + [task(*rest) for task, *rest in tasks[len(results) :]]

    def _executor(self) -> Executor | None:
        if self._broken:
            return None
        if self._given is not None:
            return self._given
        if self.n_workers == 1:
            return None
        with self._lock:
            if self._own is None:
                self._own = ThreadPoolExecutor(self.n_workers, thread_name_prefix="ares-search")
            return self._own

    def _fall_back(self, error: Exception) -> None:
        self._broken = True
        note = f"serial: the pool broke ({type(error).__name__}: {error})"
        _log.warning(note)
        self._fallbacks.append(note)


def _scores(
    evaluator: BacktestEvaluator,
    points: Sequence[Point],
    blocks: Sequence[int] | None,
    of: int | None,
) -> list[Score]:
    return evaluator.evaluate(points, blocks, of=of)


def _returns(evaluator: BacktestEvaluator, points: Sequence[Point]) -> Float64Array:
    return evaluator.daily_returns(points)


def processors() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every platform
        return os.cpu_count() or 1
