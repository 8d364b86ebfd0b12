from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ares.core.errors import ConfigError, DataError
from ares.kernels.quality import bad_prints
from ares.market.bars import check_bars
from ares.market.raw import NO_TIME, CellProblem, RawBars
from market_naive import bad_print_flags, count

MINUTE_MS = 60_000
MARKET = {"symbol": "BTC/USD", "exchange": "test", "timeframe": "1m", "calendar": "24/7"}
START_MS = 1_600_000_020_000  # a whole minute


def raw_of(rows, **options):
    """Rows (ms, o, h, l, c, v) in units of 1e-2 to RawBars."""
    columns = list(zip(*rows, strict=True))
    values = [np.array(column, dtype=np.float64) / 100 for column in columns[1:]]
    return RawBars(np.array(columns[0], dtype=np.int64) * 10**6, *values, **options)


@st.composite
def thin_markets(draw, max_size=150):
    """Possible bars at sorted distinct minutes; jumps of price and time are common."""
    n = draw(st.integers(1, max_size))
    wild = draw(st.sampled_from([0.0, 0.05, 0.3]))
    long = draw(st.sampled_from([3, 200]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = rng.integers(1, long + 1, n)
    rare = rng.random(n) < 0.05
    steps[rare] = rng.choice([359, 360, 361, 1000], rare.sum())
    prices = rng.integers(9_000, 11_000, (n, 4))
    jumps = rng.random((n, 4)) < wild
    prices[jumps] = rng.choice([5_000, 10_000, 20_000, 20_001, 4_999, 100], jumps.sum())
    prices.sort(axis=1)
    up = rng.random(n) < 0.5
    open_, close = np.where(up, prices[:, 1:3].T, prices[:, 2:0:-1].T)
    times = START_MS + MINUTE_MS * np.cumsum(steps)
    volume = rng.integers(0, 3, n)
    columns = (times, open_, prices[:, 3], prices[:, 0], close, volume)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(thin_markets(), st.sampled_from([(2, 1), (3, 1), (11, 10)]))
def test_bad_prints_equal_the_plain_rule_in_integers(rows, ratio):
    raw = raw_of(rows)
    reference = bad_prints(
        raw.timestamp, raw.open, raw.high, raw.low, raw.close, 6 * 3600 * 10**9, ratio[0] / ratio[1]
    )
    assert (~np.isnan(reference)).tolist() == bad_print_flags(rows, MINUTE_MS, *ratio)


@pytest.mark.parametrize(("price", "bad"), [(250, 0), (251, 1), (63, 0), (62, 1)])
def test_the_median_is_that_of_the_last_60_accepted_closes(price, bad):
    closes = [100] * 31 + [150] * 30 + [price]  # of 60 the median is 125, of 59 or 61 it is not
    rows = [(START_MS + k * MINUTE_MS, c, c, c, c, 1) for k, c in enumerate(closes)]
    assert check_bars(raw_of(rows), **MARKET)[1].bad_prints == bad


@pytest.mark.parametrize(
    ("timeframe", "hours", "bad"),
    [("1m", 6, 1), ("1m", 6.05, 0), ("1h", 6, 1), ("1h", 7, 0), ("4h", 12, 1), ("4h", 16, 0)],
)
def test_a_print_is_compared_with_six_hours_or_three_bars(timeframe, hours, bad):
    rows = [(START_MS, 100, 100, 100, 100, 1)]
    rows.append((START_MS + round(hours * 60) * MINUTE_MS, 300, 300, 300, 300, 1))
    _, report = check_bars(raw_of(rows), **{**MARKET, "timeframe": timeframe})
    assert report.bad_prints == bad


@given(thin_markets(), st.data())
def test_acceptance_of_a_bar_sees_past_bars_only(rows, data):
    cut = data.draw(st.integers(1, len(rows)))
    whole, _ = check_bars(raw_of(rows), **MARKET)
    part, _ = check_bars(raw_of(rows[:cut]), **MARKET)
    seen = whole.timestamp <= rows[cut - 1][0] * 10**6
    np.testing.assert_array_equal(part.timestamp, whole.timestamp[seen])


@given(thin_markets())
def test_cleaning_twice_changes_nothing(rows):
    once, _ = check_bars(raw_of(rows), **MARKET)
    twice, report = check_bars(
        RawBars(once.timestamp, once.open, once.high, once.low, once.close, once.volume), **MARKET
    )
    assert report.bad_prints == 0
    assert twice.digest == once.digest


@st.composite
def faulty_markets(draw):
    """The same with repeated, displaced and impossible rows."""
    rows = draw(thin_markets(max_size=40))
    for _ in range(draw(st.integers(0, 6))):
        k = draw(st.integers(0, len(rows) - 1))
        time, o, h, lo, c, v = rows[k]
        kind = draw(
            st.sampled_from(["repeat", "conflict", "swap", "upside down", "zero", "volume"])
        )
        match kind:
            case "repeat":
                rows.insert(draw(st.integers(0, len(rows))), rows[k])
            case "conflict":
                rows.insert(draw(st.integers(0, len(rows))), (time, o, h, lo, c, v + 1))
            case "swap":
                j = draw(st.integers(0, len(rows) - 1))
                rows[j], rows[k] = rows[k], rows[j]
            case "upside down":
                rows[k] = (time, o, lo - 1, h + 1, c, v)
            case "zero":
                rows[k] = (time, o, h, 0, c, v)
            case _:
                rows[k] = (time, o, h, lo, c, -1)
    return rows


@settings(max_examples=80)
@given(faulty_markets())
def test_counts_equal_the_plain_script(rows):
    bars, report = check_bars(raw_of(rows), **MARKET, strict=False)
    expected = count(rows, MINUTE_MS)
    assert {name: getattr(report, name) for name in expected} == expected
    assert bool((np.diff(bars.timestamp) > 0).all())
    kinds = {finding.kind: finding.count for finding in report.findings}
    assert all(kinds.get(name, 0) == n for name, n in expected.items() if name != "rows")


@given(faulty_markets())
def test_the_last_row_of_a_time_wins(rows):
    bars, report = check_bars(raw_of(rows), **MARKET, strict=False, bad_prints="keep")
    last, versions = {}, {}
    for row in rows:
        if raw_is_possible(row):
            last[row[0]] = row
            versions.setdefault(row[0], set()).add(row)
    expected = [last[time] for time in sorted(last)]
    assert (bars.timestamp // 10**6).tolist() == [row[0] for row in expected]
    assert bars.volume.tolist() == [row[5] / 100 for row in expected]
    assert bars.close.tolist() == [row[4] / 100 for row in expected]
    assert report.conflicts == sum(len(found) > 1 for found in versions.values())


def raw_is_possible(row):
    _, o, h, lo, c, v = row
    return lo > 0 and v >= 0 and lo <= min(o, c) and h >= max(o, c)


@given(thin_markets(), st.integers(0, 400))
def test_gaps_and_segments_agree_with_the_times(rows, max_gap):
    bars, report = check_bars(raw_of(rows), **MARKET, bad_prints="keep")
    minutes = (bars.timestamp // 60_000_000_000).tolist()
    absent = [b - a - 1 for a, b in itertools.pairwise(minutes)]
    assert bars.gaps.tolist() == [[k, k + 1, n] for k, n in enumerate(absent) if n]
    assert (report.gaps, report.missing_bars) == (len(bars.gaps), sum(absent))
    starts = [0] + [k + 1 for k, n in enumerate(absent) if n > max_gap]
    assert bars.segments(max_gap).tolist() == starts
    assert bars.segments(None).tolist() == [0]


GOOD = (START_MS, 100, 120, 90, 110, 5)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("open", np.nan, "column open: open must be a finite number; got nan"),
        ("high", np.inf, "column high: high must be a finite number; got inf"),
        ("low", 0.0, "column low: low must be positive; got 0.0"),
        ("close", -1.0, "column close: close must be positive; got -1.0"),
        ("volume", -5.0, "column volume: volume must not be negative; got -5.0"),
        ("volume", np.nan, "column volume: volume must be a finite number; got nan"),
        ("low", 1.05, r"column low: low must not be above open \(1.0\); got 1.05"),
        ("high", 1.05, r"column high: high must not be below close \(1.1\); got 1.05"),
        ("timestamp", NO_TIME, "column timestamp: timestamp must be a time"),
    ],
)
def test_an_impossible_row_is_refused_by_file_row_column_rule_value_and_remedy(
    column, value, message
):
    raw = raw_of([(START_MS + k * MINUTE_MS, *GOOD[1:]) for k in range(6)])
    getattr(raw, column)[3] = value
    raw = RawBars(
        *(getattr(raw, c) for c in ("timestamp", "open", "high", "low", "close", "volume")),
        files=("a.csv", "b.csv"),
        file_of_row=np.array([0, 0, 1, 1, 1, 1]),
        row_of=np.array([2, 3, 2, 3, 4, 5]),
    )
    with pytest.raises(DataError, match=f"^b.csv, row 3, {message}.*Correct or remove") as error:
        check_bars(raw, **MARKET)
    assert error.value.exit_code == 2
    bars, report = check_bars(raw, **MARKET, strict=False)
    assert (len(bars), report.impossible, report.rows) == (5, 1, 6)
    assert report.findings[0].examples[0].startswith("b.csv, row 3, column " + column)


def test_unreadable_text_is_quoted():
    raw = raw_of(
        [GOOD, (START_MS + MINUTE_MS, *GOOD[1:])], problems=(CellProblem(1, "low", "n/a"),)
    )
    raw.low[1] = np.nan
    with pytest.raises(DataError, match="row 2, column low: low must be a number; got 'n/a'"):
        check_bars(raw, **MARKET)


def test_a_report_is_made_even_where_no_row_is_a_bar():
    raw = raw_of([GOOD, GOOD])
    raw.open[:] = np.nan
    bars, report = check_bars(raw, **MARKET, strict=False)
    assert (len(bars), report.impossible, report.duplicates) == (0, 2, 1)
    raw.timestamp[:] = NO_TIME
    _, report = check_bars(raw, **MARKET, strict=False)
    assert (report.first, report.last, report.duplicates) == (None, None, 0)
    assert report.to_dict()["first"] is None
    with pytest.raises(DataError, match="at least one bar"):
        check_bars(RawBars(*(np.zeros(0),) * 6), **MARKET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeframe": "7m"}, "timeframe"),
        ({"calendar": "weekdays"}, "24/5"),
        ({"adjusted": "maybe"}, "adjusted"),
        ({"bad_prints": "repair"}, "bad_prints"),
        ({"max_print": 1.0}, "max_print"),
        ({"max_print": float("nan")}, "max_print"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        check_bars(raw_of([GOOD]), **{**MARKET, **options})


@pytest.mark.parametrize(("symbol", "exchange"), [("", "x"), ("x", " "), (None, "x")])
def test_a_market_has_names(symbol, exchange):
    with pytest.raises(DataError, match="name"):
        check_bars(raw_of([GOOD]), symbol=symbol, exchange=exchange, timeframe="1m")


@pytest.mark.parametrize(
    ("step", "timeframe", "usual"),
    [(1, "1h", "1m"), (1, "1d", "1m"), (60, "1m", "1h"), (1440, "1h", "1d"), (5, "15m", "5m")],
)
def test_a_timeframe_that_the_data_contradict_is_refused(step, timeframe, usual):
    rows = [(START_MS + k * step * MINUTE_MS, *GOOD[1:]) for k in range(40)]
    for strict in (True, False):
        with pytest.raises(DataError, match=f"Is the timeframe {usual}"):
            check_bars(raw_of(rows), **{**MARKET, "timeframe": timeframe}, strict=strict)


def test_thin_markets_are_not_taken_for_another_timeframe():
    rows = [(START_MS + k * 2 * MINUTE_MS, *GOOD[1:]) for k in range(40)]
    assert check_bars(raw_of(rows), **MARKET)[1].gaps == 39
    hourly = [(START_MS + k * 60 * MINUTE_MS, *GOOD[1:]) for k in range(8)]
    assert check_bars(raw_of(hourly), **MARKET)[1].gaps == 7


def test_bars_that_overlap_here_and_there_are_reported():
    rows = [(START_MS + k * MINUTE_MS, *GOOD[1:]) for k in range(10)]
    rows[5] = (rows[5][0] - 30_000, *GOOD[1:])
    _, report = check_bars(raw_of(rows), **MARKET)
    assert (report.overlapping, report.gaps) == (1, 0)


def test_stale_opens_and_empty_volume_are_reported():
    rows = [(START_MS + k * MINUTE_MS, 100 + k % 3, 120, 90, 110, 1) for k in range(600)]
    rows[200:300] = [(row[0], 110, *row[2:5], 0) for row in rows[200:300]]
    rows[7] = (*rows[7][:5], 0)
    bars, report = check_bars(raw_of(rows), **MARKET)
    # The window of 250 bars up to k holds over 50 of the bars 200 to 299 from bar 250 to bar 498.
    assert report.stale_open == 498 - 250 + 1
    assert report.zero_volume == int((bars.volume == 0).sum()) == 101
    (finding,) = (f for f in report.findings if f.kind == "zero_volume")
    assert finding.action == "kept; 2 stretches"
    assert [e.split("(")[1] for e in finding.examples] == ["row 8): 1 bars", "row 201): 100 bars"]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40))
@example([400] * 40)
def test_stale_opens_everywhere_are_a_few_lines_and_whole_in_the_json(lengths):
    """Stretches of stale bars and others, in turn: the text has the first three beginnings."""
    rows, opened = [], []
    for number, length in enumerate(lengths):
        opened += [110 if number % 2 == 0 else 100] * length
    rows = [(START_MS + k * MINUTE_MS, at, 120, 90, 110, 1) for k, at in enumerate(opened)]
    _, report = check_bars(raw_of(rows), **MARKET)
    same = np.array([False, *(at == 110 for at in opened[1:])])
    flags = [k >= 249 and same[k - 249 : k + 1].sum() > 50 for k in range(len(rows))]
    begins = [k for k, flag in enumerate(flags) if flag and not (k and flags[k - 1])]
    assert report.stale_open == sum(flags)
    text = report.lines()
    if not begins:
        assert not any("stale" in line for line in text)
        return
    at = next(k for k, line in enumerate(text) if line.startswith("stale_open: "))
    assert text[at].startswith(f"stale_open: {sum(flags)} of {len(rows)} bars (at their close")
    after = [line.strip() for line in text[at + 1 :]]
    assert [line.split("(row ")[1] for line in after[:3] if line != "..."] == [
        f"{k + 1})" for k in begins[:3]
    ]
    assert (after[-1] == "...") == (len(begins) > 3)
    (finding,) = (f for f in report.to_dict()["findings"] if f["kind"] == "stale_open")
    assert len(finding["examples"]) == min(len(begins), 10)
    assert finding["count"] == sum(flags)


def test_unadjusted_overnight_moves_warn(caplog):
    days = 86_400_000
    monday = 1_600_041_600_000  # 2020-09-14
    rows = [(monday + k * days, 100, 120, 90, 110, 5) for k in range(5)]
    rows[3] = (rows[3][0], 70, 72, 65, 66, 5)
    options = {**MARKET, "timeframe": "1d", "calendar": "session:America/New_York 09:30-16:00"}
    with caplog.at_level(logging.WARNING, "ares.market"):
        _, report = check_bars(raw_of(rows), **options)
    assert report.overnight_moves == 2  # down by 36 %, up by 52 %
    assert "2020-09-17" in caplog.text
    caplog.clear()
    assert check_bars(raw_of(rows), **options, adjusted="split")[1].overnight_moves == 0
    assert check_bars(raw_of(rows), **{**options, "calendar": "24/7"})[1].overnight_moves == 0
    assert not caplog.records


@pytest.mark.parametrize(
    ("prices", "tick"),
    [([1.0, 2.0], 1.0), ([1.25, 3.0], 0.01), ([5.331e-05], 1e-8), ([1 / 3, 2 / 3], 0.0),
     ([np.float64(np.float32(2207.54)), 1.0], 0.0), ([123456.78, 0.01], 0.01)],
)  # fmt: skip
def test_tick_is_the_smallest_decimal_step(prices, tick):
    n = len(prices)
    times = START_MS * 10**6 + np.arange(n) * 60 * 10**9
    bars, _ = check_bars(
        RawBars(times, prices, prices, prices, prices, np.ones(n)), **MARKET, bad_prints="keep"
    )
    assert bars.tick == tick


def test_a_report_reads_well():
    rows = [(START_MS + k * MINUTE_MS, *GOOD[1:]) for k in (0, 1, 4, 3, 3)]
    _, report = check_bars(raw_of(rows), **MARKET)
    assert report.lines()[:2] == [
        "5 rows, 4 bars, 2020-09-13T12:27:00Z to 2020-09-13T12:31:00Z",
        "calendar 24/7 (declared)",
    ]
    text = "\n".join(report.lines())
    assert "out_of_order: 1 (sorted)\n    2020-09-13T12:30:00Z (row 4)" in text
    assert "duplicates: 1 (collapsed)" in text
    assert (
        "gaps: 1 (listed; the longest first)\n    2020-09-13T12:28:00Z to 2020-09-13T12:30:00Z: 1 bars"
        in text
    )
    assert not report.clean


@pytest.mark.parametrize(
    ("minutes", "timeframe"), [(10, "1m"), (7, "1m"), (90, "1h"), (31 * 1440, "1d")]
)
def test_rows_of_an_unknown_longer_timeframe_are_not_bars_of_a_shorter_one(minutes, timeframe):
    rows = [(START_MS + k * minutes * MINUTE_MS, 100, 120, 90, 110, 1) for k in range(40)]
    with pytest.raises(DataError, match="but most open (10m|7m|90m|31d) apart.*Timeframes: 1m, 3m"):
        check_bars(raw_of(rows), **{**MARKET, "timeframe": timeframe})


def test_a_coarse_file_does_not_hide_among_fine_ones():
    fine = [(START_MS + k * MINUTE_MS, 100, 120, 90, 110, 1) for k in range(2000)]
    coarse = [(START_MS + (3000 + 5 * k) * MINUTE_MS, 100, 120, 90, 110, 1) for k in range(40)]
    parts = [raw_of(fine, files=("1m.csv",)), raw_of(coarse, files=("5m.csv",))]
    with pytest.raises(DataError, match="5m.csv: .*timeframe 1m, but most open 5m apart"):
        check_bars(RawBars.concat(parts), **MARKET)
    _, report = check_bars(RawBars.concat(parts), **MARKET, strict=False)
    assert next((f.kind, f.count) for f in report.findings) == ("other_timeframe", 1)


def test_the_longest_gaps_are_named_first():
    steps = [1] * 50 + [2] * 20 + [500] + [3] * 5 + [90]
    times = START_MS + MINUTE_MS * np.cumsum(steps)
    _, report = check_bars(raw_of([(t, 100, 120, 90, 110, 1) for t in times]), **MARKET)
    (finding,) = (f for f in report.findings if f.kind == "gaps")
    missing = [int(e.split(": ")[1].split()[0]) for e in finding.examples]
    assert missing == [499, 89, 2, 2, 2, 2, 2, 1, 1, 1]
    assert (report.gaps, report.missing_bars) == (27, 20 + 499 + 10 + 89)
