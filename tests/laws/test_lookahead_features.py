"""No look-ahead: f(bars[:k]) == f(bars)[:k], bit for bit, over every registered feature."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.learn.features import FEATURES, compute_features
from ares.learn.features_core import Feature
from ares.market.bars import Bars
from ares.validate.leakage import check_prefix, random_cuts

pytestmark = pytest.mark.laws

HOUR = 3_600_000_000_000
CUTS = 4 if numba.config.DISABLE_JIT else 25


def made(seed, n, missing, volume):
    """Bars of a random walk on a grid of ticks: ties, flat stretches, gaps and empty volume."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-3, 4, n) * (rng.random(n) < 0.7)
    closing = np.maximum(2000 + np.cumsum(steps), 10) * 0.05
    opening = np.concatenate([closing[:1], closing[:-1]])
    opening = np.maximum(opening + rng.integers(-1, 2, n) * 0.05, 0.05)
    high = np.maximum(opening, closing) + rng.integers(0, 3, n) * 0.05
    low = np.maximum(np.minimum(opening, closing) - rng.integers(0, 3, n) * 0.05, 0.05)
    timestamp = np.arange(n, dtype=np.int64) * HOUR
    gaps = []
    for before in sorted({int(b) for b in rng.integers(0, n - 1, len(missing))}):
        length = missing[len(gaps)]
        timestamp[before + 1 :] += length * HOUR
        gaps.append((before, before + 1, length))
    return Bars(
        timestamp=timestamp,
        open=opening,
        high=high,
        low=low,
        close=closing,
        volume=rng.lognormal(0, 2, n) * (rng.random(n) < volume),
        symbol="X",
        exchange="x",
        timeframe="1h",
        gaps=np.array(gaps, dtype=np.int64).reshape(-1, 3),
    )


@st.composite
def markets(draw):
    return made(
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(2, 400)),
        draw(st.lists(st.integers(1, 200), max_size=3)),
        draw(st.sampled_from([0.0, 0.5, 1.0])),
    )


def features(bars):
    result = compute_features(bars, tuple(FEATURES), max_gap=60)
    return {name: result.matrix[:, j] for j, name in enumerate(result.names)}


@given(bars=markets(), cut=st.floats(0, 1))
def test_no_feature_sees_the_future(bars, cut):
    leaks = check_prefix(features, bars, [int(cut * len(bars))], name="features")
    assert not leaks, leaks[0]


@given(bars=markets())
@settings(max_examples=10)
def test_no_feature_sees_the_future_at_any_of_many_cuts(bars):
    cuts = random_cuts(len(bars), 8, seed=len(bars))
    leaks = check_prefix(features, bars, cuts, name="features")
    assert not leaks, leaks[0]


def test_no_feature_sees_the_future_of_the_sample(sample_bars):
    bars = sample_bars[: 300 if numba.config.DISABLE_JIT else len(sample_bars)]
    leaks = check_prefix(features, bars, random_cuts(len(bars), CUTS, seed=1), name="sample")
    assert not leaks, leaks[0]


def test_no_feature_sees_the_future_of_real_bitcoin_minutes(real_minutes):
    bars = real_minutes[: 300 if numba.config.DISABLE_JIT else 6000]
    leaks = check_prefix(features, bars, random_cuts(len(bars), CUTS, seed=2), name="bitcoin")
    assert not leaks, leaks[0]
    assert len(bars.segments(60)) > 1 or numba.config.DISABLE_JIT


@pytest.fixture(scope="module")
def real_minutes(shared_data):
    import pandas as pd

    frame = pd.read_csv(
        shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz",
        names=["timestamp", "open", "close", "high", "low", "volume"],
        nrows=6500,
    )
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="ms", utc=True)
    return Bars.from_frame(frame, symbol="BTCUSD", exchange="bitfinex", timeframe="1m")


def centred_mean(close):
    """A mean of the bar, its neighbour before and its neighbour AFTER."""
    out = np.empty(len(close))
    out[1:-1] = (close[:-2] + close[1:-1] + close[2:]) / close[1:-1] / 3.0
    out[0], out[-1] = 1.0, 1.0
    return out


def whole_sample_mean(close):
    """Innocent to look at: scaled by a mean that every later bar moves."""
    return close / close.mean()


@pytest.mark.parametrize("leaky", [centred_mean, whole_sample_mean])
def test_the_law_catches_a_planted_leak(leaky, sample_bars, monkeypatch):
    planted = Feature("planted", ("close",), 0, "ratio", True, leaky)
    monkeypatch.setattr("ares.learn.features.FEATURES", {**FEATURES, "planted": planted})

    def with_leak(bars):
        result = compute_features(bars, ("return_1", "planted"), max_gap=60)
        return {name: result.matrix[:, j] for j, name in enumerate(result.names)}

    leaks = check_prefix(with_leak, sample_bars[:500], [10, 250, 499], name="planted")
    assert {leak.output for leak in leaks} == {"planted"}
    assert {leak.cut for leak in leaks} == {10, 250, 499}


def test_the_law_catches_a_running_sum_that_numpy_pairs(sample_bars):
    """The subtle one: no later bar is used, but the rounding of a pairwise sum knows the length."""

    def paired(bars):
        moves = np.diff(np.log(bars.close), prepend=0.0)
        return np.array([moves[: len(bars)].sum() - moves[t + 1 :].sum() for t in range(len(bars))])

    assert check_prefix(paired, sample_bars[:400], [100, 200, 300], name="paired")


@given(bars=markets())
def test_every_feature_is_finite_exactly_from_its_warmup_on(bars):
    result = compute_features(bars, tuple(FEATURES), max_gap=60)
    borders = [*bars.segments(60).tolist(), len(bars)]
    for j, name in enumerate(result.names):
        for start, stop in pairwise(borders):
            first = min(start + FEATURES[name].warmup, stop)
            assert np.isnan(result.matrix[start:first, j]).all(), name
            assert np.isfinite(result.matrix[first:stop, j]).all(), name


@given(bars=markets())
def test_the_declared_warmup_is_what_the_function_itself_needs(bars):
    for name, feature in FEATURES.items():
        if len(bars) > feature.warmup:
            values = feature.function(*(getattr(bars, column) for column in feature.inputs))
            assert np.isfinite(values[feature.warmup :]).all(), name
            assert feature.warmup == 0 or np.isnan(values[: feature.warmup]).all(), name


CARRIED = [name for name, feature in FEATURES.items() if feature.carried]


@given(bars=markets(), at=st.floats(0, 1))
@settings(max_examples=15)
def test_a_carried_feature_needs_its_warmup_alone(bars, at):
    for name in CARRIED:
        feature = FEATURES[name]
        last = feature.warmup + int(at * (len(bars) - 1 - feature.warmup))
        if not feature.warmup <= last < len(bars):
            continue
        columns = [getattr(bars, column) for column in feature.inputs]
        whole = feature.function(*columns)[last]
        window = slice(last - feature.warmup, last + 1)
        alone = feature.function(*(column[window].copy() for column in columns))[-1]
        assert whole.tobytes() == alone.tobytes(), name


def test_features_that_are_not_carried_do_remember(sample_bars):
    """Otherwise the flag would be wrong in the other direction."""
    bars = sample_bars[:400]
    for name, feature in FEATURES.items():
        if feature.carried:
            continue
        columns = [getattr(bars, column) for column in feature.inputs]
        whole = feature.function(*columns)[-1]
        window = slice(399 - feature.warmup, 400)
        alone = feature.function(*(column[window].copy() for column in columns))[-1]
        assert whole.tobytes() != alone.tobytes(), name


@given(bars=markets(), power=st.integers(-12, 12))
@settings(max_examples=15)
def test_price_and_volume_levels_do_not_matter(bars, power):
    """Powers of two change no rounding, so scale-free means equal bits."""
    factor = 2.0**power
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")}
    other = dataclasses.replace(bars, **prices, volume=bars.volume * 4.0)
    ours, theirs = features(bars), features(other)
    for name in FEATURES:
        assert ours[name].tobytes() == theirs[name].tobytes(), name
