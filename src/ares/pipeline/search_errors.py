"""Why a search has no winner: what the first point without numbers raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ares.backtest.engine import simulate
from ares.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from ares.market.bars import Bars
    from ares.search.result import SearchResult


def first_error(
    toolkit: Any, bars: Bars, strategy: Any, statistic: Any, found: SearchResult
) -> InputError | None:
    """The error of the first point without finite numbers, raised again; None where there is none.

    A search takes a point that raises as one without a value, so that one bad point does not end
    it. Where no point has a value, the error is the news.

    Args:
        toolkit: On which the search ran, still open.
        bars: What was searched.
        strategy: What was traded.
        statistic: Name or function of the objective.
        found: A search without a winner.
    """
    lost = found.trials[found.trials["outcome"] == "NOT_FINITE"]
    if not len(lost):
        return None
    first = _params_of(lost)
    try:
        simulate(
            bars,
            strategy,
            first,
            costs=toolkit.costs_for(bars.calendar),
            fill=toolkit.config.search.fill,
            max_gap=toolkit.config.data.max_gap,
        )
    except Exception as error:  # noqa: BLE001  # a user's strategy may raise anything
        return InputError(f"the strategy raised: {error}", value=first)
    if not callable(statistic):
        return None
    blocks = toolkit.cached_backtester.evaluate([first])[0].blocks
    try:
        statistic(blocks, float(bars.days_per_year))
    except Exception as error:  # noqa: BLE001  # a user's function may raise anything
        code = statistic.__code__
        return InputError(
            f"the objective raised {type(error).__name__}: {error}",
            value=first,
            where=f"{code.co_filename}:{code.co_firstlineno}: {statistic.__qualname__}",
        )
    return None


def _params_of(trials: pd.DataFrame) -> dict[str, Any]:
    """Searched parameters of the first row."""
    names = [str(c) for c in trials.columns if str(c).startswith("param_")]
    return {name.removeprefix("param_"): trials[name].tolist()[0] for name in names}
