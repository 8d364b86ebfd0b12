from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import DataError
from ares.market.raw import NO_TIME, CellProblem, RawBars, normalise_timestamps

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# Seconds from 1973-03-03 on have distinct magnitudes in every unit.
seconds = st.integers(100_000_001, 9_000_000_000)


@given(st.lists(seconds, min_size=1), st.sampled_from(list(PER_SECOND)))
def test_units_are_told_apart_by_magnitude(times, unit):
    values = np.array(times, dtype=np.int64) * PER_SECOND[unit]
    expected = [t * 10**9 for t in times]
    assert normalise_timestamps(values).tolist() == expected
    assert normalise_timestamps(values.astype(np.uint64)).tolist() == expected
    if unit != "ns":
        assert normalise_timestamps(values.astype(np.float64)).tolist() == expected


@given(st.lists(st.integers(100_000_001, 4_000_000_000), min_size=1), st.integers(0, 999_999))
def test_fractions_of_floats_are_kept_to_the_microsecond(times, micro):
    values = np.array([t + micro / 1e6 for t in times])
    assert normalise_timestamps(values).tolist() == [(t * 10**6 + micro) * 1000 for t in times]


@given(st.lists(st.integers(1_000_000_000, 2_000_000_000), min_size=1, max_size=20))
def test_floats_in_nanoseconds_mean_the_microsecond(times):
    values = np.array(times, dtype=np.float64) * 1e9
    assert normalise_timestamps(values).tolist() == [t * 10**9 for t in times]


@given(st.lists(seconds, min_size=2, max_size=30), st.data())
def test_one_change_from_ms_to_us_is_read(times, data):
    cut = data.draw(st.integers(1, len(times) - 1))
    values = [t * 1000 for t in times[:cut]] + [t * 10**6 for t in times[cut:]]
    assert normalise_timestamps(values).tolist() == [t * 10**9 for t in times]


@pytest.mark.parametrize(
    ("units", "row"),
    [("s ms", 2), ("us ms", 2), ("ms ns", 2), ("ms us ms", 3), ("ms ms us s", 4), ("s s ns ns", 3)],
)
def test_mixed_units_are_refused_by_row(units, row):
    values = [1_600_000_000 * PER_SECOND[u] for u in units.split()]
    with pytest.raises(DataError, match=f"row {row}, column timestamp: one column .* one unit"):
        normalise_timestamps(values)
    with pytest.raises(DataError, match=f"line {row}: one column"):
        normalise_timestamps([np.nan, *values], where=lambda k: f"line {k}")


def test_unreadable_times_stay_unreadable():
    values = np.array([1_600_000_000.0, np.nan, 1_600_000_060.0])
    assert normalise_timestamps(values).tolist()[1] == NO_TIME
    assert normalise_timestamps(values).tolist()[2] == 1_600_000_060 * 10**9
    assert normalise_timestamps([np.nan, np.nan]).tolist() == [NO_TIME, NO_TIME]
    assert normalise_timestamps(np.array([NO_TIME, 1_600_000_000])).tolist()[0] == NO_TIME
    assert len(normalise_timestamps(np.zeros(0))) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [([20200101, 20200102], "yyyy-mm-dd"), ([50_000_000_000], "1678 and 2262"),
     ([10**13 * 5], "2262"), (["2020-01-01"], "numbers")],
)  # fmt: skip
def test_numbers_that_are_no_times_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        normalise_timestamps(values)


def raw(times, **options):
    n = len(times)
    return RawBars(np.array(times), *(np.full(n, float(k)) for k in range(1, 6)), **options)


def test_rows_of_several_sources_keep_their_names():
    first = raw([1, 2], files=("a.csv",), row_of=np.array([2, 4]))
    second = raw([3], problems=(CellProblem(0, "low", "x"),))
    third = raw([4, 5, 6], files=("c.csv", "d.csv"), file_of_row=np.array([1, 0, 1]))
    joined = RawBars.concat([first, second, third])
    assert joined.timestamp.tolist() == [1, 2, 3, 4, 5, 6]
    assert [joined.where(k) for k in range(6)] == [
        "a.csv, row 2", "a.csv, row 4", "unnamed source, row 1",
        "d.csv, row 1", "c.csv, row 2", "d.csv, row 3",
    ]  # fmt: skip
    assert joined.where(0, "open") == "a.csv, row 2, column open"
    far = raw([1], files=("/far/away/a.csv",))
    assert far.where(0) == "/far/away/a.csv, row 1"
    assert far.where(0, short=True) == "a.csv, row 1"
    assert joined.problems == (CellProblem(2, "low", "x"),)
    assert RawBars.concat([first]) is first
    assert raw([7]).where(0) == "row 1"
    with pytest.raises(DataError, match="at least one source"):
        RawBars.concat([])


def test_columns_have_one_length():
    with pytest.raises(DataError, match="column volume: all columns"):
        RawBars(np.zeros(2), np.ones(2), np.ones(2), np.ones(2), np.ones(2), np.ones(3))
