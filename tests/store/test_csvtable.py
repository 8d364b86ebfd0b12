"""Frames as gzipped CSV: any program reads the text, `csvtable.read` the frame as it was."""

from __future__ import annotations

import csv
import gzip
import json
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ares.core.errors import DataError
from ares.store import csvtable

KINDS = ["int8", "uint16", "int64", "uint64", "float32", "float64", "bool"]
TIMES = ["datetime64[ns]", "datetime64[s]", "timedelta64[ns]"]


@st.composite
def frames(draw):
    rows = draw(st.integers(0, 6))
    columns = {}
    for kind in draw(st.lists(st.sampled_from(KINDS + TIMES), max_size=4)):
        columns[f"{kind} {len(columns)}"] = draw(hnp.arrays(kind, rows))
    for kind in draw(st.lists(st.sampled_from(["object", "str", "category", "zoned"]), max_size=3)):
        if kind == "zoned":
            stamps = draw(hnp.arrays("datetime64[ns]", rows))
            column = pd.Series(pd.DatetimeIndex(stamps, tz="UTC").tz_convert("Asia/Tokyo"))
        elif kind == "category":
            code = st.sampled_from(["\\N", "a,b", "", None])
            cells = draw(st.lists(code, min_size=rows, max_size=rows))
            column = pd.Series(pd.Categorical(cells, categories=["", "a,b", "\\N"]))
        else:
            missing = st.sampled_from([None, np.nan, pd.NA] if kind == "object" else [np.nan])
            text = st.text(alphabet=st.characters(codec="utf-8"), max_size=6)
            values = st.one_of(text, missing, st.sampled_from(["\\N", "\\", '"', "\r", "a\nb"]))
            column = pd.Series(draw(st.lists(values, min_size=rows, max_size=rows)), dtype=kind)
        columns[f"{kind} {len(columns)}"] = column
    frame = pd.DataFrame(columns, index=pd.RangeIndex(5, 5 + rows, name="n"))
    labels = draw(hnp.arrays("int64", rows))
    return frame if draw(st.booleans()) else frame.set_index(pd.Index(labels, name="key"))


@given(frames())
def test_any_frame_comes_back_as_it_was(tmp_path_factory, frame):
    path = tmp_path_factory.mktemp("table") / "a.csv.gz"
    path.write_bytes(csvtable.encode(frame, {"note": "x"}))
    back, notes = csvtable.read(path)
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert notes == {"note": "x"}
    for name in frame.columns:
        if frame[name].dtype.kind == "f":
            known = frame[name].notna()
            width = f"u{frame[name].dtype.itemsize}"
            assert np.array_equal(
                back[name][known].to_numpy().view(width), frame[name][known].to_numpy().view(width)
            )
        if frame[name].dtype == object:
            assert [type(v) for v in back[name]] == [type(v) for v in frame[name]]


def test_any_program_reads_it_as_plain_csv(tmp_path):
    frame = pd.DataFrame(
        {
            "time": pd.date_range("2020", periods=2, tz="UTC"),
            "x": [5.2e-05, 0.1 + 0.2],
            "s": ["a", "b"],
        }
    )
    path = tmp_path / "a.csv.gz"
    path.write_bytes(csvtable.encode(frame, {}))
    assert path.read_bytes() == csvtable.encode(frame, {})
    with gzip.open(path, "rt", newline="") as text:
        rows = list(csv.reader(text))
    assert rows == [
        ["time", "x", "s"],
        ["2020-01-01T00:00:00.000000Z", "5.2e-05", "a"],
        ["2020-01-02T00:00:00.000000Z", "0.30000000000000004", "b"],
    ]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}),
        pd.DataFrame({"a": [1 + 2j]}),
        pd.DataFrame({"a": ["x", 1]}),
        pd.DataFrame({"a": ["x" * 100_001]}),
        pd.DataFrame({("a", 1): [1]}),
        pd.DataFrame({pd.Timestamp("2020"): [1]}),
    ],
)
def test_what_csv_cannot_keep_is_refused(frame):
    with pytest.raises(DataError):
        csvtable.encode(frame, {})


def damaged(note_of):
    """A table whose text is `a` over 1 and 2, with its note changed."""
    data = csvtable.encode(pd.DataFrame({"a": [1, 2]}), {})
    head, _, body = data.partition(b"\0\0\0\0\0\xff")
    note, _, body = body.partition(b"\0")
    changed = note_of(json.loads(note))
    return head + b"\0\0\0\0\0\xff" + json.dumps(changed).encode() + b"\0" + body


@pytest.mark.parametrize(
    "note_of",
    [
        lambda note: note | {"rows": 3},
        lambda note: note | {"columns": []},
        lambda note: note | {"columns": [{"as": "array", "dtype": "i1x"}]},
        lambda note: note | {"columns": [{"as": "category", "known": [], "categories": {}}]},
        lambda note: note | {"index": None},
        lambda note: note | {"labels": [["a", "b"], "str", None]},
        lambda note: {"kind": note["kind"]},
        lambda note: {"kind": "another"},
        lambda _: [],
    ],
)
def test_a_note_that_does_not_fit_is_a_clear_error(tmp_path, note_of):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(damaged(note_of))
    with pytest.raises(DataError, match="a.csv.gz"):
        csvtable.read(path)


@given(st.data())
def test_a_changed_byte_is_a_clear_error_or_changes_nothing(tmp_path_factory, data):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    body = bytearray(csvtable.encode(frame, {}))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("table") / "a.csv.gz"
    path.write_bytes(bytes(body[: data.draw(st.integers(0, len(body)))]))
    try:
        csvtable.read(path)
    except DataError:
        return


def test_a_bomb_is_refused(tmp_path):
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    good = csvtable.encode(pd.DataFrame({"a": [1]}), {})
    comment_end = good.index(b"\0", 10)
    text = b"a\r\n" + (b",".join([b"1" * 100_000] * 10) + b"\r\n") * 70
    body = deflate.compress(text) + deflate.flush()
    path = tmp_path / "a.csv.gz"
    path.write_bytes(good[: comment_end + 1] + body)
    with pytest.raises(DataError, match="expand"):
        csvtable.read(path)
    body = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(good[: comment_end + 1] + body.compress(b"1" * (5 << 20)) + body.flush())
    with pytest.raises(DataError, match="line"):
        csvtable.read(path)
