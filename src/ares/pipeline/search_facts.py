"""What a search's report says, as plain JSON: the file `search.json` of its run folder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ares.backtest.curves import drawdown
from ares.backtest.space import Categorical, Float, Int
from ares.market.timeframe import DAY
from ares.pipeline.summaries import of_report, plain
from ares.pipeline.walk import buy_and_hold, daily
from ares.search.blocks import even_borders
from ares.search.importance import parameter_importance
from ares.validate.overfitting import search_overfitting

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from ares.backtest.result import BacktestResult
    from ares.backtest.space import Parameter, ParameterSpace
    from ares.core.types import Float64Array
    from ares.market.bars import Bars
    from ares.search.blocks import BlockResults
    from ares.search.result import SearchResult

_MOST_FAILURES: Final = 10


def of_space(space: ParameterSpace) -> dict[str, Any]:
    """The searched ranges by name."""
    return {name: _range(parameter) for name, parameter in space.parameters.items()}


def _range(parameter: Parameter) -> dict[str, Any]:
    if isinstance(parameter, Categorical):
        return {"choices": plain(parameter.choices), "fixed": len(parameter.choices) == 1}
    low, high = parameter.low, parameter.high
    return {"low": low, "high": high, "log": parameter.log, "fixed": low == high}


def winner_curve(bars: Bars, result: BacktestResult) -> pd.DataFrame:
    """Daily equity and returns of the winner beside buy and hold without costs."""
    import pandas as pd

    day, returns = daily(result)
    return pd.DataFrame(
        {
            "day": pd.DatetimeIndex(day * DAY, tz="UTC"),
            "equity": np.cumprod(1.0 + returns),
            "daily_return": returns,
            "benchmark_return": buy_and_hold(bars, 0, len(bars), day),
        }
    )


def of_benchmark(curve: pd.DataFrame, days_per_year: float) -> dict[str, Any]:
    """Return, Sharpe ratio and largest drawdown of buying at the first open and holding."""
    returns = curve["benchmark_return"].to_numpy(np.float64)
    equity = np.asarray(np.cumprod(1.0 + returns), dtype=np.float64)
    spread = float(returns.std(ddof=1)) if len(returns) > 1 else math.nan
    found = {
        "total_return": float(equity[-1] - 1.0),
        "sharpe": float(returns.mean()) / spread * math.sqrt(days_per_year)
        if spread > 0
        else math.nan,
        "max_drawdown": float(-drawdown(equity).min()),
    }
    return dict(plain(found))


def of_blocks(blocks: BlockResults, curve: pd.DataFrame, days_per_year: float) -> list[Any]:
    """One entry per scoring block: days, return, Sharpe ratio, largest drawdown, trades."""
    days = [str(d)[:10] for d in curve["day"]]
    borders = even_borders(len(days), len(blocks))
    found = []
    for i in range(len(blocks)):
        n, total, squares = int(blocks.n[i]), float(blocks.sum[i]), float(blocks.sum_sq[i])
        variance = (squares - total * total / n) / (n - 1) if n > 1 else math.nan
        moving = variance > 1e-13 * squares / n
        entry = {
            "first": days[borders[i]],
            "last": days[borders[i + 1] - 1],
            "days": n,
            "return": math.expm1(float(blocks.log_growth[i])),
            "sharpe": total / n / math.sqrt(variance) * math.sqrt(days_per_year)
            if moving
            else math.nan,
            "max_drawdown": float(blocks.drawdown[i]),
            "trades": int(blocks.trades[i]),
        }
        found.append(plain(entry))
    return found


def of_overfitting(
    found: SearchResult, winner: Float64Array, *, days_per_year: float, seed: int
) -> dict[str, Any] | None:
    """DSR, PBO and SPA with every trial counted; None with fewer than two points to compare."""
    if len(found.initial_returns) < 2:
        return None
    numbers = search_overfitting(
        winner,
        np.ascontiguousarray(found.initial_returns.T),
        n_trials=len(found.trials),
        days_per_year=days_per_year,
        seed=seed,
    )
    return {"points": len(found.initial_returns), **of_report(numbers, ("logits", "better"))}


def of_stops(found: SearchResult, *, on: bool) -> dict[str, Any]:
    """The account of early stopping: where, how many, and what the audited ones were worth."""
    trials, policies = found.trials, found.policies
    stage = trials["stage"].to_numpy(np.int64)
    audit = trials["audit"].to_numpy(np.float64)
    known = audit[np.isfinite(audit)]
    audited = int(found.counts["audited"])
    false = int(policies.get("false_stops", 0))
    rate = false / audited if audited else math.nan
    best = found.score.value if found.score else math.nan
    blocks = policies.get("flat_blocks")
    return dict(
        plain(
            {
                "on": on and blocks is not None,
                "reason": "" if on and blocks is not None else _why_off(found, on=on),
                "flat_blocks": blocks,
                "agreements": policies.get("agreements", []),
                "stopped": int(found.counts["stopped"]),
                "by_stage": {str(s): int((stage == s).sum()) for s in np.unique(stage[stage > 0])},
                "saved": policies.get("saved"),
                "audited": audited,
                "false_stops": false,
                "false_stop_rate": rate,
                "standard_error": math.sqrt(rate * (1.0 - rate) / audited) if audited else math.nan,
                "interval": _wilson(false, audited),
                "best_audited": float(known.max()) if len(known) else math.nan,
                "lost": max(0.0, float(known.max()) - best) if len(known) else math.nan,
            }
        )
    )


def _wilson(hits: int, count: int) -> list[float]:
    """95 % interval of a share (Wilson 1927), which is right where no hit was seen, too."""
    from scipy.stats import binomtest

    if not count:
        return [math.nan, math.nan]
    found = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    return [float(found.low), float(found.high)]


def _why_off(found: SearchResult, *, on: bool) -> str:
    if not on:
        return "it is switched off, or no points follow the Sobol points, which never stop"
    if found.policies.get("off"):
        said = str(found.policies["off"]).removeprefix("early stopping is off: ")
        return said.removesuffix("; all points run in full")
    if found.policies.get("agreements"):
        return "short pieces of this market rank the points otherwise than the whole does"
    return "there was nothing to calibrate it on: too few points, or blocks shorter than lookbacks"


def of_cautions(
    best: Mapping[str, Any], space: ParameterSpace, metrics: Any, held: Any
) -> list[str]:
    """What should make one doubt a winner, in sentences: its result, and edges of the space."""
    found = []
    if metrics["total_return"] < 0:
        found.append("It loses money even on the days it was chosen on.")
    elif held["total_return"] is not None and metrics["total_return"] < held["total_return"]:
        found.append("Buying and holding would have made more on these days.")
    edges = [
        f"{name} = {best[name]}"
        for name, parameter in space.parameters.items()
        if isinstance(parameter, Int | Float)
        and parameter.low < parameter.high
        and best[name] in (parameter.low, parameter.high)
    ]
    if edges:
        found.append(
            f"It lies at the edge of the searched range ({', '.join(edges)}): better points may lie"
            " beyond; -p name=low:high widens it."
        )
    return found


def of_importance(trials: pd.DataFrame, space: ParameterSpace) -> dict[str, Any] | None:
    """Permutation importance of the searched parameters."""
    found = parameter_importance(trials, space)
    return None if found is None else dict(plain(found))


def of_outcomes(found: SearchResult) -> dict[str, int]:
    """How many of the points that were not stopped ended how, the most frequent first.

    Those whose run or objective raised are told from others without a finite number.
    """
    trials = found.trials
    raised = trials["number"].isin([n for one in found.failures for n in one.numbers])
    outcome = trials["outcome"].mask(raised, "RAISED")
    counts = outcome[trials["stage"] == 0].value_counts(sort=True)
    return {str(name): int(count) for name, count in sorted(counts.items(), key=_by_count)}


def of_failures(found: SearchResult, *, whole: bool) -> list[dict[str, Any]]:
    """What points raised, the most frequent kind first.

    Args:
        found: A search.
        whole: With the path of the user's file; else with its name alone, which is the same on
            every machine.
    """
    return [
        {
            "type": one.reason.kind,
            "where": one.reason.where if whole else one.reason.where.rpartition("/")[2],
            "message": one.reason.said,
            "count": len(one.numbers),
            "params": plain(one.params),
        }
        for one in found.failures[:_MOST_FAILURES]
    ]


def _by_count(pair: tuple[Any, int]) -> tuple[int, str]:
    return -pair[1], str(pair[0])
