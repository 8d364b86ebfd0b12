"""What is computed ahead is found by training and search, and never changes what they answer."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import small_runs
from ares.backtest.costs import Costs
from ares.backtest.strategies import (
    BollingerReversion,
    DonchianBreakout,
    RsiReversion,
    SmaCross,
    slow_columns,
)
from ares.backtest.strategy import SLOW_COLUMNS, Prepared
from ares.core.errors import DataError
from ares.core.settings import load_settings
from ares.enhanced_training_manager_optimized import EnhancedTrainingManagerOptimized
from ares.learn.feature_memo import keep_features
from ares.learn.features import compute_features, feature_names
from ares.learn.track import tactician_track
from ares.market.bars import split_holdout
from ares.pipeline import footprint
from ares.pipeline.precompute import precompute
from ares.pipeline.program import recipe_of, refuse_few_bars
from ares.pipeline.values import MarketData
from ares.store import memo
from ares.store.memo import remembering
from ares.store.store import Store
from command_line import call_here

NAMED = ("--symbol", "IXIC", "--exchange", "nasdaq", "--timeframe", "1d")


def bits(values):
    return np.ascontiguousarray(values).view(np.int64)


@pytest.fixture(scope="module")
def market(sample_bars):
    return sample_bars[-900:]


@pytest.fixture(scope="module")
def kept(market, tmp_path_factory):
    """A store with the features of the market under a gap rule of 60."""
    store = Store(tmp_path_factory.mktemp("store"))
    track = tactician_track("1d", small_runs.small_config().tactician, 60)
    with remembering(store) as held:
        assert keep_features(held, market, track).made
        assert not keep_features(held, market, track).made
        for k in (450, 899):
            assert keep_features(held, market[:k], track, market).nbytes == 0
    return store


def asked(store, bars, **options):
    """Features, and whether they were recalled."""
    with remembering(store):
        found = compute_features(bars, **{"max_gap": 60, **options})
        counts = memo.memo_counts()
    assert counts["recalled"] + counts["made"] == 1
    return found, counts["recalled"] == 1


@pytest.mark.parametrize("k", [450, 899, 900])
def test_kept_features_and_those_of_a_prefix_have_the_bits_of_computed_ones(market, kept, k):
    expected = compute_features(market[:k], max_gap=60)
    found, recalled = asked(kept, market[:k])
    assert recalled
    assert found.names == expected.names
    assert np.array_equal(bits(found.matrix), bits(expected.matrix))
    with pytest.raises(ValueError, match="read-only"):
        found.matrix[0, 0] = 1.0


@given(k=st.integers(300, 899), start=st.integers(1, 100))
@settings(max_examples=10)
def test_other_bars_are_a_miss(market, kept, k, start):
    if k not in {450, 899}:
        assert not asked(kept, market[:k])[1]
    assert not asked(kept, market[start:])[1]


def test_other_parameters_and_other_code_are_a_miss(market, kept, monkeypatch):
    names = feature_names(market.interval_ns)
    assert asked(kept, market, names=names)[1]
    assert not asked(kept, market, max_gap=59)[1]
    assert not asked(kept, market, names=names[:-1])[1]
    assert not asked(kept, market, names=names[::-1])[1]
    monkeypatch.setattr(memo, "code_digest", lambda: "other")
    assert not asked(kept, market)[1]


def test_nothing_is_asked_of_or_written_to_a_store_that_is_not_in_use(market, kept):
    before = kept.stats()
    compute_features(market, max_gap=60)
    with remembering(None) as held:
        assert held is None
        compute_features(market, max_gap=60)
    assert memo.memo_counts() == {}
    with remembering(kept):
        compute_features(market[:300], max_gap=60)
    assert kept.stats().entries == before.entries


def test_a_damaged_or_collected_matrix_is_computed_again(market, tmp_path):
    store = Store(tmp_path)
    track = tactician_track("1d", small_runs.small_config().tactician, 60)
    with remembering(store) as held:
        keep_features(held, market, track)
        keep_features(held, market[:450], track, market)
    expected = compute_features(market[:450], max_gap=60)
    largest = max((tmp_path / "v1" / "objects").rglob("*"), key=lambda path: path.stat().st_size)
    body = bytearray(largest.read_bytes())
    body[len(body) // 2] ^= 1
    largest.write_bytes(body)
    found, recalled = asked(store, market[:450])
    assert not recalled
    assert np.array_equal(bits(found.matrix), bits(expected.matrix))
    assert store.stats().quarantined == 1
    with remembering(store) as held:
        assert keep_features(held, market, track).made
    assert asked(store, market[:450])[1]
    store.gc(0)
    assert not asked(store, market)[1]


def test_a_search_asks_for_no_slow_column_that_is_not_kept(market, tmp_path):
    strategy = BollingerReversion()
    wanted = slow_columns(strategy)
    assert {name for name, _ in wanted} <= set(SLOW_COLUMNS)
    periods = [name for name in strategy.space.names if "period" in name]
    low = {name: strategy.space.parameters[name].low for name in periods}
    high = {name: strategy.space.parameters[name].high for name in periods}
    points = [strategy.space.normalise(point) for point in (low, high)]
    plain = Prepared.of(market)
    with remembering(Store(tmp_path)) as held:
        prepared = Prepared.of(dataclasses.replace(market))  # bars that nobody prepared yet
        assert sum(prepared.keep_column(*column) for column in wanted) == len(wanted)
        assert not prepared.keep_column(*wanted[0])
        strategy.signals_batch(prepared, points)
        assert held.made == 0
        assert held.recalled >= len(points)
        for name, period in wanted[:: len(wanted) // 7]:
            assert np.array_equal(
                bits(prepared.column(name, period)), bits(plain._make(name, period))
            )


@pytest.mark.parametrize("strategy", [SmaCross(), DonchianBreakout(), RsiReversion()])
def test_columns_that_are_not_much_slower_to_make_than_to_read_are_not_kept(strategy):
    assert slow_columns(strategy) == []


@pytest.mark.slow
def test_a_prepared_training_run_finds_its_steps_and_features_and_has_the_same_bits(
    finished, tmp_path
):
    changed = {"data.data": [str(finished.csv)]}
    for key, value in small_runs.MARKET.items():
        changed[f"data.{key}"] = value
    toolkit = EnhancedTrainingManagerOptimized(small_runs.small_config(changed), home=tmp_path)
    toolkit.initialize()
    done = precompute(toolkit)
    assert [kept.made for scope, kept in done.features if not scope] == [True, False]
    assert len(done.steps) == 4
    assert done.added_bytes > 0
    again = precompute(toolkit)
    assert not any(kept.made for _, kept in again.features)
    assert all(record.cached for record in again.steps)
    assert again.added_bytes == 0
    result = small_runs.train(tmp_path, finished.csv)
    cached = {(record.scope, record.number) for record in result.steps if record.cached}
    assert cached == {("", 1), ("", 4), ("window 0", 4), ("window 1", 4)}
    assert result.features["recalled"] >= 9
    info = json.loads((result.run_dir / "run_info.json").read_text())
    assert info["features"] == result.features
    ours, theirs = small_runs.artifacts(finished.run_dir), small_runs.artifacts(result.run_dir)
    assert small_runs.difference(ours, theirs) == []
    assert finished.result.features["recalled"] == 0
    other = small_runs.train(tmp_path, finished.csv, {"data.max_gap": 30}, until=4)
    assert [r.number for r in other.steps if r.cached and r.number == 4] == []


def test_the_command_says_what_was_made_and_a_search_finds_it(tmp_path, sample_bars):
    csv = small_runs.write_csv(sample_bars[-900:], tmp_path / "bars.csv")
    given = ("--data", csv, *NAMED)
    plain = call_here(
        tmp_path, "optimize", "--strategy", "bollinger_reversion", *given, "--trials", 20,
        "--json", home=tmp_path / "plain",
    )  # fmt: skip
    first = call_here(tmp_path, "precompute", "--strategy", "bollinger_reversion", *given, "--json")
    assert first.code == 0, first.err
    assert (first.json["columns"], first.json["column_bytes"]) == (96, 96 * 8 * 720)
    assert first.json["made"] > 96
    assert first.json["added_bytes"] == first.json["store_bytes"] > first.json["column_bytes"]
    second = call_here(tmp_path, "precompute", "--strategy", "bollinger_reversion", *given)
    assert "Added 0 B" in second.out
    assert "made" not in second.out
    found = call_here(
        tmp_path, "optimize", "--strategy", "bollinger_reversion", *given, "--trials", 20, "--json"
    )
    for key in ("best", "trials_digest"):
        assert found.json[key] == plain.json[key]
    info = json.loads((small_runs.only_run(tmp_path / "home") / "run_info.json").read_text())
    assert info["columns"]["made"] == 0
    assert info["columns"]["recalled"] > 0
    stats = call_here(tmp_path, "cache", "stats", "--json").json["steps"]
    assert stats["bytes"] == first.json["store_bytes"]


def test_without_a_cache_there_is_nothing_to_precompute_into(tmp_path):
    off = ("--set", "computational_optimization.caching.enabled=false")
    done = call_here(tmp_path, "precompute", *off)
    assert done.code == 2
    assert "caching.enabled" in done.err


@pytest.mark.parametrize(
    ("n", "options", "rule"),
    [
        (200, (), "the regime model needs 100 bars of 1d before the first chunk"),
        (420, (), "the regime model needs 100 bars of 1d before the first chunk"),  # of a window
        (700, ("--memory", "10MiB"), "the process alone takes"),
    ],
)
def test_what_training_refuses_before_it_begins_is_refused_with_the_same_words(
    tmp_path, sample_bars, n, options, rule
):
    csv = small_runs.write_csv(sample_bars[-n:], tmp_path / "bars.csv")
    words = []
    for command in ("precompute", "train"):
        home = tmp_path / command
        done = call_here(tmp_path, command, "--data", csv, *NAMED, *options, "--json", home=home)
        assert done.code == 2
        words.append(done.json["error"]["message"])
        objects = [p for p in (home / ".ares").rglob("objects/*/*") if p.is_file()]
        assert len(objects) <= 1  # step 1, which has to read the bars to count them
    assert rule in words[0]
    numbers = r"\d+ ?MiB"  # what is in use differs from moment to moment
    assert re.sub(numbers, "", words[0]) == re.sub(numbers, "", words[1])


@pytest.mark.parametrize("n", [40, 200, 421, 833])
def test_too_few_bars_are_accounted_for_and_what_is_said_to_suffice_does(sample_bars, n):
    config = load_settings(None, environ={}).config
    recipe = recipe_of(config, Costs(fee=0.0, slippage=0.0))

    def refuse(count):
        _, holdout = split_holdout(sample_bars[-count:], config.data.holdout)
        refuse_few_bars(MarketData(holdout, {}), recipe, config.walk_forward)

    with pytest.raises(DataError) as caught:
        refuse(n)
    said = re.search(
        r"Of ([\d,]+) bars the last ([\d,]+) are held out .* trains on ([\d,]+) of the other ([\d,]+) .*"
        r" and ([\d,]+) of these ([\d,]+) come before the first chunk .*: (\d+) of 1d\."
        r" Load more data \(about ([\d,]+) bars in all\)",
        str(caught.value),
    )
    assert said is not None, str(caught.value)
    total, held, stop, training, before, same, known, enough = (
        int(number.replace(",", "")) for number in said.groups()
    )
    assert total == n == held + training
    assert stop == same == math.floor(config.walk_forward.first * training)
    assert before == math.floor(config.splits.first * stop)
    assert known == before  # these bars are days
    assert caught.value.value == known
    refuse(enough)
    assert enough <= n * 104 / known + 1  # 100 bars, the two for whole bars, three digits
    with pytest.raises(DataError):
        refuse(n * 100 // (known + 1) - 5)


def test_a_step_that_cannot_fit_is_refused_before_features_are_made(
    tmp_path, sample_bars, monkeypatch
):
    monkeypatch.setattr(footprint, "ROW_BYTES", {**footprint.ROW_BYTES, 12: 10**9})
    csv = small_runs.write_csv(sample_bars[-700:], tmp_path / "bars.csv")
    done = call_here(tmp_path, "precompute", "--data", csv, *NAMED)
    assert done.code == 2
    assert "step 12" in done.err
    assert "--memory" in done.err
    stored = tmp_path / "home" / ".ares" / "store"
    assert len([path for path in stored.rglob("objects/*/*") if path.is_file()]) == 1  # step 1
