"""Features piece by piece are the features of the whole, bit for bit, and those of TA-Lib."""

from __future__ import annotations

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.learn.features import FEATURES, compute_features, feature_pieces
from ares.learn.features_series import Carried
from ares.market.bars import Bars

HOUR = 3_600_000_000_000


def walk(n: int, seed: int, gaps: tuple[int, ...] = ()) -> Bars:
    """Hourly bars of a random walk with standing stretches, and long gaps before some bars."""
    rng = np.random.default_rng(seed)
    moves = np.where(rng.random(n) < 0.2, 0.0, rng.normal(0, 0.01, n))
    close = 5e-5 * np.exp(np.cumsum(moves))
    open_ = np.concatenate([close[:1], close[:-1]])
    spread = np.where(rng.random(n) < 0.1, 0.0, np.abs(rng.normal(0, 0.004, n)))
    late = np.zeros(n, dtype=np.int64)
    late[list(gaps)] = 61
    return Bars(
        timestamp=(np.arange(n, dtype=np.int64) + np.cumsum(late)) * HOUR,
        open=open_,
        high=np.maximum(open_, close) * np.exp(spread),
        low=np.minimum(open_, close) * np.exp(-spread),
        close=close,
        volume=rng.lognormal(0, 1, n),
        symbol="X",
        exchange="x",
        timeframe="1h",
        gaps=np.array([[gap - 1, gap, 61] for gap in gaps], dtype=np.int64).reshape(-1, 3),
    )


@given(
    n=st.integers(1, 600),
    size=st.integers(1, 700),
    seed=st.integers(0, 99),
    cut=st.floats(0.01, 0.99),
)
@settings(max_examples=20)
def test_any_size_of_pieces_makes_the_same_bits(n, size, seed, cut):
    gap = int(cut * n)
    bars = walk(n, seed, (gap,) if 0 < gap < n else ())
    whole = np.vstack([piece for _, piece in feature_pieces(bars, max_gap=60, size=10**9)])
    starts, pieces = zip(*feature_pieces(bars, max_gap=60, size=size), strict=True)
    assert list(starts) == list(range(0, n, size))
    assert np.vstack(pieces).tobytes() == whole.tobytes()
    assert compute_features(bars, max_gap=60).matrix.tobytes() == whole.tobytes()


def test_the_function_of_a_feature_is_its_column():
    bars = walk(400, 3)
    matrix = compute_features(bars, tuple(FEATURES), max_gap=60).matrix
    for column, feature in enumerate(FEATURES.values()):
        values = feature.function(*(getattr(bars, name) for name in feature.inputs))
        assert values[feature.warmup :].tobytes() == matrix[feature.warmup :, column].tobytes()


TALIB = {
    "atr": lambda h, lo, c: talib.ATR(h, lo, c, 14) / c,
    "ema_12": lambda _h, _l, c: talib.EMA(c, 12),
    "ema_50": lambda _h, _l, c: talib.EMA(c, 50),
    "macd": lambda _h, _l, c: talib.MACD(c, 12, 26, 9)[0],
    "macd_histogram": lambda _h, _l, c: talib.MACD(c, 12, 26, 9)[2],
    "adx": lambda h, lo, c: talib.ADX(h, lo, c, 14),
    "directional": lambda h, lo, c: talib.PLUS_DI(h, lo, c, 14) - talib.MINUS_DI(h, lo, c, 14),
    "rsi_5": lambda _h, _l, c: talib.RSI(c, 5),
    "rsi_14": lambda _h, _l, c: talib.RSI(c, 14),
    "cci": lambda h, lo, c: talib.CCI(h, lo, c, 20),
}


@pytest.mark.parametrize("name", TALIB)
@pytest.mark.parametrize("seed", range(3))
def test_a_carried_series_is_that_of_talib(name, seed):
    bars = walk(500, seed)
    units = [getattr(bars, column) / bars.close[0] for column in ("high", "low", "close")]
    theirs = TALIB[name](*units)
    carried, parts = Carried((name,), 0), []
    for start in range(0, 500, 77):
        cut = slice(start, start + 77)
        parts.append(carried.push(bars.high[cut], bars.low[cut], bars.close[cut])[name])
    ours = np.concatenate(parts)
    assert (np.isnan(ours) == np.isnan(theirs)).all()
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
