"""Out of sample: the stitched curve, its benchmark, and the same curve again under stress."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from ares.backtest.costs import Costs
from ares.core.errors import DataError
from ares.market.bars import Bars
from ares.market.timeframe import DAY
from ares.pipeline import steps
from ares.pipeline.optimise import middle, search_space
from ares.pipeline.program import Trained, recipe_of, refit
from ares.pipeline.publish import headline
from ares.pipeline.saving import predictions_pieces
from ares.pipeline.step import Runner
from ares.pipeline.stress import delayed, noisy, stressed_rerun
from ares.pipeline.values import Recipe, Tools, WalkForward
from ares.pipeline.walk import Market, buy_and_hold, equity_returns
from small_runs import small_bars, small_config

if TYPE_CHECKING:
    from ares.core.types import Float64Array

pytestmark = pytest.mark.slow

TOOLS = Tools(1, None, 100, None, lambda *_: None, lambda _: None)
COSTS = Costs(0.0001, 0.0002)
CONFIG = small_config()
RECIPE: Recipe = recipe_of(CONFIG, COSTS)
MARKET = Market(COSTS, RECIPE.search.fill, RECIPE.max_gap)


@pytest.fixture(scope="module")
def bars() -> Bars:
    return small_bars()[:1920]


@pytest.fixture(scope="module")
def refits() -> list[Trained]:
    return []


@pytest.fixture(scope="module")
def walk(bars: Bars, refits: list[Trained]) -> WalkForward:
    def train(_: int, seen: Bars) -> Trained:
        refits.append(refit(Runner(None), seen, RECIPE, TOOLS))
        return refits[-1]

    return steps.validate_walk_forward(bars, RECIPE, CONFIG.walk_forward, steps.Refit(train))


def rerun(
    bars: Bars, walk: WalkForward, costs: float, latency: int, seed: int | None
) -> Float64Array:
    again = stressed_rerun(bars, walk.results, walk.models, walk.scores, MARKET, 0.1)
    return again(costs, latency, seed)


def test_the_unstressed_rerun_is_the_stitched_curve_bit_for_bit(
    bars: Bars, walk: WalkForward
) -> None:
    assert walk.oos.n_trades > 10
    np.testing.assert_array_equal(rerun(bars, walk, 1.0, 0, None), walk.oos.daily_returns)


@pytest.mark.parametrize("stress", [(2.0, 0, None), (1.0, 1, None), (1.0, 0, 5)])
def test_every_stress_changes_the_curve(
    bars: Bars, walk: WalkForward, stress: tuple[float, int, int | None]
) -> None:
    stressed = rerun(bars, walk, *stress)
    assert len(stressed) == len(walk.oos.daily_returns)
    assert not np.array_equal(stressed, walk.oos.daily_returns)
    np.testing.assert_array_equal(rerun(bars, walk, *stress), stressed)


def test_windows_train_before_they_test(
    bars: Bars, walk: WalkForward, refits: list[Trained]
) -> None:
    assert [r.window.test_start for r in walk.results] == [960, 1440]
    for result, trained in zip(walk.results, refits, strict=True):
        window = result.window
        assert window.train_stop == window.test_start
        assert len(trained.calibrated.score) == window.train_stop
        assert trained.model.valid_from == bars.close_time[window.train_stop - 1]
        for dataset in trained.datasets:
            assert dataset.t1.max() < window.train_stop
        entries, exits = result.trades["entry_bar"], result.trades["exit_bar"]
        assert (entries > window.test_start).all()  # decided at the first close or later
        assert (exits < window.test_stop).all()


def test_equity_days_and_trades_tell_one_story(bars: Bars, walk: WalkForward) -> None:
    oos = walk.oos
    assert oos.day.tolist() == (bars.timestamp[960:] // DAY).tolist()
    table = pd.concat(predictions_pieces(bars, walk))
    assert table["window"].tolist() == [0] * 480 + [1] * 480
    assert table["timestamp"].tolist() == pd.DatetimeIndex(bars.timestamp[960:], tz="UTC").tolist()
    growth = 1.0
    for result in walk.results:
        growth *= 1.0 + result.trades["pnl"].sum()  # each window starts with a cash of 1
    assert oos.equity[-1] == pytest.approx(growth, rel=1e-12)


def test_the_headline_is_defined_as_a_backtests_metrics(bars: Bars, walk: WalkForward) -> None:
    recipe, config = RECIPE, CONFIG.monte_carlo
    found = headline(bars, walk, steps.validate_monte_carlo(bars, walk, recipe, config))
    equity = walk.oos.equity  # daily bars: a day's end is a close
    peak = np.maximum(np.maximum.accumulate(equity), 1.0)
    assert found["max_drawdown"] == pytest.approx((1.0 - equity / peak).max(), rel=1e-12)
    elapsed = pd.Timestamp(bars.close_time[-1]) - pd.Timestamp(bars.timestamp[960])
    cagr = equity[-1] ** (365.25 / (elapsed / pd.Timedelta(days=1))) - 1.0
    assert found["cagr"] == pytest.approx(cagr, rel=1e-12)
    assert found["total_return"] == pytest.approx(equity[-1] - 1.0, rel=1e-12)


def test_the_benchmark_is_the_market(bars: Bars, walk: WalkForward) -> None:
    close = pd.Series(bars.close)
    expected = close.pct_change().iloc[960:].to_numpy()  # the first from the close before
    np.testing.assert_allclose(walk.oos.benchmark_returns, expected, rtol=1e-12)


def test_exposure_is_the_share_of_equity_at_work(bars: Bars, walk: WalkForward) -> None:
    held = 0.0
    for result, model in zip(walk.results, walk.models, strict=True):
        spans = zip(result.trades["entry_bar"], result.trades["exit_bar"], strict=True)
        closes = set(itertools.chain.from_iterable(range(a, b) for a, b in spans))
        held += len(closes) * float(str(model.params["size"]))
    # A trade that is entered and left inside one bar is held at no close.
    assert walk.oos.exposure == pytest.approx(held / 960, abs=1e-12)
    assert walk.evidence.exposure == walk.oos.exposure


def hourly(days: list[int]) -> Bars:
    times = np.array([day * DAY + hour * DAY // 24 for day in days for hour in range(24)])
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, len(times))))
    frame = pd.DataFrame(
        {"timestamp": times, "open": close, "high": close, "low": close, "close": close}
        | {"volume": 1.0}
    )
    return Bars.from_frame(frame, symbol="X", exchange="test", timeframe="1h", calendar="24/7")


def test_buy_and_hold_marks_days_by_their_last_close_and_repeats_missing_ones() -> None:
    bars = hourly([17100, 17101, 17103])
    start = 30  # inside the second day
    day = np.array([17101, 17102, 17103])
    found = buy_and_hold(bars, start, len(bars), day)
    base, first, last = bars.close[29], bars.close[47], bars.close[71]
    np.testing.assert_allclose(found, [first / base - 1, 0.0, last / first - 1], rtol=1e-12)
    whole = buy_and_hold(bars, 0, len(bars), np.array([17100, 17101, 17102, 17103]))
    assert whole[0] == bars.close[23] / bars.open[0] - 1


def test_equity_returns_compound_to_the_equity() -> None:
    pnl = np.array([0.1, -0.05, 0.02, -0.3])
    equity, expected = 1.0, []
    for value in pnl:
        expected.append(value / equity)
        equity += value
    found = equity_returns(pd.DataFrame({"pnl": pnl}))
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert np.prod(1 + found) == pytest.approx(equity)
    assert len(equity_returns(pd.DataFrame({"pnl": pnl[:0]}))) == 0


@pytest.mark.parametrize("late", [0, 1, 3])
def test_a_delayed_score_is_known_later_and_starts_with_the_window(late: int) -> None:
    score = np.arange(20.0)
    found = delayed(score[10:], late)
    assert len(found) == 10
    for bar in range(10, 20):
        if bar < 10 + late:
            assert np.isnan(found[bar - 10])
        else:
            assert found[bar - 10] == score[bar - late]


def test_noise_keeps_bars_possible(bars: Bars) -> None:
    found = noisy(bars, 0.1, 3)
    assert (found.low <= np.minimum(found.open, found.close)).all()
    assert (found.high >= np.maximum(found.open, found.close)).all()
    assert np.array_equal(found.timestamp, bars.timestamp)
    ratio = found.close / bars.close
    width = float(np.mean((bars.high - bars.low) / bars.close))
    assert np.std(np.log(ratio)) == pytest.approx(0.1 * width, rel=0.1)
    assert not np.array_equal(found.close, noisy(bars, 0.1, 4).close)


def test_the_plan_lies_in_the_space_and_its_size_meets_the_target(
    bars: Bars, walk: WalkForward, refits: list[Trained]
) -> None:
    for trained in refits:
        seen = bars[: len(trained.calibrated.score)]
        space = search_space(seen, trained.calibrated, trained.tracks[1], RECIPE.search)
        plan = trained.plan
        space.normalise(middle(space))
        volatility = plan.metrics["volatility"]
        assert plan.params["size"] == pytest.approx(min(1.0, 0.15 / volatility))
        assert plan.params["direction"] == RECIPE.search.direction
        assert float(str(plan.params["exit"])) < float(str(plan.params["enter"]))


def test_too_few_scores_are_refused(bars: Bars, walk: WalkForward, refits: list[Trained]) -> None:
    trained = refits[0]
    score = np.full(len(trained.calibrated.score), np.nan)
    empty = dataclasses.replace(trained.calibrated, score=score)
    with pytest.raises(DataError, match="chained score"):
        steps.optimize_parameters(
            bars[: len(score)], empty, trained.tracks[1], RECIPE.search, COSTS, False, None, 0, TOOLS
        )  # fmt: skip
