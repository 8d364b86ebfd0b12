"""CSV files against a naive reader, layouts, and what the door says about broken ones."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import os
import re
import stat
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import AresError, ConfigError, DataError
from ares.market.files import load_bars, read_raw
from ares.market.reading.csvfile import stream_csv
from ares.market.streaming import report_files

BITFINEX = "timestamp,open,close,high,low,volume"
HEADER = "timestamp,open,high,low,close,volume"
MARKET = {"symbol": "BTCUSD", "exchange": "bitfinex", "timeframe": "1m"}
NAMES = ("open", "high", "low", "close", "volume")
START = 1_600_000_020  # on a minute
ROWS = [
    (START + 60 * n, "10.5", f"{11 + n}.25", "9.125", f"{10 + n}.0625", f"{n}.001")
    for n in range(6)
]


def text_of(rows=ROWS, header=HEADER, delimiter=",", newline="\n"):
    lines = [header.replace(",", delimiter)] if header else []
    lines += [delimiter.join(str(cell) for cell in row) for row in rows]
    return newline.join(lines) + newline


def written(folder: Path, data: bytes | str, name="bars.csv") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def naive(path: Path, order: str, step: int) -> dict[str, list]:
    """Every `step`-th row with the csv and decimal modules alone; timestamps are ms."""
    columns: dict[str, list] = {name: [] for name in order.split(",")}
    with gzip.open(path, "rt", newline="") as file:
        for row in itertools.islice(csv.reader(file), 0, None, step):
            for name, cell in zip(columns, row, strict=True):
                columns[name].append(int(cell) if name == "timestamp" else float(Decimal(cell)))
    return columns


FILES = ["BTCUSD_1m_2013", "BTCUSD_1m_2014", "BTCUSD_1m_2015", "ETHUSD_1m_2016"]


@pytest.mark.parametrize("name", FILES)
def test_real_bitfinex_files_read_as_a_naive_reader_reads_them(shared_data, name):
    path = shared_data / f"bitfinex_{name}.csv.gz"
    raw = read_raw(path, columns=BITFINEX)
    expected = naive(path, BITFINEX, 7)
    assert np.array_equal(raw.timestamp[::7], np.array(expected["timestamp"]) * 1_000_000)
    for column in NAMES:
        assert np.array_equal(getattr(raw, column)[::7], np.array(expected[column]))


@pytest.mark.parametrize("name", FILES)
def test_the_bitfinex_order_is_recognised_without_a_declaration(shared_data, name):
    path = shared_data / f"bitfinex_{name}.csv.gz"
    bars = load_bars(path, **MARKET)
    assert bars == load_bars(path, columns=BITFINEX.split(","), **MARKET)
    layouts = [f for f in bars.quality.findings if f.kind == "layout"]
    assert BITFINEX in layouts[0].examples[0]


def test_files_of_several_years_join_in_time_order(shared_data):
    paths = [shared_data / f"bitfinex_BTCUSD_1m_{year}.csv.gz" for year in (2015, 2013, 2014)]
    bars = load_bars(paths, columns=BITFINEX, **MARKET)
    assert bars.quality.rows == 148_055 + 283_787 + 366_710
    assert bars.quality.out_of_order == 0
    assert np.all(np.diff(bars.timestamp) > 0)


def test_loading_writes_nothing(tmp_path):
    path = written(tmp_path, text_of())
    before = sorted(tmp_path.iterdir())
    load_bars(path, **MARKET)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("packed", [False, True])
def test_spellings_of_csv_that_mean_the_same(tmp_path, newline, delimiter, bom, packed):
    data = bom + text_of(delimiter=delimiter, newline=newline).encode()
    if packed:
        half = len(data) // 2
        data = gzip.compress(data[:half]) + gzip.compress(data[half:]) + b"\0" * 16
    assert load_bars(written(tmp_path, data), **MARKET) == load_bars(
        written(tmp_path, text_of(), "plain.csv"), **MARKET
    )


@pytest.mark.parametrize(
    "header",
    [
        "Open Time,Open,High,Low,Close,Volume",
        "DATE,o,H,l,C,v",
        "<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
        " unix , open, high,low , close,volume",
    ],
)
def test_headers_are_found_by_name_in_any_case(tmp_path, header):
    named = load_bars(written(tmp_path, text_of(header=header), "named.csv"), **MARKET)
    assert named == load_bars(written(tmp_path, text_of()), **MARKET)


def test_spare_columns_and_their_names_do_not_matter(tmp_path):
    evil = '=HYPERLINK("http://x"),<script>alert(1)</script>,Adj Close'
    rows = [(f"'=1+{n}", "</td>", 7, *row) for n, row in enumerate(ROWS)]
    header = "x,<script>alert(1)</script>,Adj Close," + HEADER
    assert evil.split(",")[1] in header
    bars = load_bars(written(tmp_path, text_of(rows, header), "evil.csv"), **MARKET)
    assert bars == load_bars(written(tmp_path, text_of()), **MARKET)
    assert "script" not in "\n".join(bars.quality.lines())


SCALES = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@pytest.mark.parametrize("unit", SCALES)
@pytest.mark.parametrize("form", ["{}", "{}.0"])
def test_numeric_timestamps_in_any_unit(tmp_path, unit, form):
    rows = [(form.format(row[0] * SCALES[unit]), *row[1:]) for row in ROWS]
    bars = load_bars(written(tmp_path, text_of(rows)), **MARKET)
    assert bars.timestamp.tolist() == [row[0] * 10**9 for row in ROWS]


@pytest.mark.parametrize(
    "form",
    [
        "2020-09-13 12:27:00",
        "2020-09-13T12:27",
        "2020-09-13T12:27:00Z",
        "2020-09-13 14:27:00+02:00",
        "2020-09-13T12:27:00.000000000Z",
        "2020-09-13T08:27:00-0400",
    ],
)
def test_iso_timestamps_with_and_without_a_zone(tmp_path, form):
    minute = re.compile(":27")
    rows = [(minute.sub(f":{27 + n}", form), *row[1:]) for n, row in enumerate(ROWS)]
    bars = load_bars(written(tmp_path, text_of(rows)), **MARKET)
    assert bars.timestamp.tolist() == [row[0] * 10**9 for row in ROWS]


def test_a_binance_dump_without_header_is_recognised(tmp_path):
    rows = [(r[0] * 1000, *r[1:], r[0] * 1000 + 59_999, 1, 2, 3, 4, 0) for r in ROWS]
    bars = load_bars(written(tmp_path, text_of(rows, header="")), **MARKET)
    assert bars == load_bars(written(tmp_path, text_of(), "plain.csv"), **MARKET)


def test_six_unnamed_columns_that_fit_two_orders_are_refused(tmp_path):
    rows = [(row[0], 5, 5, 5, 5, 1) for row in ROWS]
    path = written(tmp_path, text_of(rows, header=""))
    with pytest.raises(DataError, match="both orders fit.*--columns timestamp,open"):
        load_bars(path, **MARKET)
    assert len(load_bars(path, columns=HEADER, **MARKET)) == 6


def test_six_unnamed_columns_that_fit_no_order_are_refused(tmp_path):
    rows = [(row[0], 5, 4, 6, 5, 1) for row in ROWS]
    with pytest.raises(DataError, match="no known order fits"):
        load_bars(written(tmp_path, text_of(rows, header="")), **MARKET)


def changed(row: int, column: int, cell: str) -> str:
    rows = [list(r) for r in ROWS]
    rows[row][column] = cell
    return text_of(rows)


BAD = {
    "empty file": ("", "empty"),
    "blank lines only": ("\n\n  \n", "empty"),
    "header only": (HEADER + "\n", "no rows"),
    "missing columns": (text_of(header="timestamp,open,top,low,close,volume"), "high are missing"),
    "a column twice": (
        text_of(header="timestamp,open,open,low,close,volume"),
        "named once|missing",
    ),
    "no table": ("hello world\nsecond line\n", "missing"),
    "html": ("<html><body>404, not found</body></html>\n", "missing"),
    "text in a price": (changed(3, 1, "abc"), "row 5, column open.*'abc'"),
    "decimal comma": (changed(3, 1, '"10,5"'), "row 5, column open.*'10,5'"),
    "hexadecimal": (changed(3, 1, "0x10"), "row 5, column open.*'0x10'"),
    "underscore": (changed(3, 1, "1_0"), "row 5, column open.*'1_0'"),
    "empty cell": (changed(2, 3, ""), "row 4, column low"),
    "NaN": (changed(2, 3, "NaN"), "row 4, column low"),
    "infinity": (changed(2, 2, "inf"), "row 4, column high"),
    "too large": (changed(2, 2, "1e999"), "row 4, column high"),
    "negative price": (changed(1, 1, "-10.5"), "row 3, column open"),
    "zero price": (changed(1, 4, "0"), "row 3"),
    "high below low": (changed(1, 2, "9"), "row 3"),
    "empty time": (changed(1, 0, ""), "row 3, column timestamp"),
    "text as time": (changed(1, 0, "noon"), "row 3, column timestamp.*'noon'"),
    "no such date": (text_of([("2020-02-30", *r[1:]) for r in ROWS]), "column timestamp"),
    "mixed units": (changed(2, 0, f"{ROWS[2][0]}000"), "unit"),
    "american dates": (text_of([("1/4/1999", *r[1:]) for r in ROWS]), "ISO 8601"),
    "a cell too few": (text_of([*ROWS[:2], ROWS[2][:-1]]), "row 4: every row must have 6"),
    "a cell too many": (text_of([*ROWS[:2], (*ROWS[2], 1)]), "row 4: every row must have 6"),
    "NUL": (text_of().replace("9.125", "9.1\x005", 1), "row 2: .*NUL"),
    "a line over 64 KiB": (text_of() + "9" * 70_000, "row 8: a line may have 64 KiB"),
    "too many columns": (",".join(f"c{n}" for n in range(300)) + "\n", "256 columns"),
    "utf-16": (text_of().encode("utf-16"), "UTF-8"),
    "another timeframe": (
        text_of([(START + 15 * n, *r[1:]) for n, r in enumerate(ROWS)]),
        "timeframe|1m|interval",
    ),
    "an archive": (b"PK\x03\x04" + b"x" * 100, "Unpack"),
    "no gzip inside": (b"\x1f\x8b" + b"x" * 100, "cannot be read"),
    "truncated gzip": (gzip.compress(text_of().encode())[:-9], "ends too early|cannot be read"),
    "gzip and rubbish": (gzip.compress(text_of().encode()) + b"rubbish", "cannot be read"),
    "a gzip bomb": (gzip.compress(b"0" * (80 << 20), 9), "expand 200-fold|64 KiB"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_clear_input_error(tmp_path, case):
    content, message = BAD[case]
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        load_bars(path, **MARKET)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_declared_order_and_a_header_contradict(tmp_path):
    with pytest.raises(DataError, match="row 1.*no header"):
        load_bars(written(tmp_path, text_of()), columns=HEADER, **MARKET)


@pytest.mark.parametrize(
    "columns", ["timestamp,open,high,low,close", "a,b,c,d,e,f", HEADER + ",low"]
)
def test_a_declaration_must_name_every_column_once(tmp_path, columns):
    with pytest.raises(DataError, match="column"):
        load_bars(written(tmp_path, text_of(header="")), columns=columns, **MARKET)


def test_a_declaration_of_another_width_is_refused(tmp_path):
    with pytest.raises(DataError, match="7 columns are declared"):
        load_bars(written(tmp_path, text_of(header="")), columns=HEADER + ",spare", **MARKET)


def test_a_missing_file_a_folder_and_special_files(tmp_path):
    with pytest.raises(DataError, match="must exist"):
        load_bars(tmp_path / "absent.csv", **MARKET)
    with pytest.raises(DataError, match="no files of bars"):
        load_bars(tmp_path, **MARKET)
    with pytest.raises(DataError, match="at least one"):
        load_bars([], **MARKET)
    with pytest.raises(DataError):
        load_bars("bars\0.csv", **MARKET)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="regular file"):
        load_bars(tmp_path / "pipe.csv", **MARKET)
    path = written(tmp_path, text_of())
    path.chmod(0)
    if not os.access(path, os.R_OK):
        with pytest.raises(DataError, match="readable"):
            load_bars(path, **MARKET)
    path.chmod(stat.S_IRUSR)


def test_a_folder_means_the_files_of_bars_in_it(tmp_path):
    written(tmp_path, text_of(ROWS[3:]), "a.csv")
    written(tmp_path, gzip.compress(text_of(ROWS[:3]).encode()), "b.csv.gz")
    written(tmp_path, "notes", "readme.md")
    written(tmp_path, "junk", ".hidden.csv")
    bars = load_bars(tmp_path, **MARKET)
    assert bars.timestamp.tolist() == [row[0] * 10**9 for row in ROWS]
    assert bars.quality.out_of_order == 0


def test_a_check_counts_what_loading_refuses(tmp_path):
    text = changed(3, 1, "abc") + text_of([ROWS[0]], header="")
    report = report_files(written(tmp_path, text), timeframe="1m")
    assert (report.rows, report.impossible, report.duplicates) == (7, 1, 1)


def test_rows_are_numbered_as_an_editor_numbers_lines(tmp_path):
    lines = changed(3, 1, "abc").splitlines()
    text = "\n".join(["", lines[0], "", *lines[1:]])
    with pytest.raises(DataError, match="row 7, column open"):
        load_bars(written(tmp_path, text), **MARKET)
    negative = "\n".join(["", *text_of().replace("11.25", "-1").splitlines()])
    with pytest.raises(DataError, match="row 3, column high"):
        load_bars(written(tmp_path, negative), **MARKET)


def test_a_time_range_cuts_after_the_check(shared_data):
    path = shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz"
    whole = load_bars(path, columns=BITFINEX, **MARKET)
    part = load_bars(path, columns=BITFINEX, timerange="20130501-20130601", **MARKET)
    inside = (whole.timestamp >= 1367366400 * 10**9) & (whole.timestamp < 1370044800 * 10**9)
    start, stop = np.flatnonzero(inside)[[0, -1]]
    assert part == whole[start : stop + 1]
    assert part.quality == whole.quality
    with pytest.raises(DataError, match="no bars lie in the time range.*2013-04-01T00:07:00Z"):
        load_bars(path, columns=BITFINEX, timerange="20200101-", **MARKET)


@pytest.mark.parametrize(
    "text", ["2020", "20200101", "20200230-", "20210101-20200101", "a-b", "2020-01-01"]
)
def test_a_time_range_of_another_form_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="timerange"):
        load_bars(written(tmp_path, text_of()), timerange=text, **MARKET)


_PRICE = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def strict_rows(data: bytes) -> dict[str, list[float]] | None:
    """What a naive strict reader makes of a CSV with our header, or None where it refuses."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    rows = [
        r for r in csv.reader(io.StringIO(text, newline="")) if len(r) > 1 or "".join(r).strip()
    ]
    if not rows or [c.strip().lower() for c in rows[0]] != HEADER.split(","):
        return None
    columns: dict[str, list[float]] = {name: [] for name in HEADER.split(",")}
    for row in rows[1:]:
        if len(row) != 6 or any(not _PRICE.fullmatch(cell.strip()) for cell in row):
            return None
        for name, cell in zip(columns, row, strict=True):
            columns[name].append(float(Decimal(cell.strip())))
    return columns


_BYTES = st.sampled_from(b'0123456789.,;-+eE"\n\r\t abcNZ:\0\xff\xef<=')
_EDIT = st.tuples(st.integers(0, 300), st.sampled_from(["put", "drop", "cut", "swap"]), _BYTES)


@given(edits=st.lists(_EDIT, min_size=1, max_size=4), packed=st.booleans())
def test_a_mutated_file_is_read_as_a_naive_reader_does_or_refused(tmp_path_factory, edits, packed):
    data = bytearray(text_of().encode())
    if packed:
        data = bytearray(gzip.compress(bytes(data), mtime=0))
    for at, kind, byte in edits:
        place = at % max(len(data), 1)
        if kind == "put":
            data.insert(place, byte)
        elif kind == "drop":
            del data[place : place + 1]
        elif kind == "cut":
            del data[place:]
        elif data:
            data[place] = byte
    path = written(tmp_path_factory.mktemp("mutated"), bytes(data))
    refused = None
    try:
        raw = read_raw(path)
        bars = load_bars(path, **MARKET)
    except AresError as error:
        refused = error
    if refused is not None:
        assert refused.exit_code == 2
        return
    plain = gzip.decompress(bytes(data)) if bytes(data[:2]) == b"\x1f\x8b" else bytes(data)
    expected = strict_rows(plain.replace(b"\r\n", b"\n"))
    assert len(bars) > 0
    if expected is None:
        return  # another spelling that is read, too: quotes, other separators, ISO dates
    for name in NAMES:
        assert np.array_equal(getattr(raw, name), np.array(expected[name]))


@given(
    cells=st.lists(
        st.one_of(
            st.decimals(0, 10**6, allow_nan=False, allow_infinity=False).map(str),
            st.floats(1e-12, 1e12).map(repr),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_a_number_is_the_float_nearest_to_its_text(tmp_path_factory, cells):
    rows = [(START + 60 * n, cell, cell, cell, cell, "1") for n, cell in enumerate(cells)]
    raw = read_raw(written(tmp_path_factory.mktemp("numbers"), text_of(rows)))
    assert raw.close.tolist() == [float(Decimal(cell)) for cell in cells]


@pytest.mark.parametrize("names", ["date,time", "Time,Date", "<DATE>,<TIME>"])
@pytest.mark.parametrize("declared", [False, True])
def test_a_time_of_day_in_a_column_of_its_own_is_not_ignored(tmp_path, names, declared):
    """The last minute of each day would pass for a daily bar."""
    cells = ("23:58:00", "2024-01-31") if names.startswith("T") else ("2024-01-31", "23:58:00")
    header = f"{names},open,high,low,close,volume"
    rows = [(*cells, 100, 101, 99, 100, 1)] * 3
    path = written(tmp_path, text_of(rows, "" if declared else header))
    columns = tuple(header.split(",")) if declared else None
    for read in (read_raw, lambda path, columns: list(stream_csv(path, columns=columns))):
        with pytest.raises(DataError, match="must stand in one column; got '2024-01-31, 23:58:00'"):
            read(path, columns=columns)


def test_a_date_with_its_own_time_of_day_may_have_a_column_time_beside(tmp_path):
    rows = [(f"2024-01-31 23:5{k}", "ignored", 100, 101, 99, 100, 1) for k in range(3)]
    path = written(tmp_path, text_of(rows, "date,time,open,high,low,close,volume"))
    assert np.diff(read_raw(path).timestamp).tolist() == [60 * 10**9] * 2


def test_a_line_without_end_is_refused_before_the_rest_is_read(tmp_path):
    """A sparse file of 4 GiB: reading all of it first would take seconds and its memory."""
    path = written(tmp_path, text_of() + "9" * 2_000_000)
    with path.open("r+b") as file:
        file.truncate(4 << 30)
    with pytest.raises(
        DataError, match="row 8: (a line may have 64 KiB|text must not contain NUL)"
    ):
        read_raw(path)


def test_a_report_finds_the_timeframe_and_names_the_files_where_it_cannot(tmp_path):
    path = written(tmp_path, text_of())
    assert report_files(path) == report_files(path, timeframe="1m")
    one = written(tmp_path, text_of(ROWS[:1]), "one row.csv")
    with pytest.raises(DataError, match=r"^\S*/one row.csv: a timeframe is only seen"):
        report_files([one])
