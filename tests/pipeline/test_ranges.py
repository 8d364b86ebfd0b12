"""Trades of a range of bars see those bars alone, and are bit for bit those among all bars."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest.costs import Costs
from ares.backtest.engine import simulate
from ares.backtest.strategies import ModelSignal
from ares.learn.regimes import NAMES
from ares.market.bars import Bars
from ares.pipeline.saving import predictions_pieces
from ares.pipeline.stress import noisy
from ares.pipeline.values import Predictions
from ares.pipeline.walk import Market, trade

if TYPE_CHECKING:
    from ares.core.types import Fill

HOUR = 3600 * 10**9


def walk(seed: int, n: int = 400) -> Bars:
    """Hourly bars with gaps, and the score of nobody in particular."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, n)))
    open_ = np.concatenate([close[:1], close[:-1]])
    hours = 400_000 + np.cumsum(np.where(rng.random(n) < 0.03, rng.integers(2, 90, n), 1))
    frame = pd.DataFrame(
        {
            "timestamp": hours * HOUR,
            "open": open_,
            "high": np.maximum(open_, close) * 1.003,
            "low": np.minimum(open_, close) * 0.997,
            "close": close,
            "volume": 1.0,
        }
    )
    return Bars.from_frame(frame, symbol="X", exchange="test", timeframe="1h", calendar="24/7")


@given(
    seed=st.integers(0, 2**16),
    start=st.integers(0, 390),
    stop=st.integers(2, 400),
    fill=st.sampled_from(["next_open", "close"]),
    unit=st.sampled_from(["fraction", "atr", None]),
    paid=st.booleans(),
)
def test_a_range_alone_is_traded_as_among_all_bars(
    seed: int, start: int, stop: int, fill: Fill, unit: str | None, paid: bool
) -> None:
    start, stop = min(start, stop - 2), max(stop, min(start, stop - 2) + 2)
    bars = walk(seed)
    rng = np.random.default_rng(seed + 1)
    score = np.where(rng.random(400) < 0.2, np.nan, rng.normal(0.0, 0.5, 400))
    score[start] = 0.0  # a score must be defined somewhere
    params: dict[str, Any] = {"enter": 0.4, "exit": 0.0, "direction": "both", "max_hold": 30}
    if unit is not None:
        level = 1.5 if unit == "atr" else 0.02
        params |= {"stop_loss": level, "take_profit": 2 * level, "stop_unit": unit}
    times = bars.timestamp[::7] + HOUR // 2
    funding = tuple((int(time), 1e-4) for time in times) if paid else None
    costs = Costs(0.0003, 0.0002, borrow=0.1, funding=funding)
    padded = np.full(stop, np.nan)
    padded[start:] = score[start:stop]
    whole = simulate(
        bars, ModelSignal(np.concatenate([padded, np.full(400 - stop, np.nan)])), params,
        costs=costs, fill=fill, max_gap=24, start=start, stop=stop,
    )  # fmt: skip
    alone = trade(bars[:stop], score[start:stop], params, Market(costs, fill, 24), start)
    pd.testing.assert_frame_equal(alone.trades, whole.trades, check_exact=True)
    pd.testing.assert_series_equal(alone.equity, whole.equity, check_exact=True)
    pd.testing.assert_series_equal(alone.daily_returns, whole.daily_returns, check_exact=True)
    np.testing.assert_equal(alone.metrics, whole.metrics)


@given(start=st.integers(0, 39_000), length=st.integers(1, 1000), seed=st.integers(0, 9))
def test_noise_of_a_range_is_that_of_the_whole(start: int, length: int, seed: int) -> None:
    stop = min(start + length, len(_LONG))
    part = noisy(_LONG, 0.1, seed, start, stop)
    width = 0.1 * float(np.mean((_LONG.high - _LONG.low) / _LONG.close))
    factor = np.exp(np.random.default_rng(seed).normal(0.0, width, len(_LONG)))[start:stop]
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(
            getattr(part, name), getattr(_LONG, name)[start:stop] * factor
        )
    np.testing.assert_array_equal(part.timestamp, _LONG.timestamp[start:stop])


_LONG = walk(0, 40_000)


@pytest.mark.parametrize("rows", [1, 7, 100, 1 << 18])
def test_pieces_of_predictions_are_one_table(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ares.pipeline.saving._ROWS", rows)
    bars, rng = walk(3), np.random.default_rng(0)
    cuts = [(100, 160), (160, 161), (161, 250)]
    said = [
        Predictions(
            rng.random(b - a),
            rng.random(b - a),
            rng.integers(-1, len(NAMES), b - a).astype(np.int8),
            rng.integers(-1, 2, b - a).astype(np.int8),
        )
        for a, b in cuts
    ]
    windows = [
        SimpleNamespace(window=SimpleNamespace(index=k, test_start=a, test_stop=b))
        for k, (a, b) in enumerate(cuts)
    ]
    models = [SimpleNamespace(params={"size": 0.5 + k}) for k in range(3)]
    made: Any = SimpleNamespace(predictions=said, results=windows, models=models)
    pieces = list(predictions_pieces(bars, made))
    assert [len(piece) for piece in pieces[:-1]] == [rows] * (len(pieces) - 1)
    table = pd.concat(pieces, ignore_index=True)
    assert table["window"].tolist() == [0] * 60 + [1] + [2] * 89
    assert (
        table["timestamp"].tolist() == pd.DatetimeIndex(bars.timestamp[100:250], tz="UTC").tolist()
    )
    for name in ("p_up", "confidence", "action"):
        np.testing.assert_array_equal(table[name], np.concatenate([getattr(s, name) for s in said]))
    codes = np.concatenate([s.regime for s in said])
    expected = [NAMES[code] if code >= 0 else None for code in codes.tolist()]
    assert table["regime"].astype(object).where(table["regime"].notna(), None).tolist() == expected
    sizes = np.repeat([0.5, 1.5, 2.5], [60, 1, 89])
    np.testing.assert_array_equal(table["size"], np.where(table["action"] != 0, sizes, 0.0))
