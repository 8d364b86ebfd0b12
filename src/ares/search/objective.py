"""What a search maximises: one number from the block results of one continuous run."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np

from ares.backtest.result import Outcome
from ares.core.errors import ConfigError
from ares.search.blocks import max_drawdown

if TYPE_CHECKING:
    from ares.core.types import Float64Array, Int64Array
    from ares.search.blocks import BlockResults

_log = logging.getLogger("ares.search")

Named: TypeAlias = Literal["sharpe", "total_return", "calmar", "sortino"]
Statistic: TypeAlias = Callable[["BlockResults", float], float]

BAD: Final = -math.inf
"""What a bad point is worth as a float."""


@dataclass(frozen=True)
class Score:
    """What an evaluation says about one point.

    Attributes:
        value: The objective; -inf where `outcome` is not OK or the point was stopped.
        outcome: OK, or why there is no value.
        blocks: Block results: of the continuous run, or of the flat-start blocks asked for.
        error: Jackknife standard error of the objective's statistic over the blocks, NaN if
            undefined.
        stage: None for a full result, otherwise the stage (from 1) after which it was stopped.
        revealed: What the stopped point was ranked by: the statistic of its revealed blocks.
        audit: Full value of a stopped point that was run to the end to measure false stops.
        source: Where the answer came from; volatile, no part of equality.
    """

    value: float
    outcome: Outcome
    blocks: BlockResults
    error: float = math.nan
    stage: int | None = None
    revealed: float = math.nan
    audit: float | None = None
    source: str = field(default="engine", compare=False)

    @property
    def full(self) -> bool:
        """Whether this is the value of a full evaluation."""
        return self.stage is None


@dataclass(frozen=True)
class Objective:
    """A pooled statistic less `penalty` jackknife standard errors over the blocks.

    Args:
        statistic: "sharpe" (annualised, of the pooled daily returns), "sortino" (the same with the
            downside deviation), "total_return" (of the whole range), "calmar" (annual growth over
            the largest drawdown of the daily marks), or a function of (block results, days per
            year), taken as it is: without penalty. One that raises or gives NaN makes the point
            NOT_FINITE.
        penalty: Standard errors taken off.
        min_trades: Fewer closed trades have no score.
    """

    statistic: Named | Statistic = "sharpe"
    penalty: float = 1.0
    min_trades: int = 30

    def __post_init__(self) -> None:
        if not callable(self.statistic) and self.statistic not in _STATISTICS:
            raise ConfigError(
                "the objective must be one of " + ", ".join(_STATISTICS) + " or a function",
                value=self.statistic,
                where="objective",
            )
        if not (math.isfinite(self.penalty) and self.penalty >= 0 and self.min_trades >= 0):
            raise ConfigError(
                "penalty and min_trades must be finite and not negative",
                value=(self.penalty, self.min_trades),
                where="objective",
            )

    @property
    def name(self) -> str:
        """Name that the ledger shows."""
        if callable(self.statistic):
            return getattr(self.statistic, "__qualname__", type(self.statistic).__qualname__)
        return self.statistic

    def pooled(self, blocks: BlockResults, days_per_year: float) -> float:
        """The bare statistic of these blocks; NaN where it is undefined."""
        if not callable(self.statistic):
            return float(_statistic(self.statistic, blocks, days_per_year, left_out=False)[0])
        try:
            return float(self.statistic(blocks, days_per_year))
        except Exception as error:  # noqa: BLE001  # a user's function may raise anything
            _log.warning("the objective %s raised %r: the point has no score", self.name, error)
            return math.nan

    def jackknife(self, blocks: BlockResults, days_per_year: float) -> float:
        """Standard error of the statistic by leaving out one block at a time (Efron 1982)."""
        count = len(blocks)
        if count < 2 or callable(self.statistic):
            return math.nan
        left_out = _statistic(self.statistic, blocks, days_per_year, left_out=True)
        spread = left_out - left_out.mean()
        return math.sqrt((count - 1) / count * float(spread @ spread))

    def score(self, blocks: BlockResults, days_per_year: float, source: str = "engine") -> Score:
        """The objective of one continuous run."""
        bad = _bad(blocks)
        if bad is None and int(blocks.trades.sum()) < self.min_trades:
            bad = Outcome.TOO_FEW_TRADES
        if bad is not None:
            return Score(BAD, bad, blocks, source=source)
        value = self.pooled(blocks, days_per_year)
        error = self.jackknife(blocks, days_per_year)
        if not callable(self.statistic) and self.penalty:
            value -= self.penalty * error
        if not math.isfinite(value):
            return Score(BAD, Outcome.NOT_FINITE, blocks, source=source)
        return Score(value, Outcome.OK, blocks, error, source=source)

    def partial(self, blocks: BlockResults, days_per_year: float, source: str = "engine") -> Score:
        """The bare statistic of revealed flat-start blocks: no penalty, no least trade count."""
        bad = _bad(blocks)
        value = self.pooled(blocks, days_per_year) if bad is None else BAD
        if bad is None and not math.isfinite(value):
            bad = Outcome.NOT_FINITE
        if bad is not None:
            return Score(BAD, bad, blocks, source=source)
        return Score(value, Outcome.OK, blocks, source=source)


def _bad(blocks: BlockResults) -> Outcome | None:
    """What the engine's numbers alone say: ruin, or a run that has no numbers."""
    if bool(np.isneginf(blocks.log_growth).any()):
        return Outcome.RUINED
    finite = np.isfinite(blocks.sum).all() and np.isfinite(blocks.log_growth).all()
    return None if finite else Outcome.NOT_FINITE


def _statistic(
    kind: Named, blocks: BlockResults, days_per_year: float, *, left_out: bool
) -> Float64Array:
    """The statistic of all blocks, shape (1,), or of all but each one, shape (blocks,)."""
    n, total, growth = (
        _pooled(array, left_out=left_out) for array in (blocks.n, blocks.sum, blocks.log_growth)
    )
    with np.errstate(all="ignore"):
        match kind:
            case "sharpe":
                squares = _pooled(blocks.sum_sq, left_out=left_out)
                deviation = np.sqrt(_centred(squares, total, n) / (n - 1.0))
                value = total / n / deviation * math.sqrt(days_per_year)
            case "sortino":
                downside = np.sqrt(_pooled(blocks.downside_sq, left_out=left_out) / n)
                value = total / n / downside * math.sqrt(days_per_year)
            case "total_return":
                # Left-out samples are shorter: their growth is brought to the whole range.
                value = np.expm1(growth * (float(blocks.n.sum()) / n))
            case "calmar":
                annual = np.expm1(growth * days_per_year / n)
                value = annual / _drawdowns(blocks, left_out=left_out)
    return np.where(np.isfinite(value), value, np.nan)


def _pooled(values: Float64Array | Int64Array, *, left_out: bool) -> Float64Array:
    whole = np.array([values.sum()], dtype=np.float64)
    return whole - values if left_out else whole


def _drawdowns(blocks: BlockResults, *, left_out: bool) -> Float64Array:
    if not left_out:
        return np.array([max_drawdown(blocks)])
    rows = np.arange(len(blocks))
    return np.array([max_drawdown(blocks.take(np.delete(rows, i))) for i in rows])


def _centred(squares: Float64Array, total: Float64Array, n: Float64Array) -> Float64Array:
    """Sums of squared deviations; what rounding leaves of equal returns is 0."""
    centred = squares - total * total / n
    return np.where(centred > 1e-13 * squares, centred, 0.0)


_STATISTICS: Final = get_args(Named)


def block_ratios(blocks: BlockResults) -> Float64Array:
    """Block mean daily return over the point's pooled deviation, shape (blocks,).

    Zero where the deviation is zero: a flat point neither wins nor loses a block.
    """
    n, total, squares = (
        _pooled(array, left_out=False) for array in (blocks.n, blocks.sum, blocks.sum_sq)
    )
    variance = float(_centred(squares, total, n)[0]) / max(float(n[0]) - 1.0, 1.0)
    means = np.asarray(blocks.sum / blocks.n, dtype=np.float64)
    return means / math.sqrt(variance) if variance > 0.0 else np.zeros_like(means)
