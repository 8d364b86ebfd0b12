"""Exchanges that page otherwise than Binance: newest first, newest only, less than one may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ares.core.errors import DataError, OutageError
from ares.market.exchange.download import LoadResult, load
from ares.market.exchange.retry import Retry
from ares.market.exchange.source import Market
from ares.market.files import load_bars
from ares.market.raw import COLUMNS
from ares.market.stored.datasets import load_dataset
from ares.store.workspace import Workspace
from command_line import call_here
from exchange_server import DAY, MINUTE, Fault, synthetic_bars, tree
from more_exchanges import Coinbase, Kraken, Okx, Other

if TYPE_CHECKING:
    from pathlib import Path

START = 1_609_286_400_000  # 2020-12-30, so that years meet
BARS = 3000
QUICK = Retry(base=0.01, cap=0.02)
SYMBOL = "BTC/USD"
ALL = (Kraken, Coinbase, Okx)

ccxt = pytest.importorskip("ccxt")


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt.Exchange, "throttle", lambda *_: None)  # these servers have no limits


def serve(kind: type[Other], bars: np.ndarray, now: int) -> Other:
    return kind({(kind.market_id, "1m"): bars}, now=now)


def with_gaps() -> np.ndarray:
    """Minutes without trades, one run of them longer than a page of OKX."""
    return np.delete(synthetic_bars(BARS, START), np.r_[100:103, 700:1100], axis=0)


def fetch(home: Path, server: Other, timerange: str | None = "20201201-") -> LoadResult:
    asked = Market(SYMBOL, server.exchange, "1m", server.url, 5.0)
    return load(Workspace(home), asked, timerange=timerange, retry=QUICK)


def stored(home: Path, server: Other) -> np.ndarray:
    bars = load_dataset(Workspace(home), SYMBOL, server.exchange, "1m")
    times = bars.timestamp // 1_000_000
    return np.column_stack([times, *(getattr(bars, name) for name in COLUMNS[1:])])


@pytest.mark.parametrize("timerange", ["20201229-", "20201201-", "20201230-20201231"])
@pytest.mark.parametrize("kind", [Coinbase, Okx])
def test_every_closed_bar_arrives_and_only_those_are_absent_that_are(
    tmp_path: Path, kind: type[Other], timerange: str
) -> None:
    bars = with_gaps()
    with serve(kind, bars, int(bars[-1, 0]) + 30_000) as server:
        done = fetch(tmp_path, server, timerange)
        until = START + DAY if timerange.endswith("1231") else bars[-1, 0]
        np.testing.assert_array_equal(stored(tmp_path, server), bars[bars[:, 0] < until])
    assert (done.gaps, done.missing_bars, done.absent) == (2, 403, 403)


def test_kraken_gives_its_newest_bars_and_that_is_said(tmp_path: Path) -> None:
    bars = with_gaps()
    with serve(Kraken, bars, int(bars[-1, 0]) + 30_000) as server:
        done = call_here(
            tmp_path, "load", "--symbol", SYMBOL, "--exchange", "kraken", "--timeframe", "1m",
            "--timerange", "20201230-", home=tmp_path, ARES_DATA__BASE_URL=server.url,
        )  # fmt: skip
        assert done.code == 0, done.err
        assert "0 bars before, 719 now" in done.out
        assert "bars from 2020-12-30T00:00:00Z on, but the exchange sent none before" in done.out
        assert "before 2020-12-31T14:00:00Z: it has no older ones, or gives out its" in done.out
        np.testing.assert_array_equal(stored(tmp_path, server), bars[-720:-1])
        with pytest.raises(DataError, match="newest bars only"):
            fetch(tmp_path / "other", server, "20201230-20201231")
        assert len(server.requests) < 12


def test_a_start_is_not_called_late_where_it_was_not_asked_for(tmp_path: Path) -> None:
    bars = with_gaps()
    with serve(Coinbase, bars, int(bars[-1, 0]) + DAY) as server:
        assert fetch(tmp_path, server, "20201201-").bare_from == "2020-12-01T00:00:00Z"
        assert fetch(tmp_path, server, None).bare_from is None
        assert fetch(tmp_path, server, "20201230-").bare_from is None
        assert fetch(tmp_path / "all", server, None).bare_from is None


def test_a_market_that_is_quiet_for_longer_than_a_page_is_loaded(tmp_path: Path) -> None:
    """Kraken answers with the same last bar for ever: that is no error of the exchange."""
    bars = with_gaps()
    with serve(Kraken, bars, int(bars[-1, 0]) + 2 * DAY) as server:
        done = fetch(tmp_path, server)
        np.testing.assert_array_equal(stored(tmp_path, server), bars[-720:])
        assert done.absent == 0
        assert not fetch(tmp_path, server, None).changed


@pytest.mark.parametrize("kind", ALL)
def test_a_later_load_goes_on_where_the_first_one_ended(tmp_path: Path, kind: type[Other]) -> None:
    bars = with_gaps()
    revised = bars.copy()
    with serve(kind, revised, int(bars[-300, 0]) + 30_000) as server:
        first = fetch(tmp_path, server)
        revised[-303, 5] += 1.0
        server.now = int(bars[-1, 0]) + 2 * MINUTE
        done = fetch(tmp_path, server, None)
        assert (done.added, done.revised) == (300, 1)
        np.testing.assert_array_equal(stored(tmp_path, server), revised[-done.after :])
        assert done.after == first.after + 300
        assert not fetch(tmp_path, server, None).changed


@pytest.mark.parametrize("kind", [Coinbase, Okx])
def test_an_interrupted_load_ends_in_the_bytes_of_another(
    tmp_path: Path, kind: type[Other]
) -> None:
    bars = with_gaps()
    with serve(kind, bars, int(bars[-1, 0]) + DAY) as server:
        fetch(tmp_path / "clean", server)
        for after in (2, 4, 9):
            server.faults = [Fault("garbage", path="candles", times=10**6, after=after)]
            with pytest.raises(OutageError, match="goes on"):
                fetch(tmp_path / "broken", server)
        server.faults = []
        fetch(tmp_path / "broken", server)
    assert tree(tmp_path / "broken" / "data") == tree(tmp_path / "clean" / "data")


def test_a_gap_that_kraken_leaves_is_told_and_not_filled(tmp_path: Path) -> None:
    """Who comes back after a day finds only the last 720 minutes."""
    bars = synthetic_bars(BARS, START)
    with serve(Kraken, bars, int(bars[1000, 0]) + 30_000) as server:
        fetch(tmp_path, server)
        server.now = int(bars[-1, 0]) + 2 * MINUTE
        done = fetch(tmp_path, server, None)
        assert (done.gaps, done.absent) == (1, BARS - 720 - 1000)
        np.testing.assert_array_equal(stored(tmp_path, server), np.r_[bars[281:1000], bars[-720:]])


@pytest.mark.parametrize("kind", ALL)
def test_real_bars_arrive_as_the_file_has_them(
    tmp_path: Path, shared_data: Path, kind: type[Other]
) -> None:
    order = "timestamp,open,close,high,low,volume"
    real = load_bars(
        shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz", symbol=SYMBOL, exchange=kind.exchange,
        timeframe="1m", columns=order, calendar="24/7", timerange="20131220-20131222",
    )  # fmt: skip
    times = real.timestamp // 1_000_000
    rows = np.column_stack([times, *(getattr(real, name) for name in COLUMNS[1:])])
    with serve(kind, rows, int(times[-1]) + 2 * MINUTE) as server:
        done = fetch(tmp_path, server, "20131201-")
        got = stored(tmp_path, server)
    assert done.impossible == 0
    np.testing.assert_array_equal(got, rows[-720:] if kind is Kraken else rows)
