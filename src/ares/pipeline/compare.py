"""Step 15's sides: challenger, champion and buy and hold on the opened holdout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

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
    bars, start = opened.bars.afresh(), opened.start
    unbeaten = False
    if champion is not None:
        later = max(start, int(np.searchsorted(bars.timestamp, champion.valid_from)))
        unbeaten = later >= len(bars) - 1
        champion, start = (None, start) if unbeaten else (champion, later)
    result = trade(bars, model.score(bars, start), dict(model.params), market, start)
    day, returns = daily(result)
    held = buy_and_hold(bars, start, len(bars), day) * invested(result, model)
    report = ab_test(
        {"challenger": returns},
        buy_and_hold=held,
        champion=None if champion is None else _returns(champion, bars, market, start),
        config=config,
        looks_before=looks_before,
        seed=seed_for(seed, "ab test"),
        days_per_year=bars.days_per_year,
    )
    return _held(report) if unbeaten and report.decision == "promote" else report


def _held(report: ABReport) -> ABReport:
    """Without a day that the champion has not seen, nothing shows that it is beaten."""
    reason = "the champion was trained on all of this holdout"
    return replace(report, decision="hold", reasons=(*report.reasons, reason))


def _returns(model: TradingModel, bars: Bars, market: Market, start: int) -> Float64Array:
    return daily(trade(bars, model.score(bars, start), dict(model.params), market, start))[1]
