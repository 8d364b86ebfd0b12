"""Replay proof: the winner's run is made again, cold, by the readable definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ares.backtest.engine import simulate_reference
from ares.backtest.metrics import DAY_NS
from ares.core.errors import ReplayError
from ares.search.blocks import BlockTable, block_results, even_borders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.search.evaluator import Problem
    from ares.search.objective import Score


def replay_proof(problem: Problem, params: Mapping[str, Any], score: Score) -> None:
    """Check that `simulate_reference` gives, bit for bit, the block results of `score`.

    Raises:
        ReplayError: it does not: no artifact may be written from this search.
    """
    import pandas as pd

    result = problem.simulated(params, simulate_reference)
    index = pd.DatetimeIndex(result.daily_returns.index).tz_localize(None)
    days = index.to_numpy().astype("datetime64[D]").astype(np.int64)
    returns = result.daily_returns.to_numpy(dtype=np.float64)
    exits = problem.bars.timestamp[result.trades["exit_bar"].to_numpy(dtype=np.int64)]
    trade_days = np.searchsorted(days, exits // DAY_NS)
    blocks = block_results(returns, trade_days, even_borders(len(days), problem.n_blocks))
    value = problem.scores(BlockTable.of([blocks]), flat=False)[0].value
    if blocks != score.blocks or value != score.value:
        raise ReplayError(
            "the winner's cold replay must equal what the search saw",
            value=dict(params),
            where=f"score {score.value!r}, replayed {value!r}",
            remedy="A strategy must answer the same bars and parameters alike each time. If yours does,"
            " report this as a bug.",
        )
