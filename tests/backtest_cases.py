"""Bars, strategies and Hypothesis markets that the tests of the backtest share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from ares.backtest.costs import Costs
from ares.backtest.signals import Events
from ares.backtest.space import ParameterSpace
from ares.market.bars import Bars
from naive_backtest import Market, Rules

HOUR = 3600 * 10**9
MONDAY = 1_704_067_200 * 10**9  # 2024-01-01 00:00 UTC
SESSION = "session:UTC 00:00-24:00"
KINDS = ("long_entry", "long_exit", "short_entry", "short_exit")


def make_bars(open_, high, low, close, *, time=None, missing=None, calendar="24/7", tick=0.01):
    """Hourly bars; `missing[i]` expected bars lack before bar i."""
    n = len(open_)
    lacking = np.zeros(n, dtype=np.int64) if missing is None else np.asarray(missing)
    if time is None:
        time = MONDAY + HOUR * (np.arange(n) + np.cumsum(lacking))
    after = np.flatnonzero(lacking)
    after = after[after > 0]
    gaps = np.column_stack([after - 1, after, lacking[after]]).astype(np.int64)
    arrays = [np.array(column, dtype=np.float64) for column in (open_, high, low, close)]
    return Bars(
        np.asarray(time, dtype=np.int64),
        *arrays,
        np.ones(n),
        symbol="TEST",
        exchange="none",
        timeframe="1h",
        tick=tick,
        calendar=calendar,
        gaps=gaps,
    )


def bars_of_closes(closes, **kwargs):
    """Bars that open at the close before them."""
    closes = np.asarray(closes, dtype=float)
    opens = np.concatenate([closes[:1], closes[:-1]])
    return make_bars(opens, np.maximum(opens, closes), np.minimum(opens, closes), closes, **kwargs)


def random_bars(n, seed, *, step=0.01, decimals=2, **kwargs):
    """A random walk with wicks and opening gaps, rounded to `decimals`."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, step, n)))
    open_ = close * np.exp(rng.normal(0, step, n))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, step / 2, n)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, step / 2, n)))
    columns = [np.round(column, decimals) for column in (open_, high, low, close)]
    return make_bars(*columns, tick=10.0**-decimals, **kwargs)


@dataclass(frozen=True)
class Fixed:
    """Signals at given bars, whatever the market does."""

    events: dict = field(default_factory=dict)
    name: str = "Fixed"
    space: ParameterSpace = field(default_factory=lambda: ParameterSpace({}))

    def prepare(self, bars, *, max_gap=None):
        return None

    def signals(self, prepared, params):
        return Events(*(np.array(sorted(self.events.get(k, ())), dtype=np.int64) for k in KINDS))


@dataclass
class Case:
    """One market, its signals, and rules for the engine and for the naive twin."""

    bars: Bars
    events: dict
    params: dict
    costs: Costs
    fill: str
    max_gap: int | None
    start: int
    stop: int

    @property
    def market(self) -> Market:
        long_gaps = set()
        if self.max_gap is not None:
            long_gaps = {int(g[1]) for g in self.bars.gaps if g[2] > self.max_gap}
        columns = (getattr(self.bars, c).tolist() for c in ("open", "high", "low", "close"))
        return Market(
            self.bars.timestamp.tolist(),
            *columns,
            interval=HOUR,
            after_long_gap=long_gaps,
            calendar=self.bars.calendar,
        )

    @property
    def rules(self) -> Rules:
        return Rules(
            fill=self.fill,
            **self.params,
            fee=self.costs.fee,
            slippage=self.costs.slippage,
            borrow=self.costs.borrow,
            funding=self.costs.funding or (),
        )


def _columns(draw, n):
    """Prices on a coarse grid, so that levels are often met exactly and often jumped."""
    small = st.integers(-3, 3)
    move = st.one_of(st.just(0), small, small, st.integers(-60, 60))
    rows = draw(
        st.lists(
            st.tuples(move, move, st.integers(0, 6), st.integers(0, 6)), min_size=n, max_size=n
        )
    )
    unit = draw(st.sampled_from([1.0, 0.01, 1e-7, 2.5e5]))
    level, columns = 100, []
    for gap, body, above, below in rows:
        opening = max(1, level + gap)
        level = max(1, opening + body)
        high, low = max(opening, level) + above, max(1, min(opening, level) - below)
        columns.append((opening * unit, high * unit, low * unit, level * unit))
    return list(zip(*columns, strict=True))


def _costs(draw, bars):
    rate = st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.3])
    funding = None
    if draw(st.booleans()):
        first, last = int(bars.timestamp[0]), int(bars.timestamp[-1]) + HOUR
        whole = st.integers(0, (last - first) // HOUR).map(lambda k: first + k * HOUR)
        times = draw(st.lists(whole | st.integers(first, last), max_size=6, unique=True))
        funding = tuple(
            (time, draw(st.sampled_from([0.001, -0.02, 0.5]))) for time in sorted(times)
        )
    borrow = draw(st.sampled_from([0.0, 0.05, 20.0]))
    return Costs(draw(rate), draw(rate), borrow=borrow, funding=funding)


@st.composite
def cases(draw, max_bars=40):
    n = draw(st.integers(1, max_bars))
    hole = st.one_of(st.just(0), st.just(0), st.integers(1, 4), st.integers(20, 60))
    missing = draw(st.lists(hole, min_size=n, max_size=n)) if draw(st.booleans()) else [0] * n
    calendar = draw(st.sampled_from(["24/7", "24/5", SESSION]))
    bars = make_bars(*_columns(draw, n), missing=missing, calendar=calendar, tick=0.0)
    dense = st.sets(st.integers(0, n - 1), max_size=n)
    unit = draw(st.sampled_from(["fraction", "fraction", "atr"]))
    level = st.sampled_from([None, 0.005, 0.02, 0.1, 0.6] + ([2.0] if unit == "atr" else []))
    params = {
        "direction": draw(st.sampled_from(["long", "short", "both", "both"])),
        "stop_loss": draw(level),
        "take_profit": draw(level),
        "stop_unit": unit,
        "max_hold": draw(st.sampled_from([None, None, 1, 2, 5])),
        "size": draw(st.sampled_from([1.0, 1.0, 0.5, 1e-9])),
        "cooldown": draw(st.sampled_from([0, 0, 0, 1, 3])),
    }
    start = draw(st.sampled_from([0, 0, n // 3]))
    return Case(
        bars=bars,
        events={kind: draw(dense) for kind in KINDS},
        params=params,
        costs=_costs(draw, bars),
        fill=draw(st.sampled_from(["next_open", "close"])),
        max_gap=draw(st.sampled_from([None, 0, 10])),
        start=start,
        stop=draw(st.sampled_from([n, n, max(start + 1, n - 2)])),
    )
