"""Parquet and Feather files: real ones, spellings of types, and hostile ones."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.core.errors import AresError, DataError
from ares.market.files import load_bars, read_raw
from ares.market.stored.rows import raw_chunks

MARKET = {"symbol": "ADA/BTC", "exchange": "binance", "timeframe": "5m"}
START = 1_600_000_200


def frame(rows=50):
    close = 10 + np.arange(rows) / 8
    times = pd.to_datetime(START + 300 * np.arange(rows), unit="s", utc=True)
    columns = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": close}
    return pd.DataFrame({"timestamp": times, **columns})


def parquet(path, df, **options):
    df.to_parquet(path, **options)
    return path


def test_the_real_feather_file_reads_as_pandas_reads_it(shared_data):
    path = shared_data / "binance_ADA_BTC_5m_2018-01.feather"
    bars = load_bars(path, **MARKET)
    expected = pd.read_feather(path)
    assert len(bars) == len(expected) == 5720
    assert np.array_equal(
        bars.timestamp, expected["date"].astype("datetime64[ns, UTC]").astype("int64")
    )
    for name in ("open", "high", "low", "close", "volume"):
        assert np.array_equal(getattr(bars, name), expected[name])


def test_parquet_and_feather_of_one_frame_are_one_market(tmp_path):
    df = frame()
    df.to_feather(tmp_path / "bars.feather")
    expected = load_bars(parquet(tmp_path / "bars.parquet", df), **MARKET)
    assert load_bars(tmp_path / "bars.feather", **MARKET) == expected
    (tmp_path / "bars.parquet").rename(tmp_path / "bars.dat")
    assert load_bars(tmp_path / "bars.dat", **MARKET) == expected


SPELLINGS = {
    "naive": lambda t: t.dt.tz_localize(None),
    "zoned": lambda t: t.dt.tz_convert("Asia/Tokyo"),
    "seconds": lambda t: t.astype("datetime64[s, UTC]"),
    "int64 ms": lambda t: t.astype("datetime64[ms, UTC]").astype("int64"),
    "float s": lambda t: t.astype("datetime64[s, UTC]").astype("int64").astype("float64"),
    "text": lambda t: t.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "naive text": lambda t: t.dt.strftime("%Y-%m-%d %H:%M:%S"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_times_of_any_type(tmp_path, spelling):
    df = frame()
    expected = load_bars(parquet(tmp_path / "a.parquet", df), **MARKET)
    df["timestamp"] = SPELLINGS[spelling](df["timestamp"])
    assert load_bars(parquet(tmp_path / "b.parquet", df), **MARKET) == expected


def test_times_in_the_index_and_declared_orders(tmp_path):
    df = frame()
    expected = load_bars(parquet(tmp_path / "a.parquet", df), **MARKET)
    assert (
        load_bars(parquet(tmp_path / "b.parquet", df.set_index("timestamp")), **MARKET) == expected
    )
    indexed = df.set_index("timestamp").rename_axis(None)
    assert load_bars(parquet(tmp_path / "c.parquet", indexed), **MARKET) == expected
    df.columns = list("abcdef")
    declared = "timestamp,open,high,low,close,volume"
    renamed = parquet(tmp_path / "d.parquet", df)
    assert load_bars(renamed, columns=declared, **MARKET) == expected
    with pytest.raises(DataError, match="missing"):
        load_bars(renamed, **MARKET)
    with pytest.raises(DataError, match="7 columns are declared"):
        load_bars(renamed, columns=declared + ",spare", **MARKET)


@pytest.mark.parametrize("kind", ["parquet", "feather"])
@given(order=st.permutations(["open", "high", "low", "close", "volume"]), spare=st.integers(0, 6))
def test_a_declaration_that_contradicts_the_names_of_a_file_is_refused(
    tmp_path_factory, kind, order, spare
):
    """High and low in each other's place were read without a word where no row betrayed it."""
    df = frame()
    df.insert(spare, "spare", 1.0)
    path = tmp_path_factory.mktemp("named") / f"a.{kind}"
    getattr(df, f"to_{kind}")(path)
    declared = ["timestamp", *order]
    declared.insert(spare, "whatever")
    names = [name for name in df.columns if name != "spare"]
    assert names == ["timestamp", "open", "high", "low", "close", "volume"]
    if ["timestamp", *order] == names:
        assert load_bars(path, columns=declared, **MARKET) == load_bars(path, **MARKET)
        return
    first = next(a for a, b in zip(names[1:], order, strict=True) if a != b)
    with pytest.raises(DataError, match=f"a column of {first}, which is declared as") as caught:
        load_bars(path, columns=declared, **MARKET)
    assert "Leave --columns away" in str(caught.value)
    with pytest.raises(DataError, match="which is declared as"):
        list(raw_chunks(path, columns=tuple(declared)))


BAD_COLUMNS = {
    "nested": [[1.0]] * 50,
    "text": ["10.5"] * 50,
    "booleans": [True] * 50,
    "dictionary": pa.array(["1"] * 50).dictionary_encode(),
}


@pytest.mark.parametrize("kind", BAD_COLUMNS)
def test_a_price_of_another_type_is_refused(tmp_path, kind):
    table = pa.Table.from_pandas(frame())
    table = table.set_column(
        4,
        "close",
        pa.array(BAD_COLUMNS[kind]) if isinstance(BAD_COLUMNS[kind], list) else BAD_COLUMNS[kind],
    )
    pq.write_table(table, tmp_path / "bars.parquet")
    pf.write_feather(table, tmp_path / "bars.feather")
    for name in ("bars.parquet", "bars.feather"):
        with pytest.raises(DataError, match=r"column close.*plain numbers|flat"):
            load_bars(tmp_path / name, **MARKET)


def test_empty_cells_are_refused_by_row(tmp_path):
    df = frame()
    df.loc[3, "low"] = np.nan
    with pytest.raises(DataError, match="row 4, column low"):
        load_bars(parquet(tmp_path / "a.parquet", df), **MARKET)
    df = frame()
    df.loc[3, "timestamp"] = pd.NaT
    with pytest.raises(DataError, match="row 4, column timestamp"):
        load_bars(parquet(tmp_path / "b.parquet", df), **MARKET)


def test_no_rows_and_no_file_inside(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        load_bars(parquet(tmp_path / "a.parquet", frame(0)), **MARKET)
    for name, content in (
        ("b.parquet", b"junk" * 9),
        ("c.feather", b"junk" * 9),
        ("d.parquet", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="no Parquet|no Feather|empty"):
            load_bars(tmp_path / name, **MARKET)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_cut_files_are_refused(tmp_path, share):
    df = frame(500)
    whole = {"a.parquet": tmp_path / "a.parquet", "b.feather": tmp_path / "b.feather"}
    df.to_parquet(whole["a.parquet"])
    df.to_feather(whole["b.feather"])
    for name, path in whole.items():
        data = path.read_bytes()
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError) as caught:
            load_bars(cut, **MARKET)
        assert str(cut) in str(caught.value)


def test_a_tiny_file_of_a_billion_rows_is_refused_at_once(tmp_path):
    rows = 20_000_000
    constant = pa.array(np.full(1, 5.0)).take(pa.array(np.zeros(rows, dtype=np.int8)))
    table = pa.table(
        {
            "timestamp": pa.array(np.full(rows, START)),
            **dict.fromkeys(("open", "high", "low", "close", "volume"), constant),
        }
    )
    path = tmp_path / "bomb.parquet"
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 1_000_000
    begun = time.monotonic()
    with pytest.raises(DataError, match="expand 200-fold"):
        load_bars(path, **MARKET)
    assert time.monotonic() - begun < 2


def test_a_file_of_too_many_columns_is_refused(tmp_path):
    table = pa.table({f"c{n}": [1.0] for n in range(3000)})
    pq.write_table(table, tmp_path / "wide.parquet")
    pf.write_feather(table, tmp_path / "wide.feather")
    for name in ("wide.parquet", "wide.feather"):
        with pytest.raises(DataError, match="256 columns"):
            load_bars(tmp_path / name, **MARKET)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["parquet", "feather"]),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    tail=st.booleans(),
)
def test_damaged_files_are_refused_or_read_but_never_crash(tmp_path_factory, kind, edits, tail):
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / f"bars.{kind}"
    df = frame(200)
    df.to_parquet(path) if kind == "parquet" else df.to_feather(path)
    data = bytearray(path.read_bytes())
    for place, byte in edits:
        # Most of the structure lies at the end: footer and offsets.
        span = min(len(data), 1200) if tail else len(data)
        data[len(data) - span + int(place * span)] = byte
    path.write_bytes(bytes(data))
    refused = None
    try:
        raw = read_raw(path)
        load_bars(path, **MARKET)
    except AresError as error:
        refused = error
    if refused is None:
        assert len(raw) >= 1
    else:
        assert refused.exit_code == 2
        assert "\n" not in str(refused)


_MUTATIONS = """
import random, sys
from pathlib import Path
from ares.core.errors import AresError
from ares.market.files import read_raw
path = Path(sys.argv[1])
data = path.read_bytes()
draw = random.Random(1)
for _ in range(1000):
    damaged = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(damaged))
        damaged[place] = draw.choice([0xFF, 0x7F, 0xFE, draw.randrange(256)])
    path.write_bytes(damaged)
    try:
        read_raw(path)
    except AresError:
        pass
print("alive")
"""


def test_no_damage_of_a_parquet_file_aborts_the_process(tmp_path):
    # pyarrow 26 calls std::terminate when asked for a column chunk whose statistics lie.
    columns = dict.fromkeys(("open", "high", "low", "close", "volume"), [5.0] * 30)
    table = pa.table({"timestamp": [(START + 300 * n) * 10**9 for n in range(30)], **columns})
    path = tmp_path / "bars.parquet"
    pq.write_table(table, path)
    command = [sys.executable, "-c", _MUTATIONS, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-500:]


def test_a_date_beside_a_time_of_day_is_refused(tmp_path):
    table = pa.table(
        {
            "date": pa.array([dt.date(2024, 1, 31)] * 3),
            "time": pa.array([dt.time(23, 58)] * 3),
            **dict.fromkeys(("open", "high", "low", "close", "volume"), pa.array([1.0] * 3)),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="must stand in one column; got 'date32.day., time64.us.'"):
        read_raw(tmp_path / "a.parquet")
