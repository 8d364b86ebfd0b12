"""The quick reading of CSV rows gives what the other readers give, and only says so sooner."""

from __future__ import annotations

import datetime as dt
import gzip

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ares.core.errors import DataError
from ares.market.reading import csvfile, textfile
from ares.market.reading.csvfile import read_csv, stream_csv

pytestmark = pytest.mark.compiled
NAMES = ("open", "high", "low", "close", "volume")
ODD = ["", "nan", "+2", " 2", '"2"', "2.", "1e400", "12345678901234567890", "x"]


def seen(tables):
    """Everything in tables that a caller can see."""
    found = {name: [] for name in ("timestamp", "row_of", *NAMES)}
    problems = []
    for table in tables:
        before = len(found["row_of"])
        problems += [(before + p.row, p.column, p.text) for p in table.problems]
        found["timestamp"] += [
            (str(table.timestamp.dtype), repr(t)) for t in table.timestamp.tolist()
        ]
        found["row_of"] += table.row_of.tolist()
        for name in NAMES:
            found[name] += [repr(value) for value in table.numbers[name].tolist()]
    return found, problems


def outcome(read, path):
    try:
        return seen(read(path))
    except DataError as error:
        return str(error)


@st.composite
def texts(draw):
    """Files of which some rows are out of the ordinary."""
    header = draw(st.sampled_from(["", "t,o,h,l,c,v", '"t","o","h","l","c","v"', "t,o,h,l,c,v,x"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    rows = []
    for n in range(draw(st.integers(1, 40))):
        cells = [str(1_600_000_020 + 60 * n), f"{n}.125", "50.5", "1e-05", f"{n}", "0.000"]
        if draw(st.integers(0, 15)) == 0:
            cells[draw(st.integers(0, 5))] = draw(st.sampled_from(ODD))
        rows.append(",".join(cells))
        if draw(st.integers(0, 30)) == 0:
            rows.append(draw(st.sampled_from(["", " ", "1,2"])))
    lines = ([header] if header else []) + rows
    blank = draw(st.sampled_from(["", "\n", "\ufeff"]))
    return blank + end.join(lines) + draw(st.sampled_from(["", end]))


seconds = st.datetimes(dt.datetime(1676, 1, 1), dt.datetime(2263, 12, 31)).map(
    lambda moment: moment.replace(microsecond=0)
)
FORMS = [
    lambda moment, _: f"{moment:%Y-%m-%d}",
    lambda moment, _: f"{moment:%Y-%m-%d %H:%M}",
    lambda moment, _: f"{moment:%Y-%m-%dT%H:%M:%S}",
    lambda moment, spare: f"{moment:%Y-%m-%dT%H:%M:%S}.{spare % 10 ** (spare % 9 + 1)}",
    lambda moment, _: f"{moment:%Y-%m-%d %H:%MZ}",
    lambda moment, spare: f"{moment:%Y-%m-%dT%H:%M:%S}.{spare:09d}Z",
    lambda moment, _: f"{moment:%Y-%m-%d %H:%M:%S}+05:30",
    lambda moment, spare: f"{moment:%Y-%m-%d %H:%M:%S}-{spare % 24:02d}:{spare % 60:02d}",
    lambda moment, _: f"{moment:%Y-%m-%dT%H:%M:%S}+0000",
    lambda moment, _: f"{(moment - dt.datetime(1970, 1, 1)).total_seconds():.1f}",
    lambda moment, spare: f"{abs(moment - dt.datetime(1970, 1, 1)).days * 86_400}.{spare:03d}",
    lambda _, spare: f"{spare}e1",
]
ODD_TIMES = [
    "2023-02-29", "2000-02-29", "2024-04-31", "2024-01-31 24:00", "2024-01-31T24:00:00Z", "2024-01-31T23:59:60",
    "2024-01-31T23:59:60Z", "2024-01-31 23:60", "2024-00-10", "2024-13-10", "2024-1-1", "2024-01-31Z", "2024-01-31T00",
    "2024-01-31T00:00+24:00", "2024-01-31T00:00+23:60", "2024-01-31T00:00:00.0000000001", "1677-09-21T00:12:43",
    "2262-04-11T23:47:17", "2024-01-31T00:00:00+01", "2024-01-31T00:00:00+0130", '"2024-01-31"', " 2024-01-31", "",
    "nan", "inf", "0001-01-01", "9999-12-31", "1706745540", "1706745540.5", "17067455400000000.125", "-5", "-0.0", "x",
]  # fmt: skip


@st.composite
def dated(draw):
    """Files whose times are dates or decimals, some of them in another form than the first."""
    form = draw(st.sampled_from(FORMS))
    zoned = draw(st.booleans())  # or whatever: a zone is one more way to differ
    rows = []
    for n in range(draw(st.integers(1, 12))):
        cell = form(draw(seconds), draw(st.integers(0, 10**9 - 1)))
        if draw(st.integers(0, 15)) == 0:
            cell = draw(st.sampled_from(ODD_TIMES))
        elif zoned and draw(st.integers(0, 15)) == 0:
            cell += draw(st.sampled_from(["Z", "+00:00", "-23:59", "+24:00"]))
        rows.append(f"{cell},{n}.5,50,1,{n},2")
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return "t,o,h,l,c,v" + end + end.join(rows) + draw(st.sampled_from(["", end]))


@given(texts() | dated(), st.integers(8, 400), st.booleans())
def test_a_file_is_read_as_without_the_quick_reader(tmp_path_factory, text, step, packed):
    path = tmp_path_factory.mktemp("quick") / "bars.csv"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    order = None if "t,o" in text or '"t"' in text else ("t", "o", "h", "l", "c", "v")
    readers = [
        lambda p: [read_csv(p, columns=order)],
        lambda p: list(stream_csv(p, columns=order)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textfile, "STEP", step)
        quick = [outcome(read, path) for read in readers]
        patch.setattr(csvfile, "read_quick", lambda *_, **__: None)
        slow = [outcome(read, path) for read in readers]
    assert quick == slow


@pytest.mark.parametrize("form", ["{0}", "{0}.125", "{1}", "{1}Z", "{1}.000000000-04:00"])
def test_plain_rows_need_no_other_reader(tmp_path, monkeypatch, form):
    path = tmp_path / "bars.csv"
    times = [form.format(60_000 * n, np.datetime64(60 * n, "s")) for n in range(5000)]
    lines = [f"{times[n]},{n}.5,{n}.75,{n}.25,{n}.5,1e-06" for n in range(1, 5000)]
    path.write_text("timestamp,open,high,low,close,volume\n" + "\n".join(lines))

    def refused(*_, **__):
        raise AssertionError("the slow reader was asked")

    monkeypatch.setattr(csvfile._Reader, "_by_pyarrow", refused)
    monkeypatch.setattr(csvfile, "read_plain", refused)
    monkeypatch.setattr(textfile, "STEP", 10_000)
    assert len(read_csv(path)) == 4999
    tables = list(stream_csv(path))
    assert len(tables) > 10
    assert sum(len(table) for table in tables) == 4999
    rows = np.concatenate([table.row_of for table in tables])
    assert np.array_equal(rows, np.arange(2, 5001))


@st.composite
def numbered(draw):
    """A file whose rows say in which line of it they stand, and those lines."""
    blanks = st.sampled_from([0, 0, 0, 1, 2])
    lines = [""] * draw(blanks)
    if draw(st.booleans()):
        lines += ["t,o,h,l,c,v"] + [""] * draw(blanks)
    rows = []
    time = draw(st.sampled_from(["{}", "{}.5", "2024-01-31T10:00:{:02d}Z"]))
    for _ in range(draw(st.integers(1, 30))):
        rows.append(len(lines) + 1)
        volume = draw(
            st.sampled_from(["1", "1", "1", "+1"])
        )  # the kernel leaves this one to others
        cells = (time.format(len(rows)), rows[-1], 900, 0.5, rows[-1], volume)
        lines += [",".join(map(str, cells))] + [""] * draw(blanks)
    ends = draw(st.sampled_from(["\n", "\r\n", "\r", "mixed"]))
    mixed = st.sampled_from(["\n", "\r\n"]) if ends == "mixed" else st.just(ends)
    text = "".join(line + draw(mixed) for line in lines)
    return draw(st.sampled_from(["", "\ufeff"])) + text, rows


@given(numbered(), st.integers(1, 400))
@example(("\ufeff\nt,o,h,l,c,v\n1,3,900,0.5,3,1\n", [3]), 400)
@example(("t,o,h,l,c,v\n1,2,9,1,2,1\r2,3,9,1,3,1\n\r\r3,6,9,1,6,1\n4,7,9,1,7,1", [2, 3, 6, 7]), 1)
def test_every_reader_counts_the_lines_of_the_file(tmp_path_factory, file, step):
    text, lines = file
    path = tmp_path_factory.mktemp("lines") / "bars.csv"
    path.write_bytes(text.encode())
    order = None if "t,o" in text else ("t", "o", "h", "l", "c", "v")
    for left_to in ("kernel", "pyarrow", "csv"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(textfile, "STEP", max(step, len(text.partition("v")[0]) + 60))
            if left_to != "kernel":
                patch.setattr(csvfile, "read_quick", lambda *_, **__: None)
            if left_to == "csv":
                patch.setattr(csvfile, "table_engine", lambda: "csv")
            for tables in ([read_csv(path, columns=order)], list(stream_csv(path, columns=order))):
                found = [row for table in tables for row in table.row_of.tolist()]
                stood = [row for table in tables for row in table.numbers["open"].tolist()]
                assert found == stood == lines


@pytest.mark.parametrize("start", ["\ufeff", "\n", "\ufeff\n", "\r\n\r\n", "\ufeff\r\r"])
def test_errors_of_the_header_name_its_line(tmp_path, start):
    path = tmp_path / "bars.csv"
    line = len(start.removeprefix("\ufeff").splitlines()) + 1
    path.write_bytes(
        (start + "t,o,h,l,c\n1,2,3,4,5\n").replace("\n", "\r" * ("\r\r" in start) or "\n").encode()
    )
    for read in (read_csv, lambda path: list(stream_csv(path))):
        with pytest.raises(
            DataError, match=f"bars.csv, row {line}: the columns volume are missing"
        ):
            read(path)


def test_a_damaged_file_is_reported_as_one_whatever_its_rows_have_become(tmp_path, monkeypatch):
    monkeypatch.setattr(textfile, "STEP", 200)
    rows = "".join(f"{n},2,3,1,2,1\n" for n in range(1, 2000))
    packed = bytearray(gzip.compress(("t,o,h,l,c,v\n1,2\n" + rows).encode()))
    path = tmp_path / "bars.csv.gz"
    path.write_bytes(packed)
    with pytest.raises(DataError, match="row 2: every row must have 6 columns"):
        read_csv(path)
    packed[-6] ^= 1  # of its checksum
    path.write_bytes(packed)
    with pytest.raises(DataError, match="cannot be read: .*incorrect data check"):
        read_csv(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_line_of_an_open_quote_is_named(tmp_path, end):
    path = tmp_path / "quoted.csv"
    lines = [
        "timestamp,open,high,low,close,volume",
        "60,1,1,1,1,1",
        '120,1,"1,1,1,1',
        "180,1,1,1,1,1",
    ]
    path.write_bytes(end.join([*lines, ""]).encode())
    with pytest.raises(DataError, match="row 3: a quote must be closed"):
        read_csv(path)
