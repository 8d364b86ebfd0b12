"""What a search maximises: one number from the block results of one continuous run."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from ares.backtest.result import Outcome
from ares.core.errors import ConfigError
from ares.search.blocks import max_drawdown

if TYPE_CHECKING:
    from ares.core.types import Float64Array
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
            return float(_STATISTICS[self.statistic](blocks, days_per_year))
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
        rows = np.arange(count)
        scale = float(blocks.n.sum())
        left_out = np.array(
            [
                _STATISTICS[self.statistic](kept, days_per_year, scale / float(kept.n.sum()))
                for kept in (blocks.take(np.delete(rows, i)) for i in range(count))
            ]
        )
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


def _ratio(mean: float, deviation: float, days_per_year: float) -> float:
    return mean / deviation * math.sqrt(days_per_year) if deviation > 0.0 else math.nan


def _squares(blocks: BlockResults) -> float:
    """Sum of squared deviations of the daily returns; what rounding leaves of equal ones is 0."""
    raw = float(blocks.sum_sq.sum())
    total = float(blocks.sum.sum())
    centred = raw - total * total / int(blocks.n.sum())
    return centred if centred > 1e-13 * raw else 0.0


def _sharpe(blocks: BlockResults, days_per_year: float, _scale: float = 1.0) -> float:
    count = int(blocks.n.sum())
    if count < 2:
        return math.nan
    total = float(blocks.sum.sum())
    return _ratio(total / count, math.sqrt(_squares(blocks) / (count - 1)), days_per_year)


def _sortino(blocks: BlockResults, days_per_year: float, _scale: float = 1.0) -> float:
    count = int(blocks.n.sum())
    downside = math.sqrt(float(blocks.downside_sq.sum()) / count)
    return _ratio(float(blocks.sum.sum()) / count, downside, days_per_year)


def _total_return(blocks: BlockResults, _days_per_year: float, scale: float = 1.0) -> float:
    # Left-out samples are shorter; `scale` brings their growth to the whole range.
    return float(np.expm1(scale * blocks.log_growth.sum()))


def _calmar(blocks: BlockResults, days_per_year: float, _scale: float = 1.0) -> float:
    worst = max_drawdown(blocks)
    annual = float(np.expm1(blocks.log_growth.sum() * days_per_year / float(blocks.n.sum())))
    return annual / worst if worst > 0.0 else math.nan


_STATISTICS: Final[dict[str, Callable[..., float]]] = {
    "sharpe": _sharpe,
    "total_return": _total_return,
    "calmar": _calmar,
    "sortino": _sortino,
}


def block_ratios(blocks: BlockResults) -> Float64Array:
    """Block mean daily return over the point's pooled deviation, shape (blocks,).

    Zero where the deviation is zero: a flat point neither wins nor loses a block.
    """
    variance = _squares(blocks) / max(int(blocks.n.sum()) - 1, 1)
    means = np.asarray(blocks.sum / blocks.n, dtype=np.float64)
    return means / math.sqrt(variance) if variance > 0.0 else np.zeros_like(means)
