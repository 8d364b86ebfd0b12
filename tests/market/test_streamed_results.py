"""What is computed of files chunk by chunk equals what the whole market in memory gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.backtest.streaming import CORE_INDICATORS, StreamingDataProcessor
from ares.core.errors import DataError
from ares.market.bars import check_bars
from ares.market.files import load_bars, read_raw
from ares.market.raw import COLUMNS, RawBars
from ares.market.resample import Resampler, resample
from ares.market.streaming import rechunked
from ares.search.frames import technical_indicators

BITFINEX = "timestamp,open,close,high,low,volume"
NAMES = {"symbol": "S", "exchange": "e"}
YEAR_END = 1_609_459_200


@st.composite
def market_files(draw):
    """A frame of possible bars over a year's end, some minutes missing, some prices wild."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 400))
    keep = rng.random(n) < draw(st.sampled_from([0.3, 0.95, 1.0]))
    keep[0] = True
    times = (YEAR_END + 60 * (np.arange(n) - n // 2))[keep]
    four = np.sort(rng.integers(9_000, 11_000, (len(times), 4)), axis=1)
    four = four / 10.0 ** draw(st.integers(0, 4))
    if draw(st.booleans()):
        four[rng.integers(0, len(four))] *= 5
    if draw(st.booleans()):
        four *= np.pi  # no number of decimals
    volume = rng.integers(0, 5_000, len(times)) / 10.0 ** draw(st.integers(0, 3))
    frame = pd.DataFrame(
        {"timestamp": times, "open": four[:, 1], "high": four[:, 3], "low": four[:, 0]}
    )
    return frame.assign(close=four[:, 2], volume=volume)


def report_at_once(path, columns=None):
    """The report of the same door on all rows in memory."""
    _, report = check_bars(read_raw(path, columns=columns), timeframe="1m", strict=False, **NAMES)
    return report


def written(folder, frame, kind):
    path = folder / f"a.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "feather":
        frame.to_feather(path)
    else:
        frame.to_csv(path, index=False)
    return path


def assert_bars(chunks, bars, size):
    assert {len(chunk) for chunk in chunks[:-1]} <= {size}
    assert sum(len(chunk) for chunk in chunks) == len(bars)
    if not chunks:
        return
    frame = pd.concat(chunks, ignore_index=True)
    times = frame["timestamp"].dt.tz_localize(None).to_numpy().astype("M8[ns]").view("i8")
    assert times.tobytes() == bars.timestamp.tobytes()
    for name in COLUMNS[1:]:
        assert frame[name].to_numpy().tobytes() == getattr(bars, name).tobytes()


@settings(max_examples=25)
@given(
    frame=market_files(),
    size=st.sampled_from([1, 2, 7, 50, 10_000]),
    kind=st.sampled_from(["csv", "csv.gz", "parquet", "feather"]),
    to=st.sampled_from(["3m", "15m", "1h"]),
)
def test_bars_resampling_indicators_and_report_equal_those_of_the_whole(
    tmp_path_factory, frame, size, kind, to
):
    path = written(tmp_path_factory.mktemp("files"), frame, kind)
    processor = StreamingDataProcessor(size)
    bars = load_bars(path, timeframe="1m", **NAMES)
    assert processor.quality(path, timeframe="1m") == bars.quality
    assert_bars(list(processor.bars(path, timeframe="1m")), bars, size)
    coarse = resample(bars, to)
    assert_bars(list(processor.resample(path, to, timeframe="1m")), coarse, size)
    chunks = list(processor.indicators(path, timeframe="1m"))
    assert_bars(chunks, bars, size)
    found = pd.concat(chunks, ignore_index=True)
    expected = technical_indicators(bars)
    assert set(CORE_INDICATORS) == set(expected)
    for name, values in expected.items():
        assert found[name].to_numpy().tobytes() == values.tobytes(), name


@pytest.mark.parametrize("size", [1_000, 65_537])
def test_a_real_year_streams_into_parquet_as_it_is_in_memory(shared_data, tmp_path, size):
    path = shared_data / "bitfinex_ETHUSD_1m_2016.csv.gz"
    processor = StreamingDataProcessor(size, columns=BITFINEX)
    bars = load_bars(path, timeframe="1m", columns=BITFINEX, **NAMES)
    assert processor.quality(path) == report_at_once(path, columns=BITFINEX)
    coarse = resample(bars, "15m")
    rows = processor.resample_to_parquet(path, tmp_path / "coarse.parquet", "15m")
    assert rows == len(coarse)
    assert_bars([pd.read_parquet(tmp_path / "coarse.parquet")], coarse, rows)
    rows = processor.indicators_to_parquet(path, tmp_path / "indicators.parquet")
    frame = pd.read_parquet(tmp_path / "indicators.parquet")
    assert_bars([frame], bars, rows)
    for name, values in technical_indicators(bars).items():
        assert frame[name].to_numpy().tobytes() == values.tobytes(), name


@given(frame=market_files(), data=st.data())
def test_a_resampler_gives_the_same_however_its_bars_are_cut(frame, data):
    raw = RawBars(
        *(frame[name].to_numpy() * (10**9 if name == "timestamp" else 1) for name in COLUMNS)
    )
    bars, _ = check_bars(raw, timeframe="1m", bad_prints="keep", **NAMES)
    cuts = data.draw(st.lists(st.integers(0, len(bars)), max_size=8).map(sorted))
    if data.draw(st.booleans()):
        cuts = list(range(len(bars) + 1))
    to = data.draw(st.sampled_from(["3m", "15m", "4h"]))
    resampler = Resampler("1m", to)
    parts = [
        resampler.push({n: getattr(bars, n)[a:b] for n in COLUMNS})
        for a, b in zip([0, *cuts], [*cuts, len(bars)], strict=True)
    ]
    parts.append(resampler.finish())
    whole = resample(bars, to)
    for name in COLUMNS:
        joined = np.concatenate([part[name] for part in parts])
        assert joined.tobytes() == getattr(whole, name).tobytes()


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 50))
def test_chunks_have_one_size_and_hold_every_row(lengths, size):
    values = np.arange(sum(lengths))
    pieces = [{"timestamp": part} for part in np.split(values, np.cumsum(lengths)[:-1])]
    chunks = [chunk["timestamp"] for chunk in rechunked(pieces, size)]
    assert np.concatenate([np.zeros(0, int), *chunks]).tolist() == values.tolist()
    assert {len(chunk) for chunk in chunks[:-1]} <= {size}
    assert all(len(chunk) <= size for chunk in chunks)


def test_the_timeframe_of_a_report_is_what_all_rows_show(tmp_path):
    """The first rows are five minutes apart, most of the others one."""
    times = [YEAR_END + 300 * n for n in range(30_000)]
    times += [times[-1] + 60 * n for n in range(1, 60_000)]
    rows = "".join(f"{t},5,6,4,5,1\n" for t in times)
    path = tmp_path / "a.csv"
    path.write_text("timestamp,open,high,low,close,volume\n" + rows)
    report = StreamingDataProcessor().quality(path)
    assert report == report_at_once(path)
    assert report.missing_bars == 4 * 29_999
    (tmp_path / "b.csv").write_text(f"timestamp,open,high,low,close,volume\n{YEAR_END},5,6,4,5,1\n")
    with pytest.raises(DataError, match="only seen between two rows"):
        StreamingDataProcessor().quality(tmp_path / "b.csv")


def test_finer_bars_are_not_invented_of_a_file(tmp_path):
    path = written(tmp_path, pd.DataFrame(
        {"timestamp": [YEAR_END, YEAR_END + 300], "open": 5.0, "high": 6.0, "low": 4.0, "close": 5.0, "volume": 1.0}
    ), "csv")  # fmt: skip
    with pytest.raises(DataError, match="multiples of their timeframe 5m"):
        list(StreamingDataProcessor().resample(path, "1m"))
