"""ISO times out of bytes against datetime and numpy: what is taken is exact, what is plain is taken."""

from __future__ import annotations

import calendar
import datetime as dt
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ares.kernels.csvrows import ISO, TIME, ZONED, plain_rows

pytestmark = pytest.mark.compiled
DATE = r"\d{4}-\d\d-\d\d"
CLOCK = r"[T ]([01]\d|2[0-3]):\d\d(:\d\d(\.\d{1,9})?)?"
FORMS = {
    ISO: re.compile(rf"{DATE}({CLOCK})?", re.ASCII),
    ZONED: re.compile(rf"{DATE}{CLOCK}(Z|[+-]\d\d:\d\d)", re.ASCII),
}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def taken(cells, role):
    """The ns of each cell as the first of a row; None where the kernel leaves them to others."""
    text = "".join(f"{cell},1,2,3,4,5\n" for cell in cells).encode()
    times, numbers = np.full(len(cells), -7), np.full((5, len(cells)), -7.0)
    roles = np.array([role, 0, 1, 2, 3, 4])
    rows = plain_rows(np.frombuffer(text, np.uint8), 0, ord(","), roles, times, numbers)
    if rows < 0:
        return None
    assert rows == len(cells)
    assert numbers[:, -1].tolist() == [1, 2, 3, 4, 5]
    return times.tolist()


def one(cell, role):
    found = taken([cell], role)
    return None if found is None else found[0]


def by_datetime(cell):
    """The ns of a time that has the right form, by `datetime.fromisoformat`; None: no such time."""
    fraction = re.search(r"\.(\d+)", cell)
    try:
        moment = dt.datetime.fromisoformat(re.sub(r"\.\d+", "", cell))
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    whole = (moment - EPOCH) // dt.timedelta(seconds=1) * 10**9
    return whole + int((fraction.group(1) if fraction else "").ljust(9, "0"))


dates = st.dates(dt.date(1678, 1, 1), dt.date(2261, 12, 31)) | st.builds(
    lambda year, month: dt.date(year, month, calendar.monthrange(year, month)[1]),
    st.integers(1678, 2261),
    st.integers(1, 12),
)
fractions = st.just("") | st.text("0123456789", min_size=1, max_size=9).map(".{}".format)
clocks = st.times().map(lambda time: f"{time:%H:%M}") | st.builds(
    lambda time, fraction: f"{time:%H:%M:%S}{fraction}", st.times(), fractions
)
moments = st.builds(lambda *parts: "".join(map(str, parts)), dates, st.sampled_from("T "), clocks)
zones = st.just("Z") | st.builds(
    "{}{:02d}:{:02d}".format, st.sampled_from("+-"), st.integers(0, 23), st.integers(0, 59)
)


@given(dates.map(str) | moments)
@example("2000-02-29")
@example("1900-02-28T23:59:59.999999999")
@example("1678-01-01 00:00:00.000000001")
@example("2261-12-31T23:59:59.999999999")
@example("1969-12-31 23:59:59.5")
def test_an_ordinary_time_is_taken_as_numpy_and_datetime_take_it(cell):
    found = one(cell, ISO)
    assert found == int(np.datetime64(cell, "ns").astype(np.int64))
    assert found == by_datetime(cell)
    assert one(cell, ZONED) is None  # a column has one form: others judge the cell without zone
    assert one(cell, TIME) is None


@given(moments, zones)
@example("1678-01-01T00:00", "+23:59")
@example("2261-12-31T23:59:59.999999999", "-23:59")
@example("1970-01-01T00:00:00", "-00:00")
def test_an_ordinary_time_with_a_zone_is_taken_as_datetime_takes_it(cell, zone):
    found = one(cell + zone, ZONED)
    assert found is not None
    assert found == by_datetime(cell + zone)
    assert one(cell + zone, ISO) is None


@given(st.integers(0, 9999), st.integers(0, 14), st.integers(0, 33))
@example(2100, 2, 29)
@example(2000, 2, 30)
@example(2023, 4, 31)
@example(1677, 12, 31)
@example(2262, 1, 1)
def test_a_date_is_taken_where_the_calendar_has_it(year, month, day):
    cell = f"{year:04d}-{month:02d}-{day:02d}"
    expected = by_datetime(cell) if 1678 <= year <= 2261 else None
    assert one(cell, ISO) == expected


@given(st.integers(0, 30), st.integers(0, 70), st.integers(0, 70))
@example(24, 0, 0)
@example(23, 59, 60)
@example(23, 60, 0)
def test_a_clock_is_taken_where_the_day_has_it(hour, minute, second):
    cell = f"2024-02-29T{hour:02d}:{minute:02d}"
    ordinary = hour < 24 and minute < 60
    assert one(cell, ISO) == (by_datetime(cell) if ordinary else None)
    whole = f"{cell}:{second:02d}"
    assert one(whole, ISO) == (by_datetime(whole) if ordinary and second < 60 else None)
    zoned = f"2024-02-29T00:00+{hour:02d}:{minute:02d}"
    assert one(zoned, ZONED) == (by_datetime(zoned) if ordinary else None)


@pytest.mark.parametrize(
    "cell",
    ["", "2", "2024", "2024-", "2024-1-31", "24-01-31", "02024-01-31", "20240131", "2024/01/31",
     "2024-01-31T", "2024-01-31T23", "2024-01-31T2359", "2024-01-31T23:5", "2024-01-31t23:59",
     "2024-01-31  23:59", "2024-01-31T23:59:", "2024-01-31T23:59:00.", "2024-01-31T23:59:00,5",
     "2024-01-31T23:59:00.0123456789", "2024-01-31T23:59.5", "-2024-01-31", "+2024-01-31", " 2024-01-31",
     "2024-01-31 ", '"2024-01-31"', "2024-01-31Z", "2024-01-31+00:00", "2024-01-31T23:59z",
     "2024-01-31T23:59 Z", "2024-01-31T23:59ZZ", "2024-01-31T23:59+00", "2024-01-31T23:59+0000",
     "2024-01-31T23:59+00:0", "2024-01-31T23:59+0:00", "2024-01-31T23:59+00:00:00", "2024-W05-3",
     "2024-031", "\u0662024-01-31", "1706745540", "NaT"],
)  # fmt: skip
@pytest.mark.parametrize("role", FORMS)
def test_a_time_out_of_the_ordinary_is_left_to_others(cell, role):
    assert one("2024-01-31T23:59:00" + "Z" * (role == ZONED), role) == 1_706_745_540 * 10**9
    assert one(cell, role) is None


@given(st.data())
def test_whatever_is_taken_is_what_datetime_says(data):
    role = data.draw(st.sampled_from(list(FORMS)))
    plain = moments | dates.map(str) if role == ISO else st.builds("{}{}".format, moments, zones)
    cells = data.draw(st.lists(plain, min_size=1, max_size=4))
    place = data.draw(st.integers(0, len(cells) - 1))
    cell = cells[place]
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(cell)))
        put = data.draw(st.text("0123456789-+:.TZ ", max_size=2))
        cell = cell[:at] + put + cell[at + data.draw(st.integers(0, 2)) :]
    cells[place] = cell
    found = taken(cells, role)
    years = cell[:4].isdigit() and 1678 <= int(cell[:4]) <= 2261
    expected = by_datetime(cell) if FORMS[role].fullmatch(cell) and years else None
    if found is None:
        assert expected is None
    else:
        assert expected is not None
        assert found == [by_datetime(c) for c in cells]
