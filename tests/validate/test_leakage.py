"""Planted look-ahead is found, where it is; causal functions pass."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import InputError, LeakageError
from ares.validate.leakage import assert_no_leak, check_prefix, random_cuts

CLOSE = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, size=300)))
CUTS = random_cuts(300, 25, seed=1)


def trailing_mean(close: np.ndarray) -> np.ndarray:
    out = np.full(len(close), np.nan)
    for t in range(9, len(close)):
        out[t] = close[t - 9 : t + 1].sum() / 10
    return out


def centred_mean(close: np.ndarray) -> np.ndarray:
    return pd.Series(close).rolling(5, center=True).mean().to_numpy()


def full_sample_z(close: np.ndarray) -> np.ndarray:
    return (close - close.mean()) / close.std() if len(close) else close


def test_a_causal_function_passes():
    assert check_prefix(trailing_mean, CLOSE, CUTS, name="mean") == []
    assert_no_leak(trailing_mean, CLOSE, CUTS, name="mean")


def test_a_centred_mean_is_found_at_its_first_wrong_bar():
    leaks = check_prefix(centred_mean, CLOSE, [50, 120], name="centred")
    assert [(leak.cut, leak.bar, leak.n_bars) for leak in leaks] == [(50, 48, 2), (120, 118, 2)]
    assert leaks[0].without_future == "nan"
    assert float(leaks[0].with_future) == pytest.approx(CLOSE[46:51].mean())


def test_a_full_sample_z_score_is_found_everywhere():
    leaks = check_prefix(full_sample_z, CLOSE, CUTS, name="z")
    assert [leak.cut for leak in leaks] == list(CUTS)
    assert {leak.bar for leak in leaks} == {0}
    with pytest.raises(
        LeakageError, match=r"z: a value at t must not change.*at bar 0 is"
    ) as error:
        assert_no_leak(full_sample_z, CLOSE, CUTS, name="z")
    assert f"{len(CUTS)} leaks" in str(error.value)


@given(st.integers(1, 299), st.integers(0, 299))
def test_exactly_the_peeking_bars_are_reported(cut, peeked):
    def peek(close):
        out = close.copy()
        if peeked < len(close):
            out[peeked // 2] = close[peeked]
        return out

    leaks = check_prefix(peek, CLOSE, [cut], name="peek")
    leaky = peeked >= cut > peeked // 2 and CLOSE[peeked] != CLOSE[peeked // 2]
    assert [leak.bar for leak in leaks] == ([peeked // 2] if leaky else [])


def test_one_bit_is_a_leak_and_nan_is_equal_to_itself():
    def last_bit(close):
        return np.nextafter(close, np.inf) if len(close) < 300 else close

    assert len(check_prefix(last_bit, CLOSE, [10], name="bit")) == 1

    def zero_sign(close):
        return np.full(len(close), -0.0 if len(close) < 300 else 0.0)

    assert len(check_prefix(zero_sign, CLOSE, [10], name="sign")) == 1
    assert check_prefix(lambda c: np.full(len(c), np.nan), CLOSE, [10], name="nan") == []


def test_tuples_frames_and_dicts_name_the_output():
    def frame(close):
        return pd.DataFrame({"good": trailing_mean(close), "bad": full_sample_z(close)})

    def pair(close):
        return trailing_mean(close), {"x": frame(close)}

    assert {leak.output for leak in check_prefix(frame, CLOSE, [99], name="f")} == {"bad"}
    leak = check_prefix(pair, CLOSE, [99], name="f")[0]
    assert leak.output == "1.x.bad"
    assert str(leak).startswith("f[1.x.bad] at bar 0 is ")
    series = check_prefix(lambda c: pd.Series(full_sample_z(c)), CLOSE, [99], name="s")
    assert [leak.output for leak in series] == [""]


def test_matrices_are_compared_row_by_row():
    def matrix(close):
        return np.column_stack([close, trailing_mean(close), centred_mean(close)])

    leak = check_prefix(matrix, CLOSE, [60], name="m")[0]
    assert (leak.bar, leak.n_bars) == (58, 2)


def test_types_columns_and_texts_that_depend_on_the_future():
    def kind(close):
        return np.arange(len(close)) if len(close) < 300 else np.arange(300.0)

    leak = check_prefix(kind, CLOSE, [10], name="k")[0]
    assert (leak.with_future, leak.without_future) == ("float64()", "int64()")

    def column(close):
        return {"always": close, **({"late": close} if len(close) == 300 else {"early": close})}

    leaks = check_prefix(column, CLOSE, [10], name="c")
    assert [(leak.output, leak.with_future) for leak in leaks] == [
        ("late", "present"),
        ("early", "absent"),
    ]

    def words(close):
        table = np.array(["up", None, np.nan, "down"], dtype=object)
        return np.resize(table, len(close))

    assert check_prefix(words, CLOSE, [10], name="w") == []

    def trend(close):
        return np.where(close < close[-1], "below", "above").astype(object)

    assert check_prefix(trend, CLOSE, [10], name="w")
    days = np.array(["2020-01-01", "NaT"], dtype="datetime64[ns]")
    assert check_prefix(lambda c: np.resize(days, len(c)), CLOSE, [11], name="d") == []


def test_frames_are_cut_by_position():
    table = pd.DataFrame({"close": CLOSE}, index=range(1000, 1300))
    assert check_prefix(lambda f: f["close"].cummax(), table, CUTS, name="max") == []
    assert check_prefix(lambda f: f["close"][::-1].cummax()[::-1], table, CUTS, name="max")


def test_bars_are_cut_as_they_are(sample_bars):
    cuts = random_cuts(len(sample_bars), 5, seed=2)
    assert_no_leak(lambda b: np.maximum.accumulate(b.high), sample_bars, cuts, name="peak")
    leaks = check_prefix(lambda b: b.close / b.close[-1], sample_bars, cuts, name="relative")
    assert len(leaks) == 5


def test_the_empty_prefix_and_the_whole_are_cuts_too():
    assert check_prefix(trailing_mean, CLOSE, [0, 300], name="mean") == []


def test_outputs_without_one_row_per_bar_are_refused():
    with pytest.raises(InputError, match=r"f\.1: the function must return one row per bar"):
        check_prefix(lambda c: (c, c[1:]), CLOSE, [10], name="f")
    with pytest.raises(InputError, match="one row per bar"):
        check_prefix(lambda c: c.mean(), CLOSE, [10], name="f")
    with pytest.raises(InputError, match="inside the bars"):
        check_prefix(trailing_mean, CLOSE, [301], name="f")


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 2**63 - 1))
def test_random_cuts_are_different_sorted_and_inside(n, count, seed):
    cuts = random_cuts(n, count, seed=seed)
    assert list(cuts) == sorted(set(cuts))
    assert len(cuts) == max(0, min(count, n - 1))
    assert all(1 <= cut < n for cut in cuts)
    assert cuts == random_cuts(n, count, seed=seed)
