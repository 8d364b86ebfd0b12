"""Parquet parts: what is written is what is read, in the encoding that pays, without pandas."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ares.market.stored.encoding import decoded, joined, table_of, write_options
from ares.market.stored.partitions import _gaps_within


def encoded(columns):
    sink = pa.BufferOutputStream()
    pq.write_table(table_of(columns), sink, **write_options(columns))
    return sink.getvalue()


@given(st.integers(0, 300), st.data())
def test_columns_come_back_bit_for_bit(rows, data):
    kinds = {"timestamp": np.int64, "open": np.float64, "volume": np.float64}
    named = {name: data.draw(arrays(kind, rows)) for name, kind in kinds.items()}
    back = decoded(pa.BufferReader(encoded(named)), ["volume", "timestamp"])
    assert list(back) == ["volume", "timestamp"]
    for name, chunks in back.items():
        assert joined(chunks).dtype == named[name].dtype
        assert joined(chunks).tobytes() == named[name].tobytes()


def test_row_groups_are_joined_in_order():
    sink = pa.BufferOutputStream()
    values = np.arange(100) * 0.5
    pq.write_table(pa.table({"open": values}), sink, row_group_size=30)
    chunks = decoded(pa.BufferReader(sink.getvalue()), ["open"])["open"]
    assert joined(chunks).tolist() == values.tolist()


@pytest.mark.parametrize("values", [[1.0, None], ["a"], [1]])
def test_a_column_that_is_none_of_bars_is_refused(values):
    sink = pa.BufferOutputStream()
    kind = pa.int32() if values == [1] else None
    pq.write_table(pa.table({"open": pa.array(values, kind)}), sink)
    with pytest.raises(ValueError, match="column of bars"):
        decoded(pa.BufferReader(sink.getvalue()), ["open"])


@pytest.mark.parametrize("distinct", [1, 100, 2_000, 8_000, 60_000])
@pytest.mark.parametrize("scale", [1.0, 0.01, 1e-7])
def test_a_dictionary_is_kept_of_prices_that_repeat(distinct, scale):
    """At a fifth of the rows distinct there is one, at three fifths none; the smaller file wins."""
    rows = 10_000 if distinct < 60_000 else 100_000
    share = distinct / rows
    prices = np.random.default_rng(distinct).permutation(np.arange(rows) % distinct + 1) * scale
    data = encoded({"open": prices})
    found = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(0)
    assert ("RLE_DICTIONARY" in found.encodings) == (share < 0.5)
    if share < 0.5:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"open": prices}), sink, compression="lz4", use_dictionary=False)
        assert len(data) < len(sink.getvalue()) + 2_000


@given(st.lists(st.sampled_from([1, 1, 1, 2, 5, 60]), min_size=1, max_size=80), st.data())
def test_gaps_of_loaded_bars_are_those_between_two_of_them(steps, data):
    interval = 60 * 10**9
    times = np.cumsum([10**18, *(step * interval for step in steps)])
    wanted = data.draw(st.sets(st.integers(0, len(steps) - 1)))  # a calendar takes some for closed
    every = [n for n in range(len(steps)) if steps[n] > 1]
    holes = sorted(wanted) if data.draw(st.booleans()) else every
    start = data.draw(st.integers(0, len(times) - 1))
    stop = data.draw(st.integers(start + 1, len(times)))
    before, missing = times[:-1][holes], np.array([steps[n] for n in holes], dtype=np.int64)
    found = _gaps_within(times[start:stop], before, missing, interval)
    inside = [n for n in holes if start <= n < stop - 1]
    assert found.tolist() == [[n - start, n - start + 1, steps[n]] for n in inside]


def test_bars_are_imported_and_loaded_without_pandas(tmp_path):
    """It takes a third of a second and 60 MiB that bars on disk need not."""
    path = tmp_path / "bars.csv"
    rows = "".join(f"{60 * n + 1_609_459_200},9,11,8,10,{n % 3}\n" for n in range(500) if n != 77)
    path.write_text("timestamp,open,high,low,close,volume\n" + rows)
    script = f"""
import sys
from pathlib import Path
from ares.market.stored.datasets import import_files, load_dataset
from ares.store.workspace import Workspace
home = Workspace(Path({str(tmp_path / "home")!r}))
market = dict(symbol="A", exchange="b", timeframe="1m")
import_files(home, {str(path)!r}, **market)
assert len(load_dataset(home, *market.values()).gaps) == 1
assert "pandas" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
