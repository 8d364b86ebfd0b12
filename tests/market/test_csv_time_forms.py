"""Columns of a CSV that tell times in two forms: which ones they are, and what to write instead."""

from __future__ import annotations

import datetime as dt
import re
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import DataError
from ares.market.bars import Bars
from ares.market.files import load_bars, read_raw
from ares.market.reading import textfile
from ares.market.reading.timeforms import kind_of, time_problem
from ares.market.streaming import report_files

MARKET = {"symbol": "BTCUSD", "exchange": "bitfinex", "timeframe": "1m"}
START = 1_600_000_020
ROWS = 30


def _day(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


FORMS = {
    "s since 1970": str,
    "ms since 1970": lambda t: str(1000 * t),
    "us since 1970": lambda t: str(1_000_000 * t),
    "s since 1970 with decimals": lambda t: f"{t}.0",
    "an ISO 8601 time with a zone": lambda t: f"{_day(t)}Z",
    "an ISO 8601 time without a zone": _day,
}
NUMBERS = {
    "s since 1970",
    "ms since 1970",
    "us since 1970",
}  # of which two are two units, not forms
DECIMALS = "s since 1970 with decimals"
PAIRS = [(a, b) for a in FORMS for b in FORMS if a not in {b, DECIMALS} and not {a, b} <= NUMBERS]


def written(path, stamps):
    lines = ["timestamp,open,high,low,close,volume", *(f"{stamp},10,11,9,10,1" for stamp in stamps)]
    path.write_text("\n".join(lines) + "\n")
    return path


def stamps(usual, other, at):
    return [FORMS[other if n == at else usual](START + 60 * n) for n in range(ROWS)]


@pytest.mark.parametrize(("usual", "other"), PAIRS)
def test_a_time_in_another_form_is_told_apart_and_what_is_told_to_write_mends_it(
    tmp_path, usual, other
):
    at = 17
    cells = stamps(usual, other, at)
    path = written(tmp_path / "bars.csv", cells)
    with pytest.raises(DataError) as caught:
        load_bars(path, **MARKET)
    error = caught.value
    assert error.where == f"{path}, row {at + 2}, column timestamp"
    assert error.value == cells[at]
    assert f"the first is {usual} ({cells[0]}) and this one {other}" in error.rule
    told = re.match("Write (.+) there", error.remedy)
    assert told is not None
    cells[at] = told.group(1)
    bars = load_bars(written(path, cells), **MARKET)
    assert bars.timestamp.tolist() == [10**9 * (START + 60 * n) for n in range(ROWS)]


def test_the_report_says_it_of_each_and_names_the_first_time_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(textfile, "STEP", 200)
    cells = [FORMS["ms since 1970"](START + 60 * n) for n in range(ROWS)]
    odd = (20, 21, 29)  # the last blocks hold nothing else
    for n in odd:
        cells[n] = f"{_day(START + 60 * n)}Z"
    path = written(tmp_path / "bars.csv", cells)
    report = report_files(path, timeframe="1m")
    assert report.impossible == len(odd)
    (found,) = (f for f in report.findings if f.kind == "impossible")
    for n, example in zip(odd, found.examples, strict=True):
        assert example == (
            f"bars.csv, row {n + 2}, column timestamp: one column has timestamps of one form, but the"
            f" first is ms since 1970 ({cells[0]}) and this one an ISO 8601 time with a zone; got"
            f" {cells[n]!r}"
        )


def test_so_it_is_for_a_frame(tmp_path):
    cells = stamps("ms since 1970", "an ISO 8601 time with a zone", 3)
    frame = pd.read_csv(written(tmp_path / "bars.csv", cells))
    with pytest.raises(
        DataError, match=r"row 4, .*first is ms since 1970 .*Write 1600000200000 there"
    ):
        Bars.from_frame(frame, **MARKET)


@pytest.mark.parametrize("volume", ["1", "1\xff"])
def test_a_number_that_could_stand_for_no_time_is_one_out_of_range(tmp_path, volume):
    """Beside a cell that the quick reader leaves to the plain one, it was no time at all."""
    path = tmp_path / "bars.csv"
    cells = [FORMS[DECIMALS](START), str(-(2**63)), FORMS[DECIMALS](START + 120)]
    lines = [f"{cell},10,11,9,10,{volume}" for cell in cells]
    text = "\n".join(["timestamp,open,high,low,close,volume", *lines, ""])
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"row 3, .*(1678 and 2262|one unit)"):
        read_raw(path)


@given(
    st.sampled_from(sorted(FORMS)),
    st.one_of(
        st.from_regex(r"[+-]?\d{1,30}(\.\d{0,30})?(e[+-]?\d{1,6})?", fullmatch=True),
        st.from_regex(
            r"\d{4}-[01]\d-[0-3]\d([T ][0-2]\d:[0-5]\d(:[0-6]\d(\.\d{1,9})?)?)?(Z|[+-]\d\d:\d\d)?",
            fullmatch=True,
        ),
    ),
)
def test_whatever_the_cell_is_what_is_told_to_write_is_the_same_moment(usual, cell):
    first = FORMS[usual](START)
    problem = time_problem(7, cell, first)
    assert (problem.row, problem.column, problem.text) == (7, "timestamp", cell[:80])
    told = re.match("Write (.+) there", problem.remedy)
    if told is None:
        return
    assert kind_of(told.group(1)) == kind_of(first) or usual == DECIMALS
    assert alone(told.group(1)) == alone(cell)


def alone(cell: str) -> int:
    """The moment that a cell means in a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        raw = read_raw(written(Path(folder) / "bars.csv", [cell]))
    assert len(raw) == 1
    return int(raw.timestamp[0])
