"""Laws of the parts: waits, pages of the spool, rows of a page."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import DataError, OutageError
from ares.market.exchange.holes import joined
from ares.market.exchange.retry import Retry, TransientError, retry_after
from ares.market.exchange.source import Market, Page, as_rows
from ares.market.exchange.spool import Spool
from ares.store.workspace import Workspace

MARKET = Market("BTC/USDT", "binance", "1m")
spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=8,
)


def inside(ranges: list[tuple[int, int]]) -> set[int]:
    return {t for start, stop in ranges for t in range(start, stop)}


@given(spans, st.integers(0, 5))
def test_joined_spans_cover_the_same_and_are_apart(
    given_spans: list[tuple[int, int]], apart: int
) -> None:
    found = joined(given_spans, apart)
    assert inside(given_spans) <= inside(found)
    assert apart or inside(given_spans) == inside(found)
    assert all(b[0] - a[1] > apart for a, b in itertools.pairwise(found))


@given(spans, spans, st.sets(st.integers(0, 85)))
def test_the_spool_gives_each_bar_of_its_pages_once_and_in_order(
    pages: list[tuple[int, int]], asked: list[tuple[int, int]], times: set[int]
) -> None:
    market_rows = np.array([[t, 1, 1, 1, 1, t] for t in sorted(times)], dtype=float).reshape(-1, 6)
    with tempfile.TemporaryDirectory() as home, Spool(Workspace(Path(home)), "x", MARKET) as spool:
        for start, stop in pages:
            within = (market_rows[:, 0] >= start) & (market_rows[:, 0] < stop)
            spool.keep(Page(start, stop, market_rows[within]))
        got = [int(t) for rows in spool.rows(joined(asked)) for t in rows[:, 0]]
        assert got == sorted(inside(pages) & inside(asked) & times)
        for cursor in range(85):
            stop_at = spool.stop_of(cursor)
            assert stop_at is None or cursor < stop_at


def test_an_earlier_process_leaves_all_pages_but_the_newest(tmp_path: Path) -> None:
    row = np.array([[0.0, 1, 1, 1, 1, 1]])
    with Spool(Workspace(tmp_path), "x", MARKET) as spool:
        for start in (0, 10, 20):
            spool.keep(Page(start, start + 10, row + np.array([start, 0, 0, 0, 0, 0])))
        spool.keep(Page(30, 40, row[:0]))  # that there was nothing may be false tomorrow
        (spool.folder / "rubbish.npy").write_bytes(b"x")
    with Spool(Workspace(tmp_path), "x", MARKET) as spool:
        assert [spool.stop_of(t) for t in (0, 10, 20, 30)] == [10, 20, None, None]
    with Spool(Workspace(tmp_path), "y", MARKET) as other:
        assert len(other) == 0


@given(st.integers(1, 12))
def test_waits_stay_under_a_doubling_limit(attempts: int) -> None:
    slept: list[float] = []
    told: list[str] = []
    retry = Retry(attempts=attempts, base=0.5, cap=30, sleep=slept.append, waiting=told.append)

    def fails() -> None:
        raise TransientError("no")

    with pytest.raises(OutageError, match=f"failed {attempts} times"):
        retry.call(fails, where="here")
    assert len(slept) == attempts - 1
    assert all(0 <= s <= min(30, 0.5 * 2**k) for k, s in enumerate(slept))
    assert told == [
        f"attempt {k} of {attempts} failed, the next one in {s:.1f} s: no"
        for k, s in enumerate(slept, start=1)
    ]


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        (None, None, None),
        ("30", None, 30.0),
        (" 0 ", None, 0.0),
        ("Fri, 01 Jan 2021 00:00:30 GMT", "Fri, 01 Jan 2021 00:00:00 GMT", 30.0),
        ("Fri, 01 Jan 2021 00:00:00 GMT", "Fri, 01 Jan 2021 00:00:30 GMT", 0.0),
        ("Fri, 01 Jan 1971 00:00:00 GMT", None, 0.0),
        ("-5", None, None),
        ("soon", None, None),
        ("9" * 400, None, None),
        ("", None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(
    header: str | None, date: str | None, seconds: float | None
) -> None:
    assert retry_after(header, date) == seconds


def test_rows_are_sorted_and_the_last_of_equal_times_is_kept() -> None:
    rows = as_rows([[3, 1, 1, 1, 1, 1], [1, 2, 2, 2, 2, 2], [3, 4, 4, 4, 4, 4]], "here")
    assert rows.tolist() == [[1, 2, 2, 2, 2, 2], [3, 4, 4, 4, 4, 4]]
    assert as_rows([], "here").shape == (0, 6)
    for bad in (
        [[1, 2]],
        [[1, "x", 1, 1, 1, 1]],
        [[0.5, 1, 1, 1, 1, 1]],
        [[np.nan, 1, 1, 1, 1, 1]],
    ):
        with pytest.raises(DataError, match="here"):
            as_rows(bad, "here")
