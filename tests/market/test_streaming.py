"""Chunks joined are what reading at once gives, and reading in chunks takes no memory."""

from __future__ import annotations

import gzip
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest.streaming import StreamingDataProcessor
from ares.core.errors import ConfigError, DataError, StoreError
from ares.market.files import load_bars, read_raw
from ares.market.streaming import seen_timeframe

BITFINEX = "timestamp,open,close,high,low,volume"
HEADER = "timestamp,open,high,low,close,volume\n"
COLUMNS = ("open", "high", "low", "close", "volume")


def assert_rows(frame, raw):
    assert np.array_equal(
        frame["timestamp"].dt.tz_localize(None).to_numpy().astype("M8[ns]").view("i8"),
        raw.timestamp,
    )
    for name in COLUMNS:
        assert np.array_equal(frame[name], getattr(raw, name), equal_nan=True)


@pytest.mark.parametrize("size", [1_000, 10_000, 65_537, 10**6])
def test_a_real_csv_streams_as_it_reads(shared_data, size):
    path = shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz"
    raw = read_raw(path, columns=BITFINEX)
    for columns in (BITFINEX, None):
        if columns is None and size != 10_000:
            continue
        chunks = list(StreamingDataProcessor(size, columns=columns).iter_chunks(path))
        assert [len(c) for c in chunks[:-1]] == [size] * (len(chunks) - 1)
        assert_rows(pd.concat(chunks), raw)


def test_the_real_feather_file_streams_as_it_reads(shared_data):
    path = shared_data / "binance_ADA_BTC_5m_2018-01.feather"
    assert_rows(StreamingDataProcessor(777).process_data_stream(path), read_raw(path))


def test_the_first_rows_show_the_timeframe(shared_data, tmp_path):
    assert seen_timeframe(shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz", columns=BITFINEX) == "1m"
    assert seen_timeframe(shared_data / "binance_ADA_BTC_5m_2018-01.feather") == "5m"
    one = tmp_path / "one.csv"
    one.write_text(HEADER + "1600000020,5,6,4,5,1\n")
    with pytest.raises(DataError, match="Name it: --timeframe 1m"):
        seen_timeframe(one)
    none = tmp_path / "none.parquet"
    pd.DataFrame({c: [] for c in HEADER.strip().split(",")}, dtype=float).to_parquet(none)
    with pytest.raises(DataError, match="none.parquet: the file holds no rows"):
        seen_timeframe(none)


@given(rows=st.integers(1, 60), size=st.integers(1, 70), packed=st.booleans(), blank=st.booleans())
def test_any_chunk_size(tmp_path_factory, rows, size, packed, blank):
    text = HEADER + "".join(f"{1_600_000_020 + 60 * n},5,6,4,{n + 1}.5,{n}\n" for n in range(rows))
    if blank:
        text = text.replace("6,4,1.5,0\n", "6,4,1.5,0\n\n").rstrip("\n")
    path = tmp_path_factory.mktemp("stream") / "a.csv"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    processor = StreamingDataProcessor(size)
    chunks = list(processor.iter_chunks(path))
    assert sum(len(c) for c in chunks) == rows
    assert {len(c) for c in chunks[:-1]} <= {size}
    assert_rows(processor.process_data_stream(path), read_raw(path))


def test_a_stream_to_parquet_holds_the_same_bars(shared_data, tmp_path):
    market = {"symbol": "ETHUSD", "exchange": "bitfinex", "timeframe": "1m"}
    source = shared_data / "bitfinex_ETHUSD_1m_2016.csv.gz"
    processor = StreamingDataProcessor(columns=BITFINEX)
    assert processor.to_parquet(source, tmp_path / "a.parquet") == 85_818
    assert load_bars(tmp_path / "a.parquet", **market) == load_bars(
        source, columns=BITFINEX, **market
    )
    again = StreamingDataProcessor(10_000).process_data_stream(tmp_path / "a.parquet")
    assert_rows(again, read_raw(source, columns=BITFINEX))


def test_a_fault_late_in_the_file_is_found_and_nothing_is_written(tmp_path):
    lines = [f"{1_600_000_020 + 60 * n},5,6,4,5,1\n" for n in range(200_000)]
    lines[150_000] = "1,2,3\n"
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "".join(lines))
    processor = StreamingDataProcessor()
    chunks = processor.iter_chunks(path)
    assert len(next(chunks)) == 10_000
    with pytest.raises(DataError, match="row 150002"):
        processor.process_data_stream(path)
    with pytest.raises(DataError, match="row 150002"):
        processor.to_parquet(path, tmp_path / "a.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_units_that_change_far_into_the_file_are_found(tmp_path):
    lines = [f"{1_600_000_020 + 60 * n},5,6,4,5,1\n" for n in range(300_000)]
    lines[250_000:] = [f"{1_600_000_020 + 60 * n}000,5,6,4,5,1\n" for n in range(250_000, 300_000)]
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "".join(lines))
    for read in (StreamingDataProcessor().process_data_stream, read_raw):
        with pytest.raises(DataError, match="unit"):
            read(path)


def test_text_in_a_cell_is_nan_in_a_stream_as_in_a_reading(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "1600000020,5,6,x,5,1\n,5,6,4,5,1\n1600000140,5,6,4,5,\n")
    assert_rows(StreamingDataProcessor(2).process_data_stream(path), read_raw(path))


def test_what_cannot_be_streamed(tmp_path):
    with pytest.raises(ConfigError, match="chunk_size"):
        StreamingDataProcessor(0)
    with pytest.raises(DataError, match="must exist"):
        next(StreamingDataProcessor().iter_chunks(tmp_path / "absent.csv"))
    for name, content in (("a.csv", b""), ("b.csv", HEADER.encode()), ("c.csv", b"x" * 100_000)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            list(StreamingDataProcessor().iter_chunks(tmp_path / name))
    (tmp_path / "d.csv").write_text(HEADER + "1600000020,5,6,4,5,1\n")
    with pytest.raises(StoreError):
        StreamingDataProcessor().to_parquet(tmp_path / "d.csv", tmp_path / "d.csv" / "x.parquet")


_CHILD = """
import resource, sys
from ares.backtest.streaming import StreamingDataProcessor
from ares.market.streaming import seen_timeframe
processor = StreamingDataProcessor()
processor.to_parquet(sys.argv[1], sys.argv[3])  # imports and warms up
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = processor.to_parquet(sys.argv[2], sys.argv[3])
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    block = "".join(
        f"{1_600_000_020 + 60 * n},5.5,6.5,4.5,5.25,{n % 97}.5\n" for n in range(100_000)
    )
    for name, times in (("small", 3), ("large", 20)):
        with gzip.open(tmp_path / f"{name}.csv.gz", "wt", compresslevel=1) as file:
            file.write(HEADER)
            for _ in range(times):
                file.write(block)
    paths = [str(tmp_path / f"{name}.csv.gz") for name in ("small", "large")]
    command = [sys.executable, "-c", _CHILD, *paths, str(tmp_path / "out.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, grown = (int(n) for n in done.stdout.split())
    assert rows == 2_000_000
    assert grown < 48 << 20  # the rows alone are 96 MB as arrays
