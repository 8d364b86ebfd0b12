"""Event skipping against the bar-by-bar loop on real markets: every trade, every close, every bit."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from ares.backtest import Arena, Costs, run_batch, simulate, simulate_reference
from ares.backtest.batch import SignalAnswers
from ares.backtest.signals import Stops
from ares.backtest.space import COMMON
from ares.backtest.strategies import BUILT_IN, ModelSignal, ScoreThreshold
from ares.market.files import load_bars
from engine_checks import assert_same

POINTS = 1_000 if os.environ.get("HYPOTHESIS_PROFILE") == "laws" else 200
BITFINEX = ("timestamp", "open", "close", "high", "low", "volume")
FILES = {
    "bitfinex_BTCUSD_1m_2013.csv.gz": BITFINEX,
    "bitfinex_BTCUSD_1m_2014.csv.gz": BITFINEX,
    "bitfinex_BTCUSD_1m_2015.csv.gz": BITFINEX,
    "bitfinex_ETHUSD_1m_2016.csv.gz": BITFINEX,
    "binance_ADA_BTC_5m_2018-01.feather": None,
}
STRATEGIES = (*sorted(BUILT_IN), "ScoreThreshold", "ModelSignal")


@pytest.fixture(scope="module", params=FILES, ids=lambda name: name.split(".")[0])
def market(request, shared_data):
    timeframe = "5m" if "5m" in request.param else "1m"
    names = {"symbol": "X", "exchange": "none", "timeframe": timeframe}
    return load_bars(shared_data / request.param, columns=FILES[request.param], **names)


def strategy_of(name, n, rng):
    """A built-in, or one that trades a smooth score with holes."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    noise = np.cumsum(rng.normal(size=n + 60))
    score = np.tanh((noise[60:] - noise[:-60]) / 10)
    for hole in rng.integers(0, n, 20):
        score[hole : hole + 300] = np.nan
    return {"ScoreThreshold": ScoreThreshold, "ModelSignal": ModelSignal}[name](score)


def drawn(parameter, rng):
    """A value of the search range; the default of an optional one now and then."""
    if getattr(parameter, "optional", False) and rng.random() < 0.4:
        return None
    if hasattr(parameter, "choices"):
        return parameter.choices[rng.integers(len(parameter.choices))]
    low, high = parameter.low, parameter.high
    if parameter.log:
        value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    else:
        value = float(rng.uniform(low, high))
    return round(value) if isinstance(parameter.low, int) else value


def random_point(space, rng):
    while True:
        point = {name: drawn(space.parameter(name), rng) for name in space.parameters}
        if rng.random() < 0.8:
            point |= {name: drawn(COMMON[name], rng) for name in COMMON}
        if point.get("stop_unit") == "atr":
            for level in ("stop_loss", "take_profit"):
                point[level] = point.get(level) and 50 * point[level]
        if space.allows(point):
            return space.normalise(point)


def arenas(bars, rng):
    """Rules of all kinds: both fills, dear and free, with and without gaps, parts of the bars."""
    times = bars.timestamp[:: max(1, len(bars) // 400)] + 17 * 10**9
    funding = tuple((int(t), float(rng.normal(0, 3e-4))) for t in times)
    for costs, fill, max_gap in (
        (Costs(0.001, 0.0005), "next_open", 60),
        (Costs(0.0, 0.0), "next_open", None),
        (Costs(0.0005, 0.02), "close", 5),
        (Costs(0.0002, 0.0001, borrow=0.3), "close", None),
        (Costs(0.0002, 0.0001, funding=funding), "next_open", 60),
        (Costs(0.0, 0.001, borrow=5.0, funding=funding), "next_open", 60),
    ):
        start, stop = sorted(rng.integers(0, len(bars), 2).tolist())
        whole = Arena.of(bars, costs=costs, fill=fill, max_gap=max_gap)
        yield whole
        yield dataclasses.replace(whole, start=start, stop=stop + 1)


def equal(a, b):
    return all(
        getattr(a, field.name).tobytes() == getattr(b, field.name).tobytes()
        for field in dataclasses.fields(a)
    )


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("name", STRATEGIES)
def test_both_engines_make_the_same_trades_and_closes(market, name):
    rng = np.random.default_rng(STRATEGIES.index(name))
    strategy, reasons = strategy_of(name, len(market), rng), np.zeros(7, dtype=np.int64)
    for arena in arenas(market, rng):
        prepared = strategy.prepare(market, max_gap=arena.max_gap)
        points = [random_point(strategy.space, rng) for _ in range(POINTS // 12 + 1)]
        together = run_batch(arena, strategy, points)
        ends, days = arena.day_ends
        for at, point in enumerate(points):
            signals, stops = strategy.signals(prepared, point), Stops.of(point)
            bars = arena.by_bars(signals, stops)
            alone = SignalAnswers()
            alone.add(signals)
            events = arena.by_events(alone.batch(), stops)
            assert equal(bars.trades, events.trades), point
            assert bars.closes.tobytes() == events.closes.tobytes(), point
            assert bars.ruined == events.ruined
            assert together.equity[at].tobytes() == bars.closes[ends - arena.start].tobytes()
            assert together.n_trades[at] == len(bars.trades)
            assert together.ruined[at] == bars.ruined
            exits = market.timestamp[bars.trades.exit_bar] // (24 * 3600 * 10**9)
            counted = np.bincount(exits - days[0], minlength=days[-1] - days[0] + 1)
            assert together.closed[at].tolist() == counted[days - days[0]].tolist()
            reasons += np.bincount(bars.trades.reason, minlength=7)
    assert (reasons[:5] > 0).all(), reasons


@pytest.mark.compiled
@pytest.mark.parametrize("name", STRATEGIES)
def test_both_results_are_equal_to_the_last_metric(market, name):
    rng = np.random.default_rng(99)
    strategy = strategy_of(name, len(market), rng)
    for arena in arenas(market, rng):
        rules = {"costs": arena.costs, "fill": arena.fill, "max_gap": arena.max_gap}
        rules |= {"start": arena.start, "stop": arena.stop}
        point = random_point(strategy.space, rng)
        assert_same(
            simulate(market, strategy, point, **rules),
            simulate_reference(market, strategy, point, **rules),
        )
