"""Walk-forward: anchored windows, a refit inside each, one stitched out-of-sample curve.

The refit is a function of the caller; nothing here knows what it does. Window k is trained on bars
[0, train_stop) and tested on [test_start, test_stop); purging at the border is the refit's duty,
by the end times of its labels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from ares.core.errors import DataError, InputError
from ares.core.types import Float64Array, Int64Array, readonly
from ares.store.codecs import register
from ares.validate.bootstrap import checked_returns
from ares.validate.overfitting import moments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from ares.core.config import WalkForwardConfig

R = TypeVar("R")
_EVERY_DAY: Final = 365.0
_PIECE: Final = 1 << 16


@register(schema=1)
@dataclass(frozen=True)
class Window:
    """Train on bars [0, train_stop), test on bars [test_start, test_stop)."""

    index: int
    train_stop: int
    test_start: int
    test_stop: int


@register(schema=2)
@dataclass(frozen=True, eq=False)
class WindowResult:
    """What one refit made of its window, in plain values.

    Attributes:
        window: Which one.
        day: Days since 1970-01-01 (UTC), increasing, (d,) int64.
        daily_returns: Net daily returns of the test days, (d,).
        benchmark_returns: Buy and hold on the same days, (d,).
        exposure: Share of the test closes held; NaN where unknown.
        train_returns: Net daily returns in sample of what was tested; may be empty.
        trades: Round trips of the test bars.
        closes: Equity at each test close, from 1.0 before the first; None: known by day only.
    """

    window: Window
    day: Int64Array
    daily_returns: Float64Array
    benchmark_returns: Float64Array
    exposure: float
    train_returns: Float64Array
    trades: pd.DataFrame
    closes: Float64Array | None = None

    def __post_init__(self) -> None:
        where = f"window {self.window.index}"
        days = len(self.day)
        for name in ("daily_returns", "benchmark_returns"):
            checked_returns(getattr(self, name), f"{where}: {name}", length=days)
        checked_returns(self.train_returns, f"{where}: train_returns")
        if np.any(np.diff(self.day) <= 0):
            raise InputError("days must increase", where=where)
        for array in (self.day, self.daily_returns, self.benchmark_returns, self.train_returns):
            readonly(array)
        if self.closes is not None:
            readonly(self.closes)


@register(schema=1)
@dataclass(frozen=True)
class WindowSummary:
    """One row of the walk-forward table. Sharpe ratios are annualised."""

    window: Window
    n_days: int
    n_trades: int
    test_return: float
    benchmark_return: float
    test_sharpe: float
    train_sharpe: float
    efficiency: float


@register(schema=2)
@dataclass(frozen=True, eq=False)
class OutOfSample:
    """The stitched out-of-sample curve.

    Attributes:
        day: Days since 1970-01-01 (UTC), increasing.
        daily_returns: Net; a day that two windows share is compounded.
        benchmark_returns: Buy and hold on the same days.
        equity: At each day's end, from 1.0 before the first: windows multiply on.
        trades: All windows' round trips, with a column `window`.
        exposure: Share of closes held, weighted by the windows' bars.
        efficiency: Mean daily return out of sample over the mean in sample (Pardo 2008), both
            weighted by test days; NaN where the mean in sample is not positive.
        max_drawdown: Largest fall from a peak, a positive share of it, marked at every close (at
            the day's end in windows that know no closes); the start, 1.0, is a peak too.
        days_per_year: 365, 260 or 252.
        windows: One summary each.
    """

    day: Int64Array
    daily_returns: Float64Array
    benchmark_returns: Float64Array
    equity: Float64Array
    trades: pd.DataFrame
    exposure: float
    efficiency: float
    max_drawdown: float
    days_per_year: float
    windows: tuple[WindowSummary, ...]

    def __post_init__(self) -> None:
        for array in (self.day, self.daily_returns, self.benchmark_returns, self.equity):
            readonly(array)

    @property
    def n_trades(self) -> int:
        """Round trips of all windows."""
        return len(self.trades)


def windows(n: int, config: WalkForwardConfig) -> tuple[Window, ...]:
    """Anchored windows over `n` bars: the first trains on the share `config.first`.

    The rest is cut into `config.windows` equal test ranges (they differ by one bar at most), which
    cover it without overlap; each trains on everything before its own.

    Raises:
        DataError: a window would train or test on nothing.
    """
    start = int(config.first * n)
    count = config.windows
    borders = [start + (n - start) * k // count for k in range(count + 1)]
    if start < 1 or n - start < count:
        raise DataError(
            "every window needs bars to train and to test on",
            value={"bars": n, "windows": count, "first": config.first},
            remedy="Load more bars or ask for fewer windows (walk_forward.windows).",
        )
    return tuple(Window(k, borders[k], borders[k], borders[k + 1]) for k in range(count))


def walk_forward(n: int, config: WalkForwardConfig, refit: Callable[[Window], R]) -> list[R]:
    """Call `refit` for each of `windows(n, config)`, in order."""
    return [refit(window) for window in windows(n, config)]


def stitch(results: Sequence[WindowResult], *, days_per_year: float) -> OutOfSample:
    """Join the windows' results into one curve.

    Each window starts flat with the equity the one before ended with. Where a window border lies
    inside a day, the two parts of that day are compounded.

    Raises:
        InputError: no result, or windows that overlap or are out of order.
    """
    if not results:
        raise InputError("there is no window to stitch")
    for before, after in itertools.pairwise(results):
        in_order = after.window.test_start >= before.window.test_stop
        if not in_order or (len(before.day) and len(after.day) and after.day[0] < before.day[-1]):
            raise InputError(
                "windows must follow each other", value=(before.window.index, after.window.index)
            )
    day, group = np.unique(np.concatenate([r.day for r in results]), return_inverse=True)
    daily = _compounded([r.daily_returns for r in results], group, len(day))
    benchmark = _compounded([r.benchmark_returns for r in results], group, len(day))
    if days_per_year == _EVERY_DAY:
        day, daily, benchmark = _with_empty_days(day, daily, benchmark)
    bars = np.array([r.window.test_stop - r.window.test_start for r in results], dtype=np.float64)
    held = np.array([r.exposure for r in results])
    equity: Float64Array = np.cumprod(1.0 + daily, dtype=np.float64)
    return OutOfSample(
        day=day.astype(np.int64),
        daily_returns=daily,
        benchmark_returns=benchmark,
        equity=equity,
        trades=_joined([(r.window.index, r.trades) for r in results]),
        exposure=float((held * bars).sum() / bars.sum()),
        efficiency=_efficiency(results),
        max_drawdown=_drawdown(results),
        days_per_year=float(days_per_year),
        windows=tuple(_summary(r, days_per_year) for r in results),
    )


def _with_empty_days(
    day: Int64Array, daily: Float64Array, benchmark: Float64Array
) -> tuple[Int64Array, Float64Array, Float64Array]:
    """Round the clock a day without bars repeats the mark, also where it lies between windows."""
    if len(day) == 0:
        return day, daily, benchmark
    every = np.arange(day[0], day[-1] + 1)
    at = day - day[0]
    filled = np.zeros((2, len(every)))
    filled[0, at], filled[1, at] = daily, benchmark
    return every, filled[0], filled[1]


def _compounded(parts: list[Float64Array], group: Int64Array, days: int) -> Float64Array:
    returns = np.concatenate(parts)
    if days == len(returns):
        return returns
    growth = np.ones(days)
    np.multiply.at(growth, group, 1.0 + returns)
    shared = np.bincount(group, minlength=days)[group] > 1
    single = growth - 1.0
    single[group[~shared]] = returns[~shared]  # untouched days keep their bits
    return single


def _drawdown(results: Sequence[WindowResult]) -> float:
    """Largest fall of the chained closes; day's ends would hide what happens inside a day."""
    level = peak = 1.0
    worst = 0.0
    for result in results:
        by_day: Float64Array = np.cumprod(1.0 + result.daily_returns, dtype=np.float64)
        marks = by_day if result.closes is None else result.closes
        for start in range(0, len(marks), _PIECE):
            curve = level * marks[start : start + _PIECE]
            peaks = np.maximum(np.maximum.accumulate(curve), peak)
            worst = float(np.maximum(worst, np.max(1.0 - curve / peaks)))
            peak = float(peaks[-1])
        level = level * float(marks[-1]) if len(marks) else level
    return worst


def _efficiency(results: Sequence[WindowResult]) -> float:
    """Mean daily return out of sample over the mean in sample, weighted by test days."""
    usable = [r for r in results if len(r.day) and len(r.train_returns)]
    if not usable:
        return math.nan
    days = np.array([len(r.day) for r in usable], dtype=np.float64)
    inside = float(np.average([r.train_returns.mean() for r in usable], weights=days))
    outside = float(np.average([r.daily_returns.mean() for r in usable], weights=days))
    return outside / inside if inside > 0 else math.nan


def _summary(result: WindowResult, days_per_year: float) -> WindowSummary:
    year = math.sqrt(days_per_year)
    return WindowSummary(
        window=result.window,
        n_days=len(result.day),
        n_trades=len(result.trades),
        test_return=float(np.prod(1.0 + result.daily_returns) - 1.0),
        benchmark_return=float(np.prod(1.0 + result.benchmark_returns) - 1.0),
        test_sharpe=moments(result.daily_returns).sharpe * year,
        train_sharpe=moments(result.train_returns).sharpe * year,
        efficiency=_efficiency([result]),
    )


def _joined(tables: list[tuple[int, pd.DataFrame]]) -> pd.DataFrame:
    """All rows under one new index, with the window's number in front; empty tables keep types."""
    import pandas as pd

    filled = [(k, table) for k, table in tables if len(table)] or tables[:1]
    joined = pd.concat([table for _, table in filled], ignore_index=True)
    number = np.repeat([k for k, _ in filled], [len(table) for _, table in filled])
    joined.insert(0, "window", number.astype(np.int64))
    return joined
