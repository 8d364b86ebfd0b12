"""ParallelBacktester: points in several workers. Transparent: the same results in any order."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from ares.backtest.strategies import SmaCross
from ares.core.environment import environment_salt
from ares.core.errors import AresError, ConfigError, InputError
from ares.core.identity import fingerprint
from ares.search.evaluator import EngineEvaluator, engine_of, fallbacks_of
from ares.search.frames import bars_from
from ares.search.workers.crews import crew_for
from ares.search.workers.dispatch import (
    CHUNK_SECONDS,
    CannotLoadError,
    CrewLostError,
    Dispatch,
    Pace,
)
from ares.search.workers.pools import Workers, make_executor
from ares.search.workers.worker import MAX_PROBLEMS, Cargo, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from ares.backtest.costs import Costs
    from ares.core.types import Float64Array
    from ares.market.bars import Bars
    from ares.search.evaluator import BacktestEvaluator, Point, Problem
    from ares.search.objective import Objective, Score
    from ares.search.workers.worker import Answer

_log = logging.getLogger("ares.search")


@dataclasses.dataclass(frozen=True)
class _Packed:
    """An evaluator, as it is sent, and the points that are known to kill its workers."""

    evaluator: BacktestEvaluator
    cargo: Cargo
    killers: set[str] = dataclasses.field(default_factory=set)


class ParallelBacktester:
    """Points in threads (kernels release the GIL), spawned processes, Dask, or any `Executor`.

    Results never depend on the number of workers, on chunks, or on who finished first. A worker
    process is sent each problem once and keeps it. Where one dies, its chunk runs again, in ever
    smaller pieces; a point that kills its worker every time has no score (NOT_FINITE), with one
    warning.
    A pool that breaks is one warning and an entry in `stats()["fallbacks"]`: what may have killed
    it runs on in processes of our own, never in this one; otherwise the work goes on serially.

    Args:
        n_workers: Default: the processors this process may use.
        executor: Pool to use; it is not shut down here. Workers in other processes must be able
            to load the inner evaluator.
        strategy: What to backtest, where `inner` is not given.
        costs: Per side; None gives the calendar's defaults. Only without `inner`.
        inner: Evaluator that runs in the workers; default: the plain engine on the market data of
            `evaluate_batch`.
        objective: What is maximised. Only without `inner`.
        workers: "threads"; "processes", for strategies that hold the GIL or may crash; "dask". What
            cannot be sent to a process runs in threads, with one warning.
        scheduler: Address of a Dask scheduler; None starts a local cluster. Only for "dask".
        chunk_seconds: What a chunk should take in another process.

    Raises:
        ConfigError: `n_workers` below 1, or unknown `workers`; and, at the first use of Dask, where
            it is not installed or no scheduler answers.
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
        workers: Workers = "threads",
        scheduler: str | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> None:
        if n_workers is not None and n_workers < 1:
            raise ConfigError("n_workers must be at least 1", value=n_workers, where="n_workers")
        if workers not in get_args(Workers):
            raise ConfigError(
                f"workers are one of {', '.join(get_args(Workers))}",
                value=workers,
                where="workers",
            )
        self.n_workers = n_workers or processors()
        self._workers, self._scheduler = workers, scheduler
        self._chunk_seconds = chunk_seconds
        self._given = executor
        self._own: Executor | None = None
        self._instead: Literal["serial", "threads", "processes"] | None = None
        self._strategy = strategy or SmaCross()
        self._costs = costs
        self._objective = objective
        self._inner = inner
        self._data: EngineEvaluator | None = None
        self._lock = threading.Lock()
        self._counts = {"points": 0, "chunks": 0, "failed": 0}
        self._fallbacks: list[str] = []
        self._packed: list[_Packed] = []
        self._paces: dict[str, Pace] = {}
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the own workers at once; an executor that was given stays with its owner."""
        with self._lock:
            own, self._own = self._own, None
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)

    @property
    def problem(self) -> Problem:
        """What is evaluated."""
        return self._evaluator().problem

    def evaluate_batch(
        self, param_batch: Sequence[Mapping[str, Any]], market_data: pd.DataFrame | Bars
    ) -> list[float]:
        """The full objective of each point on `market_data`; -inf where it has none."""
        evaluator = self._evaluator(market_data)
        return [score.value for score in self._scores(evaluator, param_batch, None, None)]

    def evaluate(
        self, points: Sequence[Point], blocks: Sequence[int] | None = None, *, of: int | None = None
    ) -> list[Score]:
        """As `Evaluator.evaluate`, on `inner` or on the market data given last."""
        return self._scores(self._evaluator(), points, blocks, of)

    def daily_returns(self, points: Sequence[Point]) -> Float64Array:
        """As `BacktestEvaluator.daily_returns`."""
        evaluator = self._evaluator()
        rows, _ = self._run(evaluator, Task("", list(points), kind="returns"))
        out = evaluator.daily_returns([])
        if rows:
            width = len(next(iter(rows.values())))
            out = np.full((len(points), width), np.nan)
            for place, row in rows.items():
                out[place] = row
        elif points:
            out = np.full((len(points), out.shape[1]), np.nan)
        return out

    def stats(self) -> dict[str, Any]:
        """Workers, points, chunks, points that killed their workers, and the fallbacks taken."""
        return {
            "workers": 1 if self._instead == "serial" else self.n_workers,
            **self._counts,
            "sent": getattr(self._given or self._own, "sent", 0),
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

    def _scores(
        self,
        evaluator: BacktestEvaluator,
        points: Sequence[Point],
        blocks: Sequence[int] | None,
        of: int | None,
    ) -> list[Score]:
        wanted = None if blocks is None else list(blocks)
        found, dead = self._run(evaluator, Task("", list(points), "scores", wanted, of))
        if dead:
            # The engine itself says what a run is worth that could not be made.
            stand_in = engine_of(
                dataclasses.replace(evaluator.problem, strategy=_Deadly(evaluator))
            )
            failed = stand_in.evaluate([points[place] for place in dead], wanted, of=of)
            found |= dict(zip(dead, failed, strict=True))
        return [found[place] for place in range(len(points))]

    def _run(self, evaluator: BacktestEvaluator, task: Task) -> tuple[dict[int, Any], list[int]]:
        """Values by the place of their point, and the places that have none for a dead worker."""
        points = task.points
        self._counts["points"] += len(points)
        cursed = set(self._cursed(evaluator, points))
        places = [place for place in range(len(points)) if place not in cursed]
        task = dataclasses.replace(task, points=[points[place] for place in places])
        values, dead = self._dispatched(evaluator, task) if places else ([], [])
        found = {places[first + i]: value for first, part in values for i, value in enumerate(part)}
        killers = [places[at] for at in dead]
        self._bewail(evaluator, [points[place] for place in killers])
        return found, sorted({*cursed, *killers})

    def _dispatched(
        self, evaluator: BacktestEvaluator, task: Task
    ) -> tuple[list[tuple[int, Any]], list[int]]:
        """Run a task on what there is, down to this thread; never there what may kill it."""
        executor = self._executor(len(task.points))
        cargo = self._cargo(evaluator, executor)
        if cargo is None and not (executor is None or isinstance(executor, ThreadPoolExecutor)):
            executor = self._executor(len(task.points))
        task = dataclasses.replace(task, digest=cargo.digest if cargo else "")
        kind = f"{task.digest} {task.kind} {len(task.blocks or ())} {task.of}"
        dispatch = Dispatch(
            task,
            crew_for(executor, evaluator, cargo, self.n_workers),
            self._paces.setdefault(kind, Pace()),
            target=self._chunk_seconds,
            hear=self._hear,
        )
        while True:
            try:
                values = dispatch.run()
            except (CannotLoadError, CrewLostError) as error:
                self._fall_back(error, suspected=dispatch.suspected)
                executor = self._executor(len(task.points))
                dispatch.crew = crew_for(executor, evaluator, cargo, self.n_workers)
            else:
                self._counts["chunks"] += dispatch.chunks
                return values, dispatch.dead

    def _executor(self, n_points: int) -> Executor | None:
        """What runs the points; None is this thread."""
        if self._instead is None and self._given is not None:
            return self._given
        kind = self._instead or self._workers
        if kind == "serial" or (kind == "threads" and (self.n_workers == 1 or n_points < 2)):
            return None
        with self._lock:
            if self._own is None:
                self._own = make_executor(kind, self.n_workers, self._scheduler)
            return self._own

    def _cargo(self, evaluator: BacktestEvaluator, executor: Executor | None) -> Cargo | None:
        """The evaluator as it is sent; None where nothing is, or nothing can be."""
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            return None
        known = self._known(evaluator)
        if known is not None:
            return known.cargo
        try:
            cargo = Cargo.of(evaluator)
        except Exception as error:  # noqa: BLE001  # a user's object may refuse in any way
            self._fall_back(CannotLoadError(f"{type(error).__name__}: {error}"), suspected=False)
            return None
        with self._lock:
            self._packed = [_Packed(evaluator, cargo), *self._packed[: MAX_PROBLEMS - 1]]
        return cargo

    def _fall_back(self, error: Exception, *, suspected: bool) -> None:
        """Choose what runs on: processes where a worker may have been killed, else this process."""
        died = isinstance(error, CrewLostError) and error.died
        if suspected and not died:
            raise AresError(
                "points that may have killed a worker run in other processes only",
                value=str(error),
                remedy="Free some memory, or look for what keeps processes from starting.",
            ) from error
        self.close()
        if isinstance(error, CannotLoadError):
            self._instead = "threads"
            note = f"threads: workers cannot load the strategy or the evaluator ({error})"
        else:
            self._instead = "processes" if died else "serial"
            what = "own processes" if died else "serial"
            note = f"{what}: the pool broke ({error})"
        _log.warning(note)
        self._fallbacks.append(note)

    def _known(self, evaluator: BacktestEvaluator) -> _Packed | None:
        with self._lock:
            return next((one for one in self._packed if one.evaluator is evaluator), None)

    def _cursed(self, evaluator: BacktestEvaluator, points: Sequence[Point]) -> list[int]:
        """Places of points that killed their workers before."""
        known = self._known(evaluator)
        killers = known.killers if known else ()
        return [i for i, p in enumerate(points) if killers and fingerprint(dict(p)) in killers]

    def _bewail(self, evaluator: BacktestEvaluator, killers: list[Point]) -> None:
        """Count points that killed their workers every time; they are not tried again."""
        known = self._known(evaluator)
        for point in killers:
            if known is not None:
                known.killers.add(fingerprint(dict(point)))
            self._counts["failed"] += 1
            note = "a point has no score because it killed its worker every time"
            level = logging.DEBUG if note in self._said else logging.WARNING
            _log.log(level, "%s: %r", note, point)
            if note not in self._said:
                self._fallbacks.append(f"{note}: {point!r}")
            self._said.add(note)

    def _hear(self, answer: Answer) -> None:
        """Say what workers would have logged: each kind of warning once, as in one process."""
        for name, level, template, text in answer.warnings:
            seen = template in self._said
            self._said.add(template)
            logging.getLogger(name).log(logging.DEBUG if seen else level, "%s", text)
        if answer.salt and answer.salt != environment_salt() and answer.salt not in self._said:
            self._said.add(answer.salt)
            note = "workers run on another kind of processor: the last bits of results may differ"
            _log.warning(note)
            self._fallbacks.append(note)


class _Deadly:
    """Stands in for the strategy at points that killed their workers."""

    def __init__(self, evaluator: BacktestEvaluator) -> None:
        self.name = "deadly"
        self.space = evaluator.problem.strategy.space

    def prepare(self, bars: Bars, *, max_gap: int | None = None) -> None:
        """Nothing to prepare."""

    def signals(self, prepared: None, params: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """There are none."""
        raise AresError("its worker died")


def processors() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every platform
        return os.cpu_count() or 1
