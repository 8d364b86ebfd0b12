"""A market that passes the door in pieces is the one that passes at once, bit for bit."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ares.core.errors import AresError
from ares.market.bars import check_bars
from ares.market.calendars import ZONES, Calendar
from ares.market.checking import faults, tallies
from ares.market.checking.door import Door, DoorRules, clean
from ares.market.checking.spacing import OvernightMoves
from ares.market.checking.tallies import Distances
from ares.market.files import load_bars, read_raw
from ares.market.raw import COLUMNS, NO_TIME, RawBars
from ares.market.stored import pieces
from ares.market.stored.intake import check_rows, report_rows
from ares.market.stored.parts import GAPS, read_part
from ares.market.stored.pieces import LateRowsError, in_order, taken
from ares.market.timeframe import DAY, timeframe_ns

NEW_YORK = "session:America/New_York 09:30-16:00"
SHARED = (
    ("bitfinex_BTCUSD_1m_2013.csv.gz", "1m"),
    ("bitfinex_BTCUSD_1m_2014.csv.gz", "1m"),
    ("bitfinex_BTCUSD_1m_2015.csv.gz", "1m"),
    ("bitfinex_ETHUSD_1m_2016.csv.gz", "1m"),
    ("binance_ADA_BTC_5m_2018-01.feather", "5m"),
)
BITFINEX = "timestamp,open,close,high,low,volume"


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("ares.market").setLevel(logging.ERROR)
    yield
    logging.getLogger("ares.market").setLevel(logging.NOTSET)


@st.composite
def wild_rows(draw, possible=False):
    """Rows around a year's end: holes, duplicates, conflicts, disorder, bad prints, stale opens."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    timeframe = draw(st.sampled_from(["1m", "15m", "1h", "1d", "1w"]))
    step = timeframe_ns(timeframe)
    n = draw(st.integers(1, 700))
    hole = draw(st.sampled_from([1, 5, 400, 40_000]))
    hops = np.where(rng.random(n) < 0.8, 1, rng.integers(1, hole + 1, n))
    slots = np.cumsum(hops) - hops[0]
    slots = slots[slots * (step // 10**9) < 80 * 366 * 86_400]
    times = (1_609_459_200 * 10**9 // step - int(rng.integers(0, n + 1)) + slots) * step
    if draw(st.booleans()):  # a market that closes at weekends, and perhaps at night
        hours = times % DAY // timeframe_ns("1h")
        closed = ((times // DAY + 3) % 7 >= 5) | (
            draw(st.booleans()) & ((hours < 9) | (hours > 15))
        )
        times = times[~closed] if not closed.all() else times
    prices = rng.integers(9_000, 11_000, (len(times), 4))
    wild = rng.random(prices.shape) < draw(st.sampled_from([0.0, 0.01, 0.2]))
    prices[wild] = rng.choice([100, 5_000, 14_000, 20_001], wild.sum())
    prices.sort(axis=1)
    unit = 10.0 ** draw(st.integers(0, 6))
    low, open_, close, high = (column / unit for column in prices.T)
    stale = (rng.random(len(times)) < draw(st.sampled_from([0.0, 0.4])))[1:]
    open_[1:] = np.where(stale, np.clip(close[:-1], low[1:], high[1:]), open_[1:])
    volume = rng.integers(0, 3, len(times)).astype(np.float64)
    order = np.arange(len(times))
    again = rng.integers(0, len(order), draw(st.sampled_from([0, 0, 5, 60])))
    order = np.concatenate([order, again]) if draw(st.booleans()) else np.sort(np.r_[order, again])
    match draw(st.sampled_from(["as it is", "a few swapped", "shuffled"])):
        case "a few swapped":
            some = rng.integers(0, len(order), 8)
            order[some] = order[some[::-1]]
        case "shuffled":
            rng.shuffle(order)
    columns = [c[order].copy() for c in (times, open_, high, low, close, volume)]
    if draw(st.booleans()):
        columns[5][rng.integers(0, len(order), 3)] += 1
    if not possible and draw(st.sampled_from([True, False, False])):
        columns[3][rng.integers(0, len(order), 3)] *= 3
        columns[0][rng.integers(0, len(order))] = NO_TIME
    files, file_of_row = ("a.csv",), None
    if draw(st.booleans()):
        files = ("a.csv", "b.csv", "c.csv")
        file_of_row = np.sort(rng.integers(0, 3, len(order)))
    raw = RawBars(
        *columns, files=files, file_of_row=file_of_row, row_of=np.arange(3, 3 + len(order))
    )
    return raw, timeframe


def rules_of(timeframe, calendar=None, bad_prints="drop", strict=False, adjusted="none"):
    return DoorRules.parse(
        timeframe=timeframe,
        calendar=calendar,
        adjusted=adjusted,
        bad_prints=bad_prints,
        max_print=2.0,
        strict=strict,
    )


door_options = st.fixed_dictionaries(
    {
        "calendar": st.sampled_from([None, None, "24/7", "24/5", NEW_YORK]),
        "bad_prints": st.sampled_from(["drop", "drop", "keep", "error"]),
        "strict": st.booleans(),
        "adjusted": st.sampled_from(["none", "split"]),
    }
)


class MemoryRows:
    """Rows of an array, in chunks of one size."""

    def __init__(self, raw, size):
        self.raw, self.size = raw, size

    def arranged(self, *, exact):
        stops = range(0, len(self.raw), self.size)
        chunks = (
            taken(self.raw, np.arange(at, min(at + self.size, len(self.raw)))) for at in stops
        )
        return self.raw.files, chunks


def outcome(function):
    """What a check gives, or the words of its refusal."""
    try:
        return function()
    except AresError as error:
        return str(error)


def at_once(raw, rules):
    cleaned, report = clean(raw, rules)
    columns = [cleaned.columns[name].tobytes() for name in COLUMNS]
    return columns, cleaned.gaps.tolist(), cleaned.tick, report


def in_files(folder, rows, rules):
    checked = check_rows(folder, rows, rules)
    read = [read_part(folder, part, COLUMNS) for part in checked.parts]
    columns = {n: np.concatenate([part[n] for part in read]) for n in COLUMNS}
    gaps = read_part(folder, checked.gaps, GAPS)
    before = np.searchsorted(columns["timestamp"], gaps["timestamp"])
    found = np.column_stack([before, before + 1, gaps["missing"]]).tolist()
    return [columns[n].tobytes() for n in COLUMNS], found, checked.tick, checked.report


@settings(max_examples=60)
@given(wild_rows(), door_options, st.sampled_from([1, 2, 7, 64, 10_000]))
def test_rows_in_chunks_give_the_bars_gaps_tick_and_report_of_the_whole(
    tmp_path_factory, market, options, size
):
    raw, timeframe = market
    rules = rules_of(timeframe, **options)
    whole = outcome(lambda: at_once(raw, rules))
    if isinstance(whole, tuple) and whole[3].bars == 0:
        return  # no file can hold no bars
    folder = tmp_path_factory.mktemp("pieces")
    assert outcome(lambda: in_files(folder, MemoryRows(raw, size), rules)) == whole
    report = outcome(lambda: report_rows(folder, MemoryRows(raw, size), rules))
    assert report == (whole if isinstance(whole, str) else whole[3])


@settings(max_examples=60)
@given(wild_rows(), door_options, st.data())
def test_any_cut_of_time_gives_the_same(market, options, data):
    """Spans of one time each, too: what is carried over a border is all that matters."""
    raw, timeframe = market
    rules = rules_of(timeframe, **options)
    timed = np.unique(raw.timestamp[raw.timestamp != NO_TIME])
    assume(len(timed))
    if data.draw(st.booleans()):
        cuts = timed
    else:
        cuts = np.sort(data.draw(st.lists(st.sampled_from(timed.tolist()), max_size=6)))

    def in_pieces():
        door = Door(rules, raw.files)
        door.read(raw)
        place = np.searchsorted(cuts, raw.timestamp, side="right")
        place[raw.timestamp == NO_TIME] = -1
        pushed = [
            door.push(taken(raw, np.flatnonzero(place == k))) for k in np.unique(place[place >= 0])
        ]
        gaps = []
        report = door.finish(lambda: (times for _, times in pushed), gaps.append)
        columns = [np.concatenate([c[n] for c, _ in pushed]).tobytes() for n in COLUMNS]
        found = [
            (int(b), int(b) + 1, int(m))
            for g in gaps
            for b, m in zip(g.before, g.missing, strict=True)
        ]
        return columns, [list(gap) for gap in found], door.tick, report

    assert outcome(in_pieces) == outcome(lambda: at_once(raw, rules))


@settings(max_examples=25)
@given(wild_rows(), st.sampled_from([1, 20, 300]), st.sampled_from([1, 40]))
def test_months_of_more_rows_than_are_held_are_split(tmp_path_factory, market, size, most):
    raw, timeframe = market
    rules = rules_of(timeframe, bad_prints="keep")
    folder = tmp_path_factory.mktemp("split")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "MOST_ROWS", most)
        found = outcome(lambda: report_rows(folder, MemoryRows(raw, size), rules))
    whole = outcome(lambda: at_once(raw, rules))
    assert found == (whole if isinstance(whole, str) else whole[3])
    assert list(folder.iterdir()) == []


def test_rows_month_by_month_are_held_for_a_month_only():
    times = np.arange(0, 400 * DAY, DAY // 4) + 18_000 * DAY
    price = np.ones(len(times))
    raw = RawBars(times, price, price, price, price, price)
    taken_in = 0

    def chunks():
        nonlocal taken_in
        for at in range(0, len(times), 10):
            taken_in += 10
            yield taken(raw, np.arange(at, min(at + 10, len(times))))

    given_out = 0
    for piece in in_order(chunks()):
        given_out += len(piece)
        assert len(piece) <= 124
        assert taken_in - given_out <= 124 + 20
    assert given_out == len(times)
    with pytest.raises(LateRowsError):
        list(in_order(itertools.chain(chunks(), [taken(raw, np.arange(3))])))


@pytest.mark.parametrize(("name", "timeframe"), SHARED)
@pytest.mark.parametrize("size", [997, 10**7])
def test_every_shared_file_in_chunks_is_the_file_at_once(
    shared_data, tmp_path, name, timeframe, size
):
    path = shared_data / name
    columns = BITFINEX if "bitfinex" in name else None
    raw = read_raw(path, columns=columns)
    rules = rules_of(timeframe, strict=True)
    whole = at_once(raw, rules)
    assert in_files(tmp_path, MemoryRows(raw, size), rules) == whole
    bars = load_bars(path, columns=columns, symbol="S", exchange="e", timeframe=timeframe)
    assert whole[0] == [getattr(bars, n).tobytes() for n in COLUMNS]


@pytest.mark.parametrize(("name", "timeframe"), SHARED)
def test_single_rows_of_every_shared_file_are_the_rows_at_once(
    shared_data, tmp_path, name, timeframe
):
    raw = read_raw(shared_data / name, columns=BITFINEX if "bitfinex" in name else None)
    raw = taken(raw, np.arange(3_000))
    rules = rules_of(timeframe)
    assert in_files(tmp_path, MemoryRows(raw, 1), rules) == at_once(raw, rules)


def test_shuffled_rows_of_real_years_are_sorted_by_way_of_a_file(shared_data, tmp_path):
    raw = read_raw(shared_data / "bitfinex_ETHUSD_1m_2016.csv.gz", columns=BITFINEX)
    shuffled = taken(raw, np.random.default_rng(0).permutation(len(raw)))
    rules = rules_of("1m")
    assert in_files(tmp_path, MemoryRows(shuffled, 5_000), rules) == at_once(shuffled, rules)
    market = {"symbol": "S", "exchange": "e", "timeframe": "1m"}
    assert check_bars(shuffled, **market)[0] == check_bars(raw, **market)[0]


def test_a_time_with_too_many_rows_is_refused_before_they_are_read_together(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "MOST_ROWS", 4)
        patch.setattr(pieces, "MOST_REPEATS", 20)
        minute = 60 * 10**9
        for repeats in (20, 21):
            times = np.sort(np.r_[np.zeros(repeats, dtype=np.int64), np.arange(1, 50) * minute])
            raw = RawBars(times, *(np.ones(len(times)) for _ in COLUMNS[1:]), files=("bars",))
            chunks = [taken(raw, np.arange(k, min(k + 7, len(raw)))) for k in range(0, len(raw), 7)]
            if repeats == 20:
                assert sum(len(p) for p in pieces.spooled(chunks, tmp_path)) == len(raw)
                continue
            with pytest.raises(AresError, match="one time may have 20 rows; got '21 of 1970"):
                list(pieces.spooled(chunks, tmp_path))


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    size=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_one_time_has_as_many_rows_at_once_as_in_pieces(tmp_path_factory, counts, size, seed):
    """The cap on rows of one time is one rule, with one message, wherever rows come in."""
    times = np.repeat(np.arange(len(counts), dtype=np.int64) * 60 * 10**9, counts)
    times = np.random.default_rng(seed).permutation(times)
    raw = RawBars(times, *(np.ones(len(times)) for _ in COLUMNS[1:]), files=("bars",))
    folder = tmp_path_factory.mktemp("spool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "MOST_ROWS", 4)
        patch.setattr(pieces, "MOST_REPEATS", 20)
        patch.setattr(faults, "MOST_REPEATS", 20)
        whole = outcome(lambda: at_once(raw, rules_of("1m")))
        found = outcome(lambda: in_files(folder, MemoryRows(raw, size), rules_of("1m")))
    assert found == whole
    over = [k for k, count in enumerate(counts) if count > 20]
    if over:
        expected = (
            f"one time may have 20 rows; got '{counts[over[0]]} of 1970-01-01T00:{over[0]:02}"
        )
        assert expected in whole
    else:
        assert whole[3].duplicates == len(raw) - len(counts)


def test_overnight_moves_of_every_inferred_calendar_are_those_of_the_declared_one():
    """What is counted before the calendar is known is what that calendar finds, and ten in words."""
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.integers(1, 30, 3000)) * 1800 * 10**9
    price = np.where(np.arange(3000) % 2, 1.0, 2.0)
    columns = {"timestamp": times, "open": price, "close": price}
    for zone in ZONES:
        found = []
        for declared in (None, Calendar("session", zone, 9 * 3600 * 10**9, 16 * 3600 * 10**9)):
            moves = OvernightMoves(declared, 1800 * 10**9)
            for part in np.array_split(np.arange(3000), 7 if declared else 1):
                piece = {name: column[part] for name, column in columns.items()}
                moves.push(piece, lambda k, start=part[0]: str(start + k))
            tally = moves.between_sessions(Calendar("session", zone))
            found.append((tally.count, tally.examples))
        assert found[0] == found[1]
        assert found[0][0] > 500
        assert len(found[0][1]) == 10


def test_distances_beyond_the_limit_do_not_count_and_any_cut_counts_the_same(monkeypatch):
    monkeypatch.setattr(tallies, "_MOST_DISTANCES", 50)
    rng = np.random.default_rng(2)
    distances = np.r_[rng.permutation(1000)[:60] + 1, np.full(300, 7777), np.arange(400, 460)]
    times = np.cumsum(distances[rng.permutation(len(distances))]).astype(np.int64)
    seen = set()
    for cuts in ([], [100], sorted(rng.integers(0, len(times), 30).tolist())):
        counted = Distances(60)
        for piece in np.split(times, cuts):
            counted.push(piece)
        assert len(counted._values) == 50
        seen.add((counted.common, *counted._values.tolist(), *counted._counts.tolist()))
    assert len(seen) == 1
    assert seen.pop()[0] == 7777
