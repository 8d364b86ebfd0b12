"""Each strategy's signals against its definition in plain loops, and against itself on prefixes."""

from __future__ import annotations

import gc
import itertools
import math
import statistics
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest import Costs, simulate
from ares.backtest.signals import LONG_ENTRY, LONG_EXIT, SHORT_ENTRY, SHORT_EXIT, flags_of
from ares.backtest.strategies import (
    BUILT_IN,
    BollingerReversion,
    DonchianBreakout,
    EmaCross,
    ModelSignal,
    Prepared,
    RsiReversion,
    ScoreThreshold,
    SmaCross,
)
from ares.backtest.strategy import ColumnCache
from ares.core.errors import ParameterError
from ares.core.identity import fingerprint
from backtest_cases import random_bars

FREE = Costs(0.0, 0.0)


def flags(strategy, bars, params, max_gap=None):
    point = strategy.space.normalise(params)
    signals = strategy.signals(strategy.prepare(bars, max_gap=max_gap), point)
    return flags_of(signals, len(bars), "both")


def stretches(bars, max_gap):
    """Index ranges between long gaps."""
    starts = [0]
    if max_gap is not None:
        starts += [int(g[1]) for g in bars.gaps if g[2] > max_gap]
    return list(zip(starts, [*starts[1:], len(bars)], strict=True))


def naive(bars, max_gap, rule):
    """Flags by a rule on plain lists, stretch by stretch; the rule returns a set of bits at t."""
    out = []
    for a, b in stretches(bars, max_gap):
        columns = [getattr(bars, name)[a:b].tolist() for name in ("close", "high", "low")]
        out += [rule(t, *columns) for t in range(b - a)]
    return np.array(out, dtype=np.uint8)


def cross_rule(mean, fast, slow):
    def rule(t, close, high, low):
        if t < slow:
            return 0
        now, before = (mean(close, fast, i) - mean(close, slow, i) for i in (t, t - 1))
        if now > 0 and before <= 0:
            return LONG_ENTRY | SHORT_EXIT
        if now < 0 and before >= 0:
            return LONG_EXIT | SHORT_ENTRY
        return 0

    return rule


def exact_mean(close, period, t):
    """In whole cents over a common denominator, so that ties are ties."""
    cents = [round(x * 100) for x in close[t - period + 1 : t + 1]]
    return math.prod(range(1, 13)) * sum(cents) // period


def naive_ema(close, period, t):
    value = math.fsum(close[:period]) / period
    for x in close[period : t + 1]:
        value = value * (1 - 2 / (period + 1)) + x * 2 / (period + 1)
    return value


def naive_rsi(close, period, t):
    moves = [b - a for a, b in itertools.pairwise(close[: t + 1])]
    up = math.fsum(max(m, 0) for m in moves[:period]) / period
    down = math.fsum(max(-m, 0) for m in moves[:period]) / period
    for m in moves[period:]:
        up, down = (
            (up * (period - 1) + max(m, 0)) / period,
            (down * (period - 1) + max(-m, 0)) / period,
        )
    return 100 - 100 / (1 + up / down) if down else (100 if up else 50)


def market(seed, n=260):
    missing = np.where(np.arange(n) % 83 == 82, 30, 0)
    return random_bars(n, seed, step=0.02, missing=missing)


@pytest.mark.laws
@given(st.integers(0, 10**6), st.sampled_from([(1, 2), (2, 3), (3, 8), (5, 12)]), st.booleans())
def test_sma_crossings(seed, periods, gaps):
    bars = random_bars(150, seed, step=0.001, decimals=1)  # coarse prices: equal means
    if gaps:
        bars = market(seed)
    fast, slow = periods
    expected = naive(bars, 20, cross_rule(exact_mean, fast, slow))
    got = flags(SmaCross(), bars, {"fast": fast, "slow": slow}, max_gap=20)
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_ema_crossings(seed):
    bars = market(seed)
    expected = naive(bars, 20, cross_rule(naive_ema, 4, 9))
    assert expected.any()
    got = flags(EmaCross(), bars, {"fast": 4, "slow": 9}, max_gap=20)
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_rsi_levels(seed):
    bars = market(seed)

    def rule(t, close, high, low):
        if t < 5:
            return 0
        rsi = naive_rsi(close, 5, t)
        return (
            LONG_ENTRY * (rsi < 35)
            | LONG_EXIT * (rsi > 60)
            | SHORT_ENTRY * (rsi > 65)
            | SHORT_EXIT * (rsi < 40)
        )

    params = {"period": 5, "low": 35, "high": 60}
    expected = naive(bars, 20, rule)
    assert {int(f) for f in expected} >= {0, LONG_ENTRY | SHORT_EXIT, LONG_EXIT | SHORT_ENTRY}
    assert flags(RsiReversion(), bars, params, max_gap=20).tolist() == expected.tolist()


def test_rsi_levels_are_strict():
    rising = random_bars(40, 0, step=0.0)  # a flat market: the index is 50 throughout
    at = flags(RsiReversion(), rising, {"period": 3, "low": 50, "high": 50})
    assert at.max() == 0
    above = flags(RsiReversion(), rising, {"period": 3, "low": 50.0001, "high": 90})
    assert above[3:].tolist() == [LONG_ENTRY | SHORT_ENTRY] * 37


@pytest.mark.parametrize("periods", [(6, 3), (3, 6), (1, 1)])
def test_donchian_channels(periods):
    bars = market(7)
    entry, leave = periods

    def rule(t, close, high, low):
        bits = 0
        if t >= entry:
            bits |= LONG_ENTRY * (close[t] > max(high[t - entry : t]))
            bits |= SHORT_ENTRY * (close[t] < min(low[t - entry : t]))
        if t >= leave:
            bits |= LONG_EXIT * (close[t] < min(low[t - leave : t]))
            bits |= SHORT_EXIT * (close[t] > max(high[t - leave : t]))
        return bits

    expected = naive(bars, 20, rule)
    assert expected.any()
    got = flags(DonchianBreakout(), bars, {"entry_period": entry, "exit_period": leave}, max_gap=20)
    assert got.tolist() == expected.tolist()


def test_bollinger_bands():
    bars = market(8)

    def rule(t, close, high, low):
        if t < 9:
            return 0
        window = close[t - 9 : t + 1]
        mean, reach = statistics.fmean(window), 1.5 * statistics.pstdev(window)
        return (
            LONG_ENTRY * (close[t] < mean - reach)
            | LONG_EXIT * (close[t] > mean)
            | SHORT_ENTRY * (close[t] > mean + reach)
            | SHORT_EXIT * (close[t] < mean)
        )

    expected = naive(bars, 20, rule)
    got = flags(BollingerReversion(), bars, {"period": 10, "width": 1.5}, max_gap=20)
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("kind", [ScoreThreshold, ModelSignal])
def test_score_levels_are_inclusive_and_nan_is_neither(kind):
    score = np.array([0.3, 0.2, 0.1, 0.0, -0.1, -0.2, -0.3, np.nan])
    bars = random_bars(8, 1)
    got = flags(kind(score), bars, {"enter": 0.2, "exit": 0.1})
    high, low = LONG_ENTRY | SHORT_EXIT, SHORT_ENTRY | LONG_EXIT
    both = LONG_EXIT | SHORT_EXIT
    assert got.tolist() == [high, high, both, both, both, low, low, 0]


@pytest.mark.parametrize("kind", [ScoreThreshold, ModelSignal])
def test_scores_that_do_not_fit_are_refused(kind):
    bars = random_bars(8, 1)
    with pytest.raises(ParameterError, match="defined somewhere"):
        kind(np.full(8, np.nan))
    with pytest.raises(ParameterError, match="that is 8; got 7"):
        simulate(bars, kind(np.zeros(7)), {}, costs=FREE)
    with pytest.raises(ParameterError, match="finite"):
        kind(np.array([0.0, np.inf]))
    with pytest.raises(ParameterError, match="flat array"):
        kind(np.zeros((2, 2)))
    with pytest.raises(ParameterError, match="exit must be below enter"):
        simulate(bars, kind(np.zeros(8)), {"enter": 0.1, "exit": 0.1}, costs=FREE)
    mine = np.zeros(8)
    strategy = kind(mine)
    mine[0] = 1.0
    assert strategy.score[0] == 0.0
    assert fingerprint(strategy) != fingerprint(kind(np.ones(8)))


def test_score_trades_long_and_short():
    bars = random_bars(60, 4)
    score = np.sin(np.arange(60) / 4)
    trades = simulate(
        bars, ScoreThreshold(score), {"enter": 0.5, "exit": 0, "direction": "both"}, costs=FREE
    ).trades
    assert set(trades.side) == {1, -1}
    for t in trades.itertuples():
        assert t.side * score[t.entry_bar - 1] >= 0.5
        assert t.reason == "end" or t.side * score[t.exit_bar - 1] <= 0


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_signals_of_a_prefix_are_a_prefix_of_the_signals(name):
    bars, strategy = market(21, 400), BUILT_IN[name]
    whole = flags(strategy, bars, {}, max_gap=20)
    assert whole.any()
    for cut in (1, 60, 101, 333):
        assert flags(strategy, bars[:cut], {}, max_gap=20).tolist() == whole[:cut].tolist()


def test_crossings_do_not_depend_on_where_the_series_starts():
    bars = random_bars(2_000, 5, step=0.0005, decimals=1)
    params = {"fast": 5, "slow": 20}
    whole = flags(SmaCross(), bars, params)
    for start in (1, 17, 900):
        part = flags(SmaCross(), bars[start:], params)
        assert part[20:].tolist() == whole[start + 20 :].tolist()


def test_columns_are_made_once_and_the_cache_is_bounded():
    bars = random_bars(100, 2)
    prepared = Prepared.of(bars)
    first = prepared.column("sma", 5)
    assert prepared.column("sma", 5) is first
    assert not first.flags.writeable
    cache = ColumnCache(max_bytes=3_000)
    for period in range(2, 12):
        cache.get(("sma", period), lambda: np.zeros(100))
    assert cache.nbytes <= 3_000
    cache.shrink(0)
    assert cache.nbytes == 0
    with pytest.raises(ParameterError, match="not known"):
        prepared.column("nonsense", 3)


def test_what_was_prepared_goes_with_the_bars_and_waits_for_no_collector():
    bars = random_bars(300, 2)
    simulate(bars, SmaCross(), {}, costs=FREE)
    kept = [weakref.ref(Prepared.of(bars)), weakref.ref(Prepared.of(bars).column("sma", 5))]
    gc.disable()
    try:
        del bars
        assert [ref() for ref in kept] == [None, None]
    finally:
        gc.enable()


def test_the_cache_serves_threads():
    prepared = Prepared.of(random_bars(500, 2))
    got: dict[int, list[bytes]] = {i: [] for i in range(4)}

    def work(i):
        got[i] = [prepared.column("ema", p).tobytes() for p in range(2, 40)]

    threads = [threading.Thread(target=work, args=(i,)) for i in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] == got[1] == got[2] == got[3]


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_defaults_trade_and_lookback_is_enough(name):
    strategy = BUILT_IN[name]
    point = strategy.space.normalise({})
    need = strategy.lookback(point)
    with pytest.raises(ParameterError, match=f"needs {need} bars"):
        simulate(random_bars(need - 1, 3), strategy, {}, costs=FREE)
    simulate(random_bars(need, 3), strategy, {}, costs=FREE)
    assert strategy == type(strategy)()
    assert fingerprint(strategy) == fingerprint(type(strategy)())
