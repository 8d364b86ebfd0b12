"""Expected bars counted one by one with the standard library's dates and time zones."""

from __future__ import annotations

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import ConfigError
from ares.market.calendars import CalendarClues, parse_calendar

HOUR = 3600 * 10**9
MINUTE = 60 * 10**9
DAY = 24 * HOUR
NEW_YORK = "session:America/New_York 09:30-16:00"


def ns(text, zone="UTC"):
    when = dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return int(when.timestamp()) * 10**9


def inferred(times, interval):
    """The calendar of open times that come in pieces, as the door sees them."""
    clues = CalendarClues(interval)
    pieces = np.array_split(times, 3)
    for piece in pieces:
        clues.push(piece)
    return clues.calendar(lambda: iter(pieces))


def session_slots(first, days, zone, opens, closes, step):
    """Open times of all bars of weekday sessions from the date `first` on."""
    slots = []
    for k in range(days):
        date = dt.date.fromisoformat(first) + dt.timedelta(days=k)
        if date.weekday() > 4:
            continue
        before = closes <= opens  # over midnight: it opens on the day before
        start = dt.datetime.combine(date - dt.timedelta(days=before), opens, ZoneInfo(zone))
        end = dt.datetime.combine(date, closes, ZoneInfo(zone))
        time = int(start.timestamp())
        while time < end.timestamp():
            slots.append(time * 10**9)
            time += step * 60
    return slots


SESSIONS = [
    (NEW_YORK, "America/New_York", dt.time(9, 30), dt.time(16), 5),
    (NEW_YORK, "America/New_York", dt.time(9, 30), dt.time(16), 60),
    ("session:Asia/Tokyo 09:00-15:00", "Asia/Tokyo", dt.time(9), dt.time(15), 15),
    ("session:America/Chicago 17:00-16:00", "America/Chicago", dt.time(17), dt.time(16), 60),
    ("session:Australia/Sydney 10:00-16:00", "Australia/Sydney", dt.time(10), dt.time(16), 30),
]


@pytest.mark.parametrize(("calendar", "zone", "opens", "closes", "step"), SESSIONS)
@given(data=st.data())
def test_absent_bars_of_sessions_equal_a_count_one_by_one(
    calendar, zone, opens, closes, step, data
):
    # Both changes of the clocks lie in these weeks of March and of October/November.
    first = data.draw(st.sampled_from(["2021-03-01", "2021-03-29", "2021-10-25", "2021-06-07"]))
    slots = session_slots(first, 21, zone, opens, closes, step)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    kept = np.flatnonzero(rng.random(len(slots)) < data.draw(st.sampled_from([0.9, 0.5, 0.99])))
    times = np.array(slots, dtype=np.int64)[kept]
    parsed = parse_calendar(calendar)
    days = parsed.session_days(np.array(slots, dtype=np.int64), step * MINUTE)
    present = set(days[kept].tolist())
    expected = [
        sum(days[k] in present for k in range(a + 1, b))
        for a, b in zip(kept.tolist(), kept[1:].tolist(), strict=False)
    ]
    assert parsed.missing(times, step * MINUTE).tolist() == expected
    weekdays = sorted(set(days.tolist()))
    closed = [
        sum(days[a] < d < days[b] for d in weekdays)
        for a, b in zip(kept.tolist(), kept[1:].tolist(), strict=False)
    ]
    assert parsed.holidays(times, step * MINUTE).tolist() == closed


@given(
    st.sampled_from([5, 15, 60, 240]),
    st.lists(st.integers(0, 5 * 7 * 288 - 1), min_size=2, max_size=60, unique=True),
)
def test_a_24_5_calendar_expects_monday_to_friday_evening(step, slots):
    start = ns("2021-03-08")
    times = np.unique(np.array(slots, dtype=np.int64) * 5 // step) * step * MINUTE + start
    expected = []
    for a, b in zip(times.tolist(), times[1:].tolist(), strict=False):
        between = range(a + step * MINUTE, b, step * MINUTE)
        closes = [dt.datetime.fromtimestamp((t + step * MINUTE) // 10**9, dt.UTC) for t in between]
        opens = [c - dt.timedelta(minutes=step) for c in closes]
        expected.append(
            sum(
                o.weekday() < 4 or (o.weekday() == 4 and c.weekday() == 4 and
                                    (c.hour, c.minute) <= (21, 0))
                for o, c in zip(opens, closes, strict=True)
            )
        )  # fmt: skip
    assert parse_calendar("24/5").missing(times, step * MINUTE).tolist() == expected


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=60, unique=True), st.sampled_from([0, 5, 22])
)
def test_daily_bars_of_weekday_markets(days, hour):
    days = sorted(days)
    start = dt.date(2020, 12, 28)
    shift = hour - 24 if hour > 12 else hour  # 22:00 is the evening before
    times = np.array([ns(str(start + dt.timedelta(days=d))) + shift * HOUR for d in days])
    weekdays = [
        sum((start + dt.timedelta(days=k)).weekday() < 5 for k in range(a + 1, b))
        for a, b in itertools.pairwise(days)
    ]
    assert parse_calendar("24/5").missing(times, DAY).tolist() == weekdays
    session = parse_calendar(NEW_YORK)
    assert session.missing(times, DAY).tolist() == [0] * (len(days) - 1)
    assert session.holidays(times, DAY).tolist() == weekdays
    every = [b - a - 1 for a, b in itertools.pairwise(days)]
    assert parse_calendar("24/7").missing(times, DAY).tolist() == every
    assert parse_calendar("24/7").holidays(times, DAY).tolist() == [0] * (len(days) - 1)


def test_days_of_23_and_25_hours_are_no_gaps():
    zone = ZoneInfo("Europe/Berlin")
    dates = [dt.datetime(2021, 3, 20, tzinfo=zone) + dt.timedelta(days=k) for k in range(250)]
    times = np.array([int(d.timestamp()) * 10**9 for d in dates])
    assert {23, 24, 25} == {int(x) // HOUR for x in np.diff(times)}
    assert not parse_calendar("24/7").missing(times, DAY).any()


def test_bars_outside_the_session_are_not_expected_and_make_no_gap():
    times = np.array(
        [ns(f"2021-06-07T{t}:00", "America/New_York") for t in ("08:00", "09:00", "15:30", "17:00")]
        + [ns("2021-06-08T09:30:00", "America/New_York")]
        + [ns("2021-06-12T12:00:00", "America/New_York")]  # a Saturday
    )
    missing = parse_calendar(NEW_YORK).missing(times, 30 * MINUTE)
    # 09:30 to 15:00 between the second and third; the last day after 09:30 before Saturday.
    assert missing.tolist() == [0, 12, 0, 0, 12]


def test_resampled_bars_stand_on_the_utc_grid():
    zone = ZoneInfo("America/New_York")
    times = np.array(
        [
            int(dt.datetime(2021, 6, day, hour, tzinfo=zone).timestamp()) * 10**9
            for day in (7, 8, 9)
            for hour in range(9, 16)
            if (day, hour) != (8, 12)
        ]
    )
    assert parse_calendar(NEW_YORK).missing(times, HOUR).sum() == 1


@pytest.mark.parametrize(
    ("text", "days", "shown"),
    [
        ("24/7", 365, "24/7"),
        ("24/5", 260, "24/5"),
        (NEW_YORK, 252, NEW_YORK),
        ("session:UTC 9:00-24:00", 252, "session:UTC 09:00-24:00"),
    ],
)
def test_calendars_are_text(text, days, shown):
    calendar = parse_calendar(text)
    assert str(calendar) == shown
    assert calendar.days_per_year == days
    assert parse_calendar(shown) == calendar


@pytest.mark.parametrize(
    "text",
    ["", "24/6", "weekdays", "session:UTC", "session:UTC 09:00-09:00", "session:UTC 24:00-10:00",
     "session:UTC 09:60-10:00", "session:UTC 09:00-24:01", "session:Mars/Base 09:00-10:00",
     "session:../../etc/passwd 09:00-10:00", None, 247],
)  # fmt: skip
def test_other_texts_are_refused(text):
    with pytest.raises(ConfigError, match=r"calendar"):
        parse_calendar(text)


@pytest.mark.parametrize(("calendar", "zone", "opens", "closes", "step"), SESSIONS[:3])
def test_sessions_are_inferred_with_their_zone(calendar, zone, opens, closes, step):
    slots = np.array(session_slots("2021-01-04", 300, zone, opens, closes, step))
    found = inferred(slots, step * MINUTE)
    assert found.kind == "session"
    assert not found.missing(slots, step * MINUTE).any()
    if zone == "America/New_York":
        assert str(found) == (calendar if step == 5 else calendar.replace("16:00", "16:30"))


def test_the_week_tells_the_calendar():
    hours = ns("2021-01-04") + np.arange(24 * 70) * HOUR
    weekday = (hours // DAY + 3) % 7
    assert str(inferred(hours, HOUR)) == "24/7"
    assert str(inferred(hours[weekday < 5], HOUR)) == "24/5"
    assert str(inferred(hours[:100], HOUR)) == "24/7"  # no weekend to tell by
    assert str(inferred(hours[:1], HOUR)) == "24/7"
    days = ns("2021-01-04") + np.arange(700) * DAY
    weekday = (days // DAY + 3) % 7
    assert str(inferred(days, DAY)) == "24/7"
    assert str(inferred(days[weekday < 5], DAY)) == "24/5"
    working = days[weekday < 5]
    assert inferred(np.delete(working, np.arange(10, 500, 30)), DAY).kind == "session"
    assert str(inferred(days[::7], 7 * DAY)) == "24/7"
