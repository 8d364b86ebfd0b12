"""Step 15's sides: challenger, champion and buy and hold on the opened holdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ares.core.identity import seed_for
from ares.pipeline.walk import Market, buy_and_hold, daily, invested, trade
from ares.validate.ab_test import ABReport, ab_test

if TYPE_CHECKING:
    from ares.core.config import ABTestConfig
    from ares.core.types import Float64Array
    from ares.market.bars import Bars, Holdout
    from ares.model.trading_model import TradingModel


def compare_on_holdout(
    model: TradingModel,
    champion: TradingModel | None,
    holdout: Holdout,
    market: Market,
    config: ABTestConfig,
    looks_before: int,
    seed: int,
) -> ABReport:
    """Trade both models on the holdout after the end of both trainings and compare their days.

    Buy and hold is held at the challenger's exposure, so that what is compared is timing.
    """
    opened = holdout.open()
    bars, start = opened.bars, opened.start
    if champion is not None:
        while start < len(bars) and bars.timestamp[start] < champion.valid_from:
            start += 1
        if start >= len(bars):
            champion, start = None, opened.start
    result = trade(bars, model.signals(bars).score, dict(model.params), market, start)
    day, returns = daily(result)
    held = buy_and_hold(bars, start, len(bars), day) * invested(result, model)
    return ab_test(
        {"challenger": returns},
        buy_and_hold=held,
        champion=None if champion is None else _returns(champion, bars, market, start),
        config=config,
        looks_before=looks_before,
        seed=seed_for(seed, "ab test"),
        days_per_year=bars.days_per_year,
    )


def _returns(model: TradingModel, bars: Bars, market: Market, start: int) -> Float64Array:
    return daily(trade(bars, model.signals(bars).score, dict(model.params), market, start))[1]
