"""The same work by Ares, by vectorbt and by a plain compiled loop; `engine.py` runs them.

Each contestant takes the market and the points, and returns final value and trades of each point.
"""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numba
import numpy as np

FEE = 0.0001
FAST = (5, 8, 10, 12, 15, 18, 20, 25, 30, 40)
SLOW = (50, 60, 70, 80, 90, 100, 120, 150, 200, 250)
GRID = tuple({"fast": fast, "slow": slow} for fast in FAST for slow in SLOW)
WIDE = 100  # columns that vectorbt takes in one call


@dataclass(frozen=True)
class Work:
    """Bars, a score (for the score strategies), and the points."""

    bars: object
    score: object
    points: tuple


def warm_up(run, work):
    """Compile and import what the contestant needs, on a few bars."""
    score = None if work.score is None else work.score[:3_000]
    run(Work(work.bars[:3_000], score, work.points[:2]), 1)


def smooth_score(n, seed=0):
    """A score that wanders between about -0.5 and 0.5, NaN nowhere."""
    noise = np.cumsum(np.random.default_rng(seed).normal(size=n + 200))
    score = noise[200:] - noise[:-200]
    return 0.15 * score / score.std()


def score_points(low, high, seed=1, count=100):
    rng = np.random.default_rng(seed)
    return tuple(
        {
            "enter": float(rng.uniform(low, high)),
            "exit": float(rng.uniform(-0.05, 0.05)),
            "stop_loss": float(rng.uniform(0.01, 0.03)),
            "take_profit": float(rng.uniform(0.02, 0.06)),
            "cooldown": 1,  # vectorbt takes no entry in the bar of a stop
        }
        for _ in range(count)
    )


# -- Ares ----------------------------------------------------------------------------------------


def _ares(work, strategy, threads):
    from ares.backtest import Arena, Costs, run_batch

    bars = replace(work.bars)  # nothing is kept from another run
    arena = Arena.of(bars, costs=Costs(FEE, 0.0), fill="close")
    strategy.prepare(bars)
    parts = [work.points[i::threads] for i in range(threads)]

    def run(points):
        return run_batch(arena, strategy, points, marks="end")

    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(run, parts))
    final, trades = np.empty(len(work.points)), np.empty(len(work.points), dtype=np.int64)
    for i, part in enumerate(done):
        final[i::threads], trades[i::threads] = 1.0 + part.total_return, part.n_trades
    return final, trades


def ares_grid(work, threads):
    from ares.backtest.strategies import SmaCross

    return _ares(work, SmaCross(), threads)


def ares_score(work, threads):
    from ares.backtest.strategies import ScoreThreshold

    return _ares(work, ScoreThreshold(work.score), threads)


# -- vectorbt ------------------------------------------------------------------------------------


def _portfolio(columns, entries, exits, **stops):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import vectorbt

        exits = exits | (np.arange(len(exits)) == len(exits) - 1)[:, None]
        entries = entries.copy()
        entries[-1] = False
        folio = vectorbt.Portfolio.from_signals(
            **columns, entries=entries, exits=exits, fees=FEE, init_cash=1.0, engine="rust",
            stop_entry_price="fillprice", stop_exit_price="stopmarket", **stops,
        )  # fmt: skip
        total = np.atleast_1d(np.asarray(folio.total_return()))
        return 1.0 + total, np.atleast_1d(np.asarray(folio.trades.count()))


def _means(close):
    import vectorbt

    windows = FAST + SLOW
    means = vectorbt.MA.run(close, windows, short_name="ma").ma.to_numpy()
    return dict(zip(windows, np.ascontiguousarray(means.T), strict=True))


def _crossings(fast, slow):
    above, below = fast > slow, fast < slow
    up, down = np.zeros_like(above), np.zeros_like(above)
    up[1:] = above[1:] & (fast[:-1] <= slow[:-1])
    down[1:] = below[1:] & (fast[:-1] >= slow[:-1])
    return up, down


def vectorbt_grid_wide(work, threads):  # noqa: ARG001  # one call has one thread
    """All columns in one call, as its documentation shows it."""
    close = work.bars.close
    means = _means(close)
    fast = np.column_stack([means[p["fast"]] for p in work.points])
    slow = np.column_stack([means[p["slow"]] for p in work.points])
    return _portfolio({"close": close[:, None]}, *_crossings(fast, slow))


def vectorbt_grid_given(work, threads):
    """As the next one, given exact means: its own are rounded otherwise, and cross otherwise."""
    from ares.backtest.indicators import sma

    return vectorbt_grid_each(work, threads, {n: sma(work.bars.close, n) for n in FAST + SLOW})


def vectorbt_grid_each(work, threads, means=None):
    """One contiguous column after the other: the fastest use that was found."""
    close = work.bars.close
    means = means or _means(close)

    def one(point):
        up, down = _crossings(means[point["fast"]], means[point["slow"]])
        return _portfolio({"close": close[:, None]}, up[:, None], down[:, None])

    with ThreadPoolExecutor(threads) as pool:
        return tuple(np.concatenate(part) for part in zip(*pool.map(one, work.points), strict=True))


def _score_columns(work):
    return {n: getattr(work.bars, n)[:, None] for n in ("close", "open", "high", "low")}


def vectorbt_score_wide(work, threads):  # noqa: ARG001  # one call has one thread
    """As many columns in one call as fit into memory."""
    parts = []
    for begin in range(0, len(work.points), WIDE):
        points = work.points[begin : begin + WIDE]
        enter, leave, stop, target = (
            np.array([[p[k] for p in points]])
            for k in ("enter", "exit", "stop_loss", "take_profit")
        )
        score = work.score[:, None]
        parts.append(
            _portfolio(
                _score_columns(work), score >= enter, score <= leave, sl_stop=stop, tp_stop=target
            )
        )
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def vectorbt_score_each(work, threads):
    """One point after the other."""
    columns, score = _score_columns(work), work.score[:, None]

    def one(p):
        stops = {"sl_stop": p["stop_loss"], "tp_stop": p["take_profit"]}
        return _portfolio(columns, score >= p["enter"], score <= p["exit"], **stops)

    with ThreadPoolExecutor(threads) as pool:
        return tuple(np.concatenate(part) for part in zip(*pool.map(one, work.points), strict=True))


# -- a plain compiled loop over the bars ---------------------------------------------------------


@numba.njit(nogil=True)
def _loop(
    opening,
    high,
    low,
    close,
    score,
    enter,
    leave,
    stop_loss,
    take_profit,
    cooldown,
    fee,
    stop_first,
):
    """Long only, filled at the close; everything in registers, nothing kept."""
    cash, units, trades, ready, stop, target = 1.0, 0.0, 0, 0, 0.0, 0.0
    last = len(close) - 1
    for i in range(last + 1):
        if units > 0.0:
            price = 0.0
            if opening[i] <= stop or (opening[i] >= target and not (stop_first and low[i] <= stop)):
                price = opening[i]
            elif low[i] <= stop:
                price = stop
            elif high[i] >= target:
                price = target
            elif score[i] <= leave or i == last:
                price = close[i]
            if price > 0.0:
                cash += units * price * (1.0 - fee)
                units, ready, trades = 0.0, i + cooldown, trades + 1
        elif score[i] >= enter and i >= ready and i < last:
            units = cash / (close[i] * (1.0 + fee))
            cash -= units * close[i] * (1.0 + fee)
            stop, target = close[i] * (1.0 - stop_loss), close[i] * (1.0 + take_profit)
    return cash, trades


def loop_score(work, threads, *, stop_first=False):
    bars = work.bars

    def one(p):
        return _loop(
            bars.open, bars.high, bars.low, bars.close, work.score, p["enter"], p["exit"],
            p["stop_loss"], p["take_profit"], p["cooldown"], FEE, stop_first,
        )  # fmt: skip

    with ThreadPoolExecutor(threads) as pool:
        final, trades = zip(*pool.map(one, work.points), strict=True)
    return np.array(final), np.array(trades)


def loop_score_as_vectorbt(work, threads):
    """Where a bar opens beyond the target and touches the stop, vectorbt takes the stop."""
    return loop_score(work, threads, stop_first=True)


# -- backtesting.py, event by event --------------------------------------------------------------


def _convolved_mean(values, n):
    return np.convolve(values, np.ones(n) / n)[: len(values)]


def backtesting_py(bars, fast, slow):
    """Seconds and trades of one SMA point, its own usual way of writing it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from backtesting import Backtest, Strategy
        from backtesting.lib import crossover

        class Cross(Strategy):
            def init(self):
                self.a = self.I(_convolved_mean, bars.close, fast)
                self.b = self.I(_convolved_mean, bars.close, slow)

            def next(self):
                if crossover(self.a, self.b):
                    self.buy()
                elif crossover(self.b, self.a):
                    self.position.close()

        frame = bars.to_frame().set_index("timestamp")
        frame.index = frame.index.tz_localize(None)
        frame.columns = [name.capitalize() for name in frame.columns]
        test = Backtest(frame, Cross, cash=10**9, commission=FEE, finalize_trades=True)
        begun = time.perf_counter()
        stats = test.run()
    return time.perf_counter() - begun, int(stats["# Trades"])
