"""What a search maximises: one number from the block results of one continuous run."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from ares.backtest.result import Outcome
from ares.core.errors import ConfigError, said_by
from ares.kernels import pooled
from ares.kernels.blocks import MEASURES
from ares.search.blocks import BlockTable
from ares.search.failures import Reason, place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ares.core.types import Float64Array
    from ares.search.blocks import BlockResults

_log = logging.getLogger("ares.search")

Named: TypeAlias = Literal["sharpe", "total_return", "calmar", "sortino"]
Statistic: TypeAlias = Callable[["BlockResults", float], float]

BAD: Final = -math.inf
"""What a bad point is worth as a float."""


@dataclass(frozen=True, slots=True)
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
        reason: Why there is no value, where the run or the objective raised; no part of equality.
    """

    value: float
    outcome: Outcome
    blocks: BlockResults
    error: float = math.nan
    stage: int | None = None
    revealed: float = math.nan
    audit: float | None = None
    source: str = field(default="engine", compare=False)
    reason: Reason | None = field(default=None, compare=False)

    @property
    def full(self) -> bool:
        """Whether this is the value of a full evaluation."""
        return self.stage is None


@dataclass(frozen=True)
class Objective:
    """A pooled statistic less `penalty` jackknife standard errors over the blocks.

    Of growth (total return, and that in Calmar's ratio) it is the logarithm that is penalised.

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
        if not callable(self.statistic) and self.statistic not in _KINDS:
            raise ConfigError(
                "the objective must be one of " + ", ".join(_KINDS) + " or a function",
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

    def score(self, blocks: BlockResults, days_per_year: float, source: str = "engine") -> Score:
        """The objective of one continuous run."""
        return self.scores(BlockTable.of([blocks]), days_per_year, source)[0]

    def scores(
        self,
        table: BlockTable,
        days_per_year: float,
        source: str = "engine",
        *,
        flat: bool = False,
    ) -> list[Score]:
        """The objective of many continuous runs; each score is what it would be alone.

        Args:
            table: Their block results.
            days_per_year: Of the calendar.
            source: Where they come from.
            flat: They are flat-start blocks: the bare statistic, without penalty and without a
                least number of trades.
        """
        outcomes = self._outcomes(table, flat=flat)
        good = [outcome is Outcome.OK for outcome in outcomes]
        raised: dict[int, Reason] = {}
        numbers = self._pooled(table, days_per_year, good, 0.0 if flat else self.penalty, raised)
        return [
            Score(value, outcome, blocks, error, source=source)
            if outcome is Outcome.OK and math.isfinite(value)
            else Score(
                BAD,
                Outcome.NOT_FINITE if outcome is Outcome.OK else outcome,
                blocks,
                source=source,
                reason=raised.get(row),
            )
            for row, ((value, error), outcome, blocks) in enumerate(
                zip(numbers.tolist(), outcomes, table.results(), strict=True)
            )
        ]

    def _outcomes(self, table: BlockTable, *, flat: bool) -> list[Outcome]:
        """What the engine's numbers alone say: ruin, no numbers, too few trades."""
        growth = table.measures[:, MEASURES.index("log_growth")]
        total = table.measures[:, MEASURES.index("sum")]
        ruined = np.isneginf(growth).any(axis=1)
        finite = (np.isfinite(total) & np.isfinite(growth)).all(axis=1)
        few = table.trades.sum(axis=1) < (0 if flat else self.min_trades)
        kinds = (Outcome.RUINED, Outcome.NOT_FINITE, Outcome.TOO_FEW_TRADES, Outcome.OK)
        chosen = np.select([ruined, ~finite, few], [0, 1, 2], default=3)
        return [kinds[kind] for kind in chosen.tolist()]

    def _pooled(
        self,
        table: BlockTable,
        days_per_year: float,
        good: Sequence[bool],
        penalty: float,
        raised: dict[int, Reason],
    ) -> Float64Array:
        """Value and standard error of each run that is good, shape (runs, 2).

        What a user's function raises goes into `raised`, by row.
        """
        out = np.full((len(table), 2), math.nan)
        if callable(self.statistic):
            for row, (fine, blocks) in enumerate(zip(good, table.results(), strict=True)):
                if fine:
                    out[row, 0] = self._called(blocks, days_per_year, row, raised)
            return out
        with np.errstate(all="ignore"):  # what is undefined is NaN
            pooled.pool(
                _KINDS[self.statistic], table.n, table.measures, days_per_year, penalty, out
            )
        return out

    def _called(
        self, blocks: BlockResults, days_per_year: float, row: int, raised: dict[int, Reason]
    ) -> float:
        assert callable(self.statistic)  # noqa: S101  # for the type checker
        try:
            return float(self.statistic(blocks, days_per_year))
        except Exception as error:  # noqa: BLE001  # a user's function may raise anything
            said = "the objective %s raised %s: %s: the point has no score"
            told = (self.name, type(error).__name__, said_by(error))
            _log.warning(said, *told, extra={"once": f"{said} {self.name}"})
            where = place_of(self.statistic, error)
            raised[row] = Reason.of(error, "the objective", where)
            return math.nan


_KINDS: Final[dict[str, int]] = {
    "sharpe": pooled.SHARPE,
    "sortino": pooled.SORTINO,
    "total_return": pooled.TOTAL_RETURN,
    "calmar": pooled.CALMAR,
}


def block_ratios(blocks: BlockResults) -> Float64Array:
    """Block mean daily return over the point's pooled deviation, shape (blocks,).

    Zero where the deviation is zero: a flat point neither wins nor loses a block.
    """
    days, total, squares = float(blocks.n.sum()), float(blocks.sum.sum()), blocks.sum_sq.sum()
    centred = float(squares) - total * total / days
    means = np.asarray(blocks.sum / blocks.n, dtype=np.float64)
    if not centred > 1e-13 * float(squares):  # what rounding leaves of equal returns is 0
        return np.zeros_like(means)
    return means / math.sqrt(centred / max(days - 1.0, 1.0))
