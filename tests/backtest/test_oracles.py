"""The engine against two independent backtesters, on whole files of real one-minute bars."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ares import load_bars
from ares.backtest import Costs, simulate
from ares.backtest.strategies import SmaCross

FREE = Costs(0.0, 0.0)
FIELDS = ["entry_bar", "exit_bar", "entry_price", "exit_price"]
SIDES = {"long": (1,), "short": (-1,), "both": (1, -1)}


@pytest.fixture(
    scope="module",
    params=["bitfinex_ETHUSD_1m_2016.csv.gz", "bitfinex_BTCUSD_1m_2015.csv.gz"],
    ids=["ETH", "BTC"],
)
def bars(request, shared_data):
    return load_bars(
        shared_data / request.param,
        symbol="X",
        exchange="bitfinex",
        timeframe="1m",
        columns=("timestamp", "open", "close", "high", "low", "volume"),
    )


def integer_sma(close, period, decimals=8):
    """Means as exact integer sums, divided once; NaN before the first whole window."""
    whole = np.rint(close * 10**decimals).astype(np.int64)
    assert (whole / 10**decimals == close).all()
    total = np.concatenate([[0], np.cumsum(whole)])
    warm = np.full(period - 1, np.nan)
    return np.concatenate([warm, (total[period:] - total[:-period]) / (period * 10**decimals)])


def crossings(close, fast, slow):
    """One boolean per bar: the faster mean went above the slower one, or below it."""
    a, b = integer_sma(close, fast), integer_sma(close, slow)
    up, down = np.zeros(len(close), dtype=bool), np.zeros(len(close), dtype=bool)
    up[1:] = (a[1:] > b[1:]) & (a[:-1] <= b[:-1])
    down[1:] = (a[1:] < b[1:]) & (a[:-1] >= b[:-1])
    return up, down


# -- backtesting.py: fills at the next open ------------------------------------------------------


def event_driven_trades(bars, fast, slow, direction, stop_loss, take_profit):
    """Trades of backtesting.py in one unit without costs: one tuple of FIELDS each."""
    up, down = crossings(bars.close, fast, slow)
    moves = (up.astype(int) - down).tolist()
    opens, last = bars.open.tolist(), len(bars) - 1
    frame = bars.to_frame().set_index("timestamp")
    frame.index = frame.index.tz_localize(None)
    frame.columns = [name.capitalize() for name in frame.columns]
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # its own, on import, on new pandas and on open trades
        from backtesting import Backtest, Strategy

        patch.setattr("backtesting.backtesting._tqdm", lambda steps, **_: steps)

        class Cross(Strategy):
            def init(self):
                pass

            def next(self):
                t = len(self.data) - 1
                side = moves[t]
                if side == 0 or side * self.position.size > 0:
                    return
                self.position.close()
                if side not in SIDES[direction] or t + 1 >= last:  # no entry on the last bar
                    return
                # buy(sl=, tp=) refuses levels that do not enclose the close of bar t. It fills at
                # the next open, perhaps beyond them, and ours count from the fill, which without
                # slippage is that open. So they are set on the order, past that check.
                order = self.buy(size=1) if side > 0 else self.sell(size=1)
                order._replace(
                    sl_price=opens[t + 1] * (1 - side * stop_loss) if stop_loss else None,
                    tp_price=opens[t + 1] * (1 + side * take_profit) if take_profit else None,
                )

        run = Backtest(frame, Cross, cash=10**9).run()._strategy
    trades = [(t.entry_bar, t.exit_bar, t.entry_price, t.exit_price) for t in run.closed_trades]
    return trades + [(t.entry_bar, last, t.entry_price, bars.close[last]) for t in run.trades]


def our_trades(bars, fast, slow, direction, stop_loss, take_profit):
    params = {"fast": fast, "slow": slow, "direction": direction}
    params |= {"stop_loss": stop_loss, "take_profit": take_profit}
    trades = simulate(bars, SmaCross(), params, costs=FREE).trades
    return list(trades[FIELDS].itertuples(index=False, name=None))


PAIRS = [(5, 20, "long"), (10, 50, "long"), (10, 50, "short"), (5, 20, "both")]


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize(("fast", "slow", "direction"), PAIRS)
@pytest.mark.parametrize(
    "levels", [(None, None), (0.01, None), (0.001, None), (None, 0.01), (None, 0.001), (0.01, 0.02)]
)
def test_trades_equal_those_of_an_event_driven_backtester(bars, fast, slow, direction, levels):
    ours = our_trades(bars, fast, slow, direction, *levels)
    assert len(ours) > 1_000
    assert ours == event_driven_trades(bars, fast, slow, direction, *levels)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize(("fast", "slow", "direction"), PAIRS)
@pytest.mark.parametrize("levels", [(0.003, 0.004), (0.001, 0.001)])
def test_only_a_bar_that_opens_beyond_its_target_and_touches_its_stop_is_read_differently(
    bars, fast, slow, direction, levels
):
    ours = our_trades(bars, fast, slow, direction, *levels)
    theirs = event_driven_trades(bars, fast, slow, direction, *levels)
    different = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
    assert len(different) < 0.02 * len(ours)
    for mine, other in different:
        # The open comes first in time. Theirs asks for the stop first, whatever the open was.
        assert mine[:3] == other[:3]
        _, leave, price, exit_price = other
        side = 1 if exit_price < price else -1
        assert exit_price == price * (1 - side * levels[0])
        assert mine[3] == bars.open[leave]
        assert side * (bars.open[leave] - price * (1 + side * levels[1])) >= 0


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize(("fast", "slow"), [(500, 5_000), (2_000, 20_000)])
def test_positions_held_for_weeks_equal_those_of_an_event_driven_backtester(bars, fast, slow):
    ours = our_trades(bars, fast, slow, "both", 0.2, 0.3)
    assert max(leave - enter for enter, leave, *_ in ours) > 8_000
    assert ours == event_driven_trades(bars, fast, slow, "both", 0.2, 0.3)


# -- vectorbt: fills at the close ----------------------------------------------------------------


def vectorised_trades(bars, fast, slow, direction, costs, **stops):
    """Trades of vectorbt as an array of records, and what one unit of cash became.

    It takes less than 1e-12 of anything for nothing, and its final value is the first cash plus all
    profits, which cancel. Fees of thousands of trades leave less than that, so it starts with 1e60,
    and the end is read off the last trade: all the cash there was, and what the trade made of it.
    """
    up, down = crossings(bars.close, fast, slow)
    last = np.arange(len(bars)) == len(bars) - 1
    none = np.zeros(len(bars), dtype=bool)
    long = (up & ~last, down | last) if direction != "short" else (none, none)
    short = (down & ~last, up | last) if direction != "long" else (none, none)
    if direction == "both":  # an opposite entry turns the position, an exit beside it is a conflict
        long, short = (long[0], last), (short[0], last)
    columns = {name: np.array(getattr(bars, name)) for name in ("open", "high", "low", "close")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of its dependencies, on import
        import vectorbt

        folio = vectorbt.Portfolio.from_signals(
            **columns,
            entries=long[0],
            exits=long[1],
            short_entries=short[0],
            short_exits=short[1],
            fees=costs.fee,
            slippage=costs.slippage,
            init_cash=1e60,
            stop_entry_price="fillprice",
            stop_exit_price="stopmarket",
            engine="rust",
            **stops,
        )
        trades = folio.trades.records_arr
    end = trades[-1]
    value = end["size"] * end["entry_price"] + end["entry_fees"] + end["pnl"]
    return trades, value / 1e60


def assert_agrees(bars, fast, slow, direction, costs, stop_loss=None, take_profit=None):
    params = {"fast": fast, "slow": slow, "direction": direction}
    params |= {"stop_loss": stop_loss, "take_profit": take_profit}
    result = simulate(bars, SmaCross(), params, costs=costs, fill="close")
    stops = {"sl_stop": stop_loss, "tp_stop": take_profit}
    theirs, value = vectorised_trades(bars, fast, slow, direction, costs, **stops)
    trades = result.trades
    assert len(trades) == len(theirs) > 50
    assert (trades.entry_bar == theirs["entry_idx"]).all()
    assert (trades.exit_bar == theirs["exit_idx"]).all()
    for name in ("entry_price", "exit_price"):  # theirs are means over the orders of a trade
        np.testing.assert_allclose(trades[name], theirs[name], rtol=1e-12)
    assert result.equity.iloc[-1] == pytest.approx(value, rel=1e-9, abs=0)
    return trades


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("direction", ["long", "both"])
def test_a_hundred_points_have_the_trades_and_final_values_of_a_vectorised_backtester(
    bars, direction
):
    for fast in (3, 4, 5, 6, 8, 10, 12, 15, 18, 20):
        for slow in (25, 30, 40, 50, 60, 80, 100, 150, 200, 250):
            assert_agrees(bars, fast, slow, direction, Costs(0.001, 0.0005))


# It takes no entry in the bar of a stop, asks for the stop before it asks for a target at the open,
# and charges slippage at a target too: free of slippage, at these levels no bar here has the rest.
@pytest.mark.compiled
@pytest.mark.parametrize("direction", ["long", "short"])
@pytest.mark.parametrize(("fast", "slow"), [(10, 50), (60, 250)])
@pytest.mark.parametrize(
    ("stop_loss", "take_profit", "slippage"),
    [(0.005, None, 0.0005), (None, 0.01, 0.0), (0.01, 0.02, 0.0)],
)
def test_stops_behind_an_entry_at_the_close_are_those_of_a_vectorised_backtester(
    bars, direction, fast, slow, stop_loss, take_profit, slippage
):
    costs = Costs(0.001, slippage)
    trades = assert_agrees(bars, fast, slow, direction, costs, stop_loss, take_profit)
    wanted = {"stop", "gap"} if stop_loss else set()
    wanted |= {"target"} if take_profit else set()
    assert set(trades.reason) >= wanted | {"signal"}
