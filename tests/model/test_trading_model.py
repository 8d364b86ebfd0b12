"""A trained model: predictions of a window again, their validity, and what a model refuses."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import ares
from ares.core.errors import InputError
from ares.market.resample import resample
from ares.validate.leakage import check_prefix, random_cuts

if TYPE_CHECKING:
    from ares.market.bars import Bars
    from ares.model.trading_model import TradingModel
    from small_runs import Finished

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(finished: Finished) -> TradingModel:
    return ares.load(finished.run_dir)


@pytest.fixture(scope="module")
def market(finished: Finished) -> Bars:
    """The bars as the run read them."""
    return ares.load_bars(finished.csv, symbol="IXIC", exchange="nasdaq", timeframe="1d")


@pytest.mark.parametrize("window", [0, 1])
def test_a_windows_predictions_come_back_bit_for_bit(
    finished: Finished, market: Bars, window: int
) -> None:
    oos = pd.read_parquet(finished.run_dir / "oos.parquet")
    expected = oos[oos["window"] == window].drop(columns="window").reset_index(drop=True)
    predicted = ares.load(finished.run_dir, window=window).predict(market)
    rows = predicted["timestamp"].isin(expected["timestamp"])
    found = predicted[rows].reset_index(drop=True)
    assert len(expected) == 480
    assert found["p_up"].notna().sum() > 400
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    # A window answers from the end of its training on: the first answer is its first test bar.
    first = predicted["p_up"].first_valid_index()
    assert predicted["timestamp"][first] == expected["timestamp"][0]


def test_windows_cover_the_second_half_of_the_training_range(
    finished: Finished, market: Bars
) -> None:
    oos = pd.read_parquet(finished.run_dir / "oos.parquet")
    training = len(market) * 8 // 10
    times = pd.DatetimeIndex(market.timestamp[training // 2 : training], tz="UTC")
    assert oos["timestamp"].tolist() == times.tolist()


def test_the_final_model_answers_from_the_holdout_on(model: TradingModel, market: Bars) -> None:
    predicted = model.predict(market)
    training = len(market) * 8 // 10
    assert model.valid_from == market.close_time[training - 1]
    assert predicted["p_up"][:training].isna().all()
    assert predicted["regime"][:training].isna().all()
    assert (predicted["action"][:training] == 0).all()
    assert predicted["p_up"][training:].notna().all()
    assert predicted["regime"][training:].isin(model.regimes.names).all()
    everything = model.predict(market, in_sample=True)
    assert everything["p_up"][:training].notna().sum() > training - 300
    assert everything["p_up"][:50].isna().all()  # too little history
    pd.testing.assert_frame_equal(everything[training:], predicted[training:], check_exact=True)


def test_columns_and_their_ranges(model: TradingModel, market: Bars) -> None:
    predicted = model.predict(market, in_sample=True)
    assert list(predicted) == ["timestamp", "p_up", "confidence", "regime", "action", "size"]
    for name in ("p_up", "confidence"):
        assert predicted[name].dropna().between(0, 1).all()
    assert predicted["p_up"].nunique() > 5
    assert set(predicted["action"]) <= {-1, 0, 1}
    assert ((predicted["size"] > 0) == (predicted["action"] != 0)).all()
    assert (predicted["size"][predicted["action"] != 0] == model.params["size"]).all()


def test_action_is_the_threshold_on_confidence(model: TradingModel, market: Bars) -> None:
    found = model.predict(market, in_sample=True)
    signals = model.signals(market)
    enter = float(str(model.params["enter"]))
    entering = found["confidence"].to_numpy() >= enter  # NaN is False
    assert np.array_equal(found["action"], np.where(entering, signals.side, 0))
    assert (found["action"] != 0).any()


def test_a_side_that_may_not_be_traded_keeps_its_probability(
    model: TradingModel, market: Bars
) -> None:
    long = dataclasses.replace(model, params={**model.params, "direction": "long"})
    found = long.predict(market, in_sample=True)
    down = long.signals(market).side == 0
    known = found["p_up"].notna()
    assert (down & known).any()
    assert found["confidence"][down & known].isna().all()
    assert not (found["action"] < 0).any()


def test_the_prefix_law_holds_for_signals_and_predictions(
    model: TradingModel, market: Bars
) -> None:
    cuts = (*random_cuts(len(market), 6, seed=3), 1, 0)

    def everything(bars: Bars) -> dict[str, object]:
        signals = model.signals(bars)
        parts: dict[str, object] = {
            f.name: getattr(signals, f.name) for f in dataclasses.fields(signals)
        }
        parts["predict"] = model.predict(bars, in_sample=True).drop(columns="regime")
        return parts

    assert check_prefix(everything, market, cuts, name="model") == []


def test_the_prefix_law_holds_on_coarser_tracks(model: TradingModel, sample_bars: Bars) -> None:
    """An analyst and regimes of weeks on days: weeks that are not over are not known."""
    analyst = dataclasses.replace(model.analyst, timeframe="1w")
    weekly = dataclasses.replace(model, analyst=analyst, regime_timeframe="1w")
    bars = sample_bars[1000:2500]
    cuts = random_cuts(len(bars), 8, seed=4)

    def everything(given: Bars) -> tuple[object, ...]:
        signals = weekly.signals(given)
        return signals.p_up, signals.confidence, signals.side, signals.regimes

    assert check_prefix(everything, bars, cuts, name="weekly") == []


def test_another_timeframe_is_refused(model: TradingModel, market: Bars) -> None:
    with pytest.raises(InputError, match="1d bars"):
        model.predict(resample(market, "1w"))


def test_another_market_warns_once(
    model: TradingModel, market: Bars, caplog: pytest.LogCaptureFixture
) -> None:
    other = dataclasses.replace(market, symbol="QQQ", exchange="arca")
    mine = dataclasses.replace(model)  # nothing was said by this one yet
    with caplog.at_level(logging.WARNING, logger="ares.model"):
        mine.predict(market)
        assert not caplog.records
        mine.predict(other)
        mine.predict(other)
    (record,) = caplog.records
    assert "QQQ instead of IXIC" in record.getMessage()
    assert "arca instead of nasdaq" in record.getMessage()


def test_too_little_history_is_nan_not_an_error(model: TradingModel, market: Bars) -> None:
    for few in (1, 5, 30):
        predicted = model.predict(market[len(market) - few :])
        assert len(predicted) == few
        assert predicted["p_up"].isna().all()
        assert (predicted["action"] == 0).all()
