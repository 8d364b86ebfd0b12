"""The engine against a naive twin, against an independent backtester, and against hand counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ares.backtest import Arena, Costs, Outcome, run_batch, simulate, simulate_reference
from ares.backtest.metrics import daily_returns
from ares.backtest.strategies import BUILT_IN, SmaCross
from ares.core.errors import ParameterError
from backtest_cases import HOUR, Case, Fixed, bars_of_closes, cases, make_bars, random_bars
from engine_checks import assert_same
from naive_backtest import NaiveBacktest, naive_metrics

FREE = Costs(0.0, 0.0)
EXACT = ("entry_bar", "exit_bar", "side", "entry_price", "exit_price", "reason")
CLOSE = ("units", "fees", "pnl", "return")


def run(case: Case, engine=simulate):
    return engine(
        case.bars,
        Fixed(case.events),
        case.params,
        costs=case.costs,
        fill=case.fill,
        max_gap=case.max_gap,
        start=case.start,
        stop=case.stop,
    )


def same(a, b, tolerance=1e-12):
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def assert_equals_twin(case: Case):
    result = run(case)
    assert_same(result, run(case, simulate_reference))
    twin = NaiveBacktest(case.market, case.events, case.rules, case.start, case.stop)
    rows = result.trades.to_dict("records")
    assert len(rows) == len(twin.trades)
    for row, expected in zip(rows, twin.trades, strict=True):
        assert {name: row[name] for name in EXACT} == {name: expected[name] for name in EXACT}
        for name in CLOSE:
            assert math.isclose(row[name], expected[name], rel_tol=1e-9, abs_tol=1e-12), name
    np.testing.assert_allclose(result.equity, twin.equity, rtol=1e-12, atol=1e-12)
    assert (result.outcome is Outcome.RUINED) == twin.ruined
    metrics = naive_metrics(twin, result.metrics["days_per_year"])
    assert result.metrics.keys() == metrics.keys()
    # Returns and drawdowns are differences of numbers near 1: the smaller, the fewer digits; a
    # power of elapsed years multiplies the error of its base.
    scale = np.abs(result.daily_returns.to_numpy()).max()
    days = (result.equity.index[-1] - result.equity.index[0]).total_seconds() / 86400 + 1 / 24
    lost = dict.fromkeys(("sharpe", "sortino", "volatility"), 1e-14 / max(scale, 1e-300))
    lost["cagr"] = 1e-15 * 365.25 / days
    lost["calmar"] = lost["cagr"] + 1e-14 / max(metrics["max_drawdown"], 1e-300)
    for name, value in metrics.items():
        digits = lost.get(name, 0.0)
        if digits < 1e-3:
            assert same(result.metrics[name], value, 1e-12 + digits), name
    return result, twin


@pytest.mark.laws
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases())
def test_trades_prices_reasons_and_metrics_equal_the_naive_twin(case):
    _, twin = assert_equals_twin(case)
    for i, (cash, units) in enumerate(twin.ledger):
        value = cash + units * case.bars.close[case.start + i]
        assert math.isclose(value, twin.equity[i], rel_tol=1e-9, abs_tol=1e-9)


def dense_case(seed):
    """Longer markets with every rule switched on at random: hundreds of trades of all reasons."""
    rng = np.random.default_rng(seed)
    n = 600
    missing = np.where(rng.random(n) < 0.03, rng.integers(1, 40, n), 0)
    bars = random_bars(n, seed, step=0.02, missing=missing)
    kinds = ("long_entry", "long_exit", "short_entry", "short_exit")
    events = {k: set(np.flatnonzero(rng.random(n) < 0.15).tolist()) for k in kinds}
    params = {
        "direction": str(rng.choice(["long", "short", "both"])),
        "stop_loss": float(rng.choice([0.005, 0.03])),
        "take_profit": float(rng.choice([0.01, 0.05])),
        "stop_unit": str(rng.choice(["fraction", "atr"])),
        "max_hold": int(rng.integers(1, 12)),
        "size": float(rng.uniform(0.1, 1.0)),
        "cooldown": int(rng.choice([0, 0, 2])),
    }
    if params["stop_unit"] == "atr":
        params["stop_loss"] *= 50
        params["take_profit"] *= 50
    funding = tuple((int(t) + 30 * 60 * 10**9, 1e-4) for t in bars.timestamp[::8])
    costs = Costs(0.0005, float(rng.choice([0.0, 0.0003, 0.01])), 0.1, funding)
    fill = str(rng.choice(["next_open", "close"]))
    return Case(bars, events, params, costs, fill, 20, 0, n)


def test_long_random_markets_equal_the_naive_twin_and_meet_every_reason():
    reasons: set[str] = set()
    for seed in range(24):
        result, _ = assert_equals_twin(dense_case(seed))
        reasons |= set(result.trades.reason)
    assert reasons >= {"signal", "stop", "target", "gap", "time"}


@pytest.mark.laws
@given(st.integers(0, 10**6))
def test_equity_is_cash_plus_signed_units_times_close_at_every_bar(seed):
    case = dense_case(seed)
    case.costs = Costs(case.costs.fee, case.costs.slippage)
    result = run(case)
    cash, units = np.ones(len(case.bars)), np.zeros(len(case.bars))
    for t in result.trades.itertuples():
        signed = t.side * t.units
        cash[t.entry_bar :] -= signed * t.entry_price + case.costs.fee * t.units * t.entry_price
        cash[t.exit_bar :] += signed * t.exit_price - case.costs.fee * t.units * t.exit_price
        units[t.entry_bar : t.exit_bar] += signed
    assert np.abs(cash + units * case.bars.close - result.equity.to_numpy()).max() < 1e-9


@pytest.mark.laws
@given(cases())
def test_the_batch_marks_the_days_of_the_full_result(case):
    result = run(case, simulate_reference)
    rules = {"costs": case.costs, "fill": case.fill, "max_gap": case.max_gap}
    arena = Arena.of(case.bars, **rules, start=case.start, stop=case.stop)
    others = [{"direction": "both"}, case.params, {"size": 0.5, "cooldown": 1}]
    marks = run_batch(arena, Fixed(case.events), others)
    assert marks.n_trades[1] == len(result.trades)
    assert marks.outcome(1) is result.outcome
    assert marks.total_return[1] == result.metrics["total_return"] or math.isnan(
        result.metrics["total_return"]
    )
    assert daily_returns(marks.equity)[1].tobytes() == result.daily_returns.to_numpy().tobytes()
    assert marks.days.tolist() == (result.daily_returns.index.asi8 // (24 * HOUR)).tolist()
    day = case.bars.timestamp[result.trades.exit_bar.to_numpy()] // (24 * HOUR)
    closed = [int((day == d).sum()) for d in marks.days]
    assert marks.closed[1].tolist() == closed
    end = run_batch(arena, Fixed(case.events), others, marks="end")
    assert end.equity[:, 0].tobytes() == marks.equity[:, -1].tobytes()
    assert end.n_trades.tolist() == marks.n_trades.tolist()


# -- hand counts ---------------------------------------------------------------------------------


def one(bars, events, params=None, **kwargs):
    result = simulate(bars, Fixed(events), params or {}, **({"costs": FREE} | kwargs))
    return [
        (t.entry_bar, t.exit_bar, t.side, t.entry_price, t.exit_price, t.reason)
        for t in result.trades.itertuples()
    ]


FLAT = [100.0] * 6


def test_a_decision_is_filled_at_the_next_open_or_at_its_close():
    bars = make_bars([10, 11, 12, 13], [15] * 4, [9] * 4, [10.5, 11.5, 12.5, 13.5])
    events = {"long_entry": {0}, "long_exit": {1}}
    assert one(bars, events) == [(1, 2, 1, 11, 12, "signal")]
    assert one(bars, events, fill="close") == [(0, 1, 1, 10.5, 11.5, "signal")]


def test_slippage_and_fees_of_a_long_and_a_short():
    bars = make_bars([100] * 4, [110] * 4, [90] * 4, [100] * 4)
    costs = Costs(0.01, 0.1)
    long = {"long_entry": {0}, "long_exit": {1}}
    (trade,) = simulate(bars, Fixed(long), {"size": 0.5}, costs=costs).trades.to_dict("records")
    assert (trade["entry_price"], trade["exit_price"]) == pytest.approx((110, 90))
    assert trade["units"] == pytest.approx(0.5 / (110 * 1.01))
    assert trade["fees"] == pytest.approx(0.01 * trade["units"] * 200)
    assert trade["pnl"] == pytest.approx(trade["units"] * -20 - trade["fees"])
    assert trade["return"] == pytest.approx(trade["pnl"] / (trade["units"] * 110))
    short = {"short_entry": {0}, "short_exit": {1}}
    params = {"direction": "short"}
    (trade,) = simulate(bars, Fixed(short), params, costs=costs).trades.to_dict("records")
    assert (trade["entry_price"], trade["exit_price"]) == pytest.approx((90, 110))
    assert trade["units"] == pytest.approx(1 / (90 * 1.01))


@pytest.mark.parametrize(
    ("bar2", "price", "reason"),
    [
        ((100, 113, 87, 100), 87.5, "stop"),  # both touched: the stop
        ((100, 112.5, 95, 100), 112.5, "target"),
        ((100, 105, 87.5, 100), 87.5, "stop"),
        ((85, 120, 80, 100), 85, "gap"),
        ((87.5, 120, 80, 100), 87.5, "gap"),
        ((112.5, 120, 80, 100), 112.5, "target"),  # the open comes before the low
        ((115, 120, 80, 100), 115, "target"),
    ],
)
def test_stop_target_and_gap_inside_a_bar(bar2, price, reason):
    columns = list(zip((100, 100, 100, 100), (100, 101, 99, 100), bar2, FLAT[:4], strict=True))
    bars = make_bars(*columns)
    params = {"stop_loss": 0.125, "take_profit": 0.125}
    assert one(bars, {"long_entry": {0}}, params) == [(1, 2, 1, 100, price, reason)]


def test_slippage_larger_than_the_stop_leaves_at_the_unslipped_open():
    bars = make_bars([100] * 4, [101] * 4, [99.5] * 4, [100] * 4)
    costs = Costs(0.0, 0.02)
    (trade,) = one(bars, {"long_entry": {0}}, {"stop_loss": 0.01}, costs=costs)
    assert trade == (1, 1, 1, 102, 98, "gap")


def test_a_position_opened_at_a_close_meets_its_stop_in_the_next_bar():
    bars = make_bars([100] * 4, [101] * 4, [80, 80, 99, 99], [100] * 4)
    (trade,) = one(bars, {"long_entry": {1}}, {"stop_loss": 0.1}, fill="close")
    assert trade == (1, 3, 1, 100, 100, "end")
    (trade,) = one(bars, {"long_entry": {0}}, {"stop_loss": 0.1})
    assert trade == (1, 1, 1, 100, 90, "stop")


def test_only_a_signal_exit_shares_its_open_with_the_opposite_entry():
    bars = make_bars(range(10, 18), [30] * 8, [1] * 8, range(10, 18))
    turn = {"long_entry": {0}, "long_exit": {2}, "short_entry": {2}}
    both = {"direction": "both"}
    assert one(bars, turn, both) == [(1, 3, 1, 11, 13, "signal"), (3, 7, -1, 13, 17, "end")]
    assert one(bars, turn, both | {"cooldown": 1}) == [(1, 3, 1, 11, 13, "signal")]
    late = {"long_entry": {0}, "short_entry": {2}}
    timed = both | {"max_hold": 2}
    assert one(bars, late, timed) == [(1, 3, 1, 11, 13, "time")]
    assert one(bars, turn, timed)[0] == (1, 3, 1, 11, 13, "signal")


def test_cooldown_counts_from_the_bar_of_the_exit():
    bars = make_bars([100] * 9, [101] * 9, [99, 99, 80, 99, 99, 99, 99, 99, 99], [100] * 9)
    events = {"long_entry": set(range(9))}
    for cooldown in (0, 1, 3):
        params = {"stop_loss": 0.1, "cooldown": cooldown}
        trades = one(bars, events, params)
        assert trades[0][:2] == (1, 2)
        assert trades[1][0] == 2 + cooldown + 1


def test_contradicting_entries_are_none():
    bars = bars_of_closes(range(10, 16))
    assert one(bars, {"long_entry": {0}, "short_entry": {0}}, {"direction": "both"}) == []
    assert one(bars, {"long_entry": {0}, "long_exit": {0}}) == []
    assert len(one(bars, {"long_entry": {0}, "short_entry": {0}})) == 1


def test_an_entry_is_stale_after_a_long_gap_and_an_exit_waits():
    bars = bars_of_closes(range(10, 18), missing=[0, 0, 0, 0, 70, 0, 0, 0])
    events = {"long_entry": {3}}
    assert one(bars, events, max_gap=60) == []
    assert len(one(bars, events, max_gap=70)) == len(one(bars, events)) == 1
    events = {"long_entry": {0}, "long_exit": {3}}
    assert one(bars, events, max_gap=60)[0][:2] == (1, 4)
    assert one(bars, {"long_entry": {3}}, fill="close", max_gap=60)[0][0] == 3


def test_ruin_ends_everything():
    bars = make_bars([100] * 5, [100, 100, 300, 100, 100], [100] * 5, [100, 100, 250, 100, 100])
    events = {"short_entry": {0, 2}}
    result = simulate(bars, Fixed(events), {"direction": "short"}, costs=FREE)
    assert result.outcome is Outcome.RUINED
    assert result.trades.reason.tolist() == ["ruin"]
    assert result.equity.tolist() == [1, 1, 0, 0, 0]
    assert result.metrics["total_return"] == -1
    assert result.metrics["cagr"] == -1


def test_borrow_and_funding_go_by_elapsed_time():
    bars = bars_of_closes([100.0] * 4, missing=[0, 0, 9, 0])
    events = {"short_entry": {0}, "short_exit": {2}}
    params = {"direction": "short"}
    year = 365.25 * 24
    costs = Costs(0.0, 0.0, borrow=0.5)
    (trade,) = simulate(bars, Fixed(events), params, costs=costs).trades.to_dict("records")
    assert trade["pnl"] == pytest.approx(-0.5 * 11 / year)  # 1 + 9 + 1 hours
    inside = int(bars.timestamp[1]) + 5 * HOUR  # within the gap
    costs = Costs(0.0, 0.0, funding=((inside, 0.01), (int(bars.timestamp[3]) + 1, 0.5)))
    (trade,) = simulate(bars, Fixed(events), params, costs=costs).trades.to_dict("records")
    assert trade["pnl"] == pytest.approx(0.01)  # a short receives a positive rate


def test_no_entry_on_the_last_bar_and_a_forced_end():
    bars = bars_of_closes([10, 11, 12])
    assert one(bars, {"long_entry": {1}}) == []
    assert one(bars, {"long_entry": {2}}, fill="close") == []
    assert one(bars, {"long_entry": {0}}) == [(1, 2, 1, 10, 12, "end")]
    assert one(bars_of_closes([10]), {"long_entry": {0}}) == []


def test_a_range_of_bars_warms_up_on_earlier_ones():
    bars = random_bars(400, 3)
    params = {"fast": 5, "slow": 20}
    whole = simulate(bars, SmaCross(), params, costs=FREE).trades
    part = simulate(bars, SmaCross(), params, costs=FREE, start=150, stop=300)
    assert part.equity.index[0].value == bars.close_time[150]
    assert len(part.equity) == 150
    inside = whole[(whole.entry_bar > 150) & (whole.exit_bar < 299)]
    shared = part.trades[part.trades.reason == "signal"]
    assert len(shared) > 3
    columns = ["entry_bar", "exit_bar", "entry_price", "exit_price"]
    missing = set(map(tuple, shared[columns].to_numpy())) - set(
        map(tuple, inside[columns].to_numpy())
    )
    assert missing == set()
    assert part.trades.exit_bar.max() <= 299


@pytest.mark.parametrize("name", sorted(BUILT_IN))
@pytest.mark.parametrize("fill", ["next_open", "close"])
def test_nothing_before_a_cut_depends_on_bars_after_it(name, fill):
    missing = np.where(np.arange(700) % 97 == 96, 30, 0)
    bars = random_bars(700, 11, step=0.02, missing=missing)
    strategy = BUILT_IN[name]
    params = {"direction": "both", "stop_loss": 2.0, "stop_unit": "atr", "take_profit": 3.0}
    rules = {"costs": Costs(0.001, 0.001), "fill": fill, "max_gap": 20}
    whole = simulate(bars, strategy, params, **rules)
    assert len(whole.trades) > 3
    for cut in (120, 333, 500, 611):
        part = simulate(bars[:cut], strategy, params, **rules)
        assert part.equity.to_numpy()[:-1].tobytes() == whole.equity[: cut - 1].to_numpy().tobytes()


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_higher_fees_never_raise_the_return_of_the_same_trades(name):
    bars = random_bars(600, 5, step=0.02)
    last = math.inf
    for fee in (0.0, 0.0001, 0.001, 0.01, 0.1):
        result = simulate(bars, BUILT_IN[name], {"direction": "both"}, costs=Costs(fee, 0.0))
        assert result.metrics["total_return"] < last
        last = result.metrics["total_return"]


def test_what_cannot_be_run_says_why():
    bars = random_bars(30, 1)
    rules = {"costs": FREE}
    with pytest.raises(ParameterError, match="needs 50 bars to warm up"):
        simulate(bars, SmaCross(), {}, **rules)
    with pytest.raises(ParameterError, match="at least one bar"):
        simulate(bars[:0], SmaCross(), {}, **rules)
    with pytest.raises(ParameterError, match="next_open or close"):
        simulate(bars, SmaCross(), {"fast": 2, "slow": 5}, **rules, fill="open")
    for start, stop in ((-1, 5), (5, 5), (0, 31), (40, None)):
        with pytest.raises(ParameterError, match="range of the 30 bars"):
            simulate(bars, SmaCross(), {"fast": 2, "slow": 5}, **rules, start=start, stop=stop)
    with pytest.raises(ParameterError, match="max_gap"):
        simulate(bars, SmaCross(), {"fast": 2, "slow": 5}, **rules, max_gap=-1)
    for name in ("start", "stop", "max_gap"):
        with pytest.raises(ParameterError, match=f"{name} is a whole number of bars"):
            simulate(bars, SmaCross(), {"fast": 2, "slow": 5}, **rules, **{name: 1.5})
    with pytest.raises(ParameterError, match="indices of the 30 bars"):
        simulate(bars, Fixed({"long_entry": {99}}), {}, **rules)
