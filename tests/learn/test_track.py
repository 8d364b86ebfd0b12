"""Datasets of a track: no label reaches across a long gap of the base bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ares.backtest.costs import Costs
from ares.core.config import TrackConfig
from ares.learn.track import analyst_track, make_dataset
from ares.market.files import load_bars

COSTS = Costs(fee=0.001, slippage=0.0005)


def test_no_label_reaches_across_a_long_gap_of_the_base_bars(shared_data: Path) -> None:
    """On 15-minute bars a hole of an hour is only four bars: the minutes decide."""
    bars = load_bars(
        shared_data / "bitfinex_ETHUSD_1m_2016.csv.gz",
        symbol="ETHUSD",
        exchange="bitfinex",
        timeframe="1m",
        columns="timestamp,open,close,high,low,volume",
    )[-40_000:]
    long = bars.gaps[bars.gaps[:, 2] > 60]
    assert len(long) > 10
    data = make_dataset(bars, analyst_track("1m", TrackConfig(), 60), costs=COSTS, fill="next_open")
    assert len(data.t0) > 100
    for before, after, _ in long:
        assert not np.any((data.t0 <= before) & (data.t1 >= after))
