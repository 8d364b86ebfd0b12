"""What an exchange has closed is what the store holds, whatever the paging, once and exactly."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ares.core.errors import ConfigError, DataError, InputError
from ares.market.exchange.download import LoadResult, load, origin_of
from ares.market.exchange.refetch import repair
from ares.market.exchange.retry import Retry
from ares.market.exchange.source import Market
from ares.market.files import load_bars
from ares.market.raw import COLUMNS
from ares.market.stored.datasets import load_dataset
from ares.store.workspace import Workspace
from exchange_server import DAY, MINUTE, Exchange, counted, synthetic_bars, tree

START = 1_609_286_400_000  # 2020-12-30, so that years meet
BARS = 4000
NOON = START + 3 * DAY // 2
SOURCES = ("ccxt", "dumps")
NAMES = ("BTC/USDT", "binance", "1m")
RANGE = "20201201-"
QUICK = Retry(base=0.01, cap=0.02)

ccxt = pytest.importorskip("ccxt")


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt.Exchange, "throttle", lambda *_: None)  # this server has no limits


def market(server: Exchange, *, symbol: str = "BTC/USDT", timeframe: str = "1m") -> Market:
    return Market(symbol, "binance", timeframe, server.url, 5.0)


def fetch(home: Path, server: Exchange, **options: Any) -> LoadResult:
    options = {"timerange": RANGE, "retry": QUICK, **options}
    return load(Workspace(home), options.pop("market", market(server)), **options)


def stored(home: Path) -> np.ndarray:
    bars = load_dataset(Workspace(home), *NAMES)
    times = bars.timestamp // 1_000_000
    return np.column_stack([times, *(getattr(bars, name) for name in COLUMNS[1:])])


@pytest.fixture
def server():
    bars = {("BTCUSDT", "1m"): synthetic_bars(BARS, START)}
    with Exchange(bars, now=START + BARS * MINUTE + DAY, page=500) as running:
        yield running


@pytest.mark.parametrize("source", SOURCES)
def test_all_closed_bars_arrive_exactly(tmp_path: Path, server: Exchange, source: str) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    done = fetch(tmp_path, server, source=source)
    whole_days = rows[:, 0] < server.now // DAY * DAY
    expected = rows if source == "ccxt" else rows[whole_days]
    np.testing.assert_array_equal(stored(tmp_path), expected)
    assert (done.before, done.after, done.revised, done.changed) == (0, len(expected), 0, True)
    assert origin_of(done.path) == source
    assert not list((tmp_path / ".ares" / "work").glob("*/*"))


def test_the_size_of_a_page_and_the_kind_of_answer_change_nothing(tmp_path: Path) -> None:
    bars = synthetic_bars(900, START)
    bars = np.delete(bars, np.r_[100:103, 300:700], axis=0)  # minutes without trades
    found = set()
    for page, windowed in ((1000, False), (7, False), (120, True), (450, True)):
        with Exchange({("BTCUSDT", "1m"): bars}, START + DAY, page, windowed=windowed) as server:
            home = tmp_path / f"{page}-{windowed}"
            fetch(home, server, timerange="20201229-20201231")
            np.testing.assert_array_equal(stored(home), bars)
            found.add(tuple(sorted(tree(home / "data").items())))
    assert len(found) == 1


def test_years_before_a_listing_cost_a_few_requests(tmp_path: Path, server: Exchange) -> None:
    server.windowed = True  # an exchange that never looks beyond its window
    done = fetch(tmp_path, server, timerange=None)
    assert done.after == BARS
    assert counted(server.requests)["klines"] < 100  # of the 55,000 windows since 2010


@pytest.mark.parametrize("source", SOURCES)
def test_a_second_load_asks_for_the_end_only(tmp_path: Path, server: Exchange, source: str) -> None:
    fetch(tmp_path, server, source=source)
    before = tree(tmp_path / "data")
    server.requests.clear()
    again = fetch(tmp_path, server, source=source, timerange=None)
    assert not again.changed
    assert tree(tmp_path / "data") == before
    assert len(server.requests) < 15


def test_new_bars_are_added_and_revised_ones_reported(tmp_path: Path, server: Exchange) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    server.now = int(rows[-1000, 0]) + 5000
    first = fetch(tmp_path, server)
    assert first.after == BARS - 1000
    revised = rows.copy()
    revised[-1003, 5] += 1.0
    server.bars["BTCUSDT", "1m"] = revised
    server.now = int(rows[-1, 0]) + DAY
    second = fetch(tmp_path, server)
    assert (second.before, second.after, second.revised) == (BARS - 1000, BARS, 1)
    np.testing.assert_array_equal(stored(tmp_path), revised)


def test_earlier_bars_are_put_before(tmp_path: Path, server: Exchange) -> None:
    fetch(tmp_path, server, timerange="20210101-")
    done = fetch(tmp_path, server, timerange="20201230-")
    assert done.before < done.after == BARS
    np.testing.assert_array_equal(stored(tmp_path), server.bars["BTCUSDT", "1m"])


@pytest.mark.parametrize("seconds", [0.0, 1.9, 30.0, 58.0])
def test_an_unfinished_bar_is_never_stored(
    tmp_path: Path, server: Exchange, seconds: float
) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    server.now = int(rows[2000, 0] + 1000 * seconds)
    fetch(tmp_path, server)
    kept = stored(tmp_path)
    closed = 2000 if seconds >= 2 else 1999  # an exchange may still be finishing a bar
    np.testing.assert_array_equal(kept, rows[:closed])


@pytest.mark.parametrize("skew", [-400 * DAY, -90_000, 90_000, 400 * DAY])
def test_the_clock_of_this_machine_decides_nothing(
    tmp_path: Path, server: Exchange, skew: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    server.now = int(rows[2000, 0]) + 30_000
    real = time.time
    offset = server.now / 1000 - real() + skew / 1000
    monkeypatch.setattr(time, "time", lambda: real() + offset)
    fetch(tmp_path, server)
    np.testing.assert_array_equal(stored(tmp_path), rows[:2000])


@pytest.mark.parametrize("offset", [-600_000, 600_000])
def test_a_wrong_clock_of_the_exchange_stores_no_unfinished_bar(
    tmp_path: Path, server: Exchange, offset: int
) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    server.now, server.time_offset = int(rows[2000, 0]) + 30_000, offset
    fetch(tmp_path, server)
    np.testing.assert_array_equal(stored(tmp_path), rows[: 2000 if offset > 0 else 1990])


def test_every_exchange_can_be_asked_at_another_address() -> None:
    from ares.market.exchange.ccxt_client import ccxt_exchange

    base, checked = "http://127.0.0.1:9/mirror", 0

    def addresses(tree: Any) -> Any:
        if isinstance(tree, dict):
            return [url for inner in tree.values() for url in addresses(inner)]
        return [tree] if isinstance(tree, str) else []

    for name in ccxt.exchanges:
        try:
            api = ccxt_exchange(Market("BTC/USDT", name, "1h", base))
        except ConfigError as error:
            assert "has bars of" in str(error) or "has no bars" in str(error)  # noqa: PT017
            continue
        checked += 1
        assert all(url.startswith(base) for url in addresses(api.urls["api"])), name
    assert checked > 50


def test_a_name_of_several_markets_means_the_spot_market_or_nothing(
    tmp_path: Path, server: Exchange
) -> None:
    from ares.market.exchange.ccxt_source import CcxtSource

    source = CcxtSource(market(server), QUICK)
    spot = source._api.markets["BTC/USDT"]
    swap = {**spot, "symbol": "BTC/USDT:USDT", "spot": False}
    source._api.markets_by_id = {"X": [swap, spot], "Y": [swap, swap], "Z": [swap]}
    assert source._known_symbol("X") == "BTC/USDT"
    assert source._known_symbol("Z") == "BTC/USDT:USDT"
    with pytest.raises(ConfigError, match="several markets"):
        source._known_symbol("Y")


@pytest.mark.parametrize("dated", [True, False])
def test_an_exchange_without_a_clock_loses_at_most_its_newest_bar(
    tmp_path: Path, server: Exchange, dated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    server.now = int(rows[2000, 0]) + 30_000
    describe = ccxt.binance.describe

    def clockless(self: Any) -> Any:
        told = describe(self)
        return {**told, "has": {**told["has"], "fetchTime": False}}

    monkeypatch.setattr(ccxt.binance, "describe", clockless)
    if not dated:
        monkeypatch.setattr("ares.market.exchange.ccxt_source.http_time", lambda _: None)
    fetch(tmp_path, server)
    np.testing.assert_array_equal(stored(tmp_path), rows[:2000])


@pytest.mark.parametrize("header", [False, True])
def test_dumps_in_milli_and_microseconds_join_without_a_seam(tmp_path: Path, header: bool) -> None:
    bars = synthetic_bars(3 * 1440, 1_735_603_200_000)  # 2024-12-31 to 2025-01-02
    with Exchange({("BTCUSDT", "1m"): bars}, now=1_738_540_800_000, header_row=header) as server:
        fetch(tmp_path, server, source="dumps", timerange="20241201-20250110")
    np.testing.assert_array_equal(stored(tmp_path), bars)


def test_dumps_are_asked_for_the_months_of_the_time_range_only(tmp_path: Path) -> None:
    """To learn the server's time, one month is as good as another: not 2017 where 2021 is wanted."""
    bars = synthetic_bars(120 * 24, 1_609_459_200_000, step=60 * MINUTE)  # 2021-01-01 for 120 days
    with Exchange({("BTCUSDT", "1h"): bars}, now=1_609_459_200_000 + 120 * DAY + 5) as server:
        given = {"source": "dumps", "market": market(server, timeframe="1h")}
        fetch(tmp_path, server, timerange="20210215-20210401", **given)
        asked = counted(server.requests)
        assert set(asked) == {
            f"BTCUSDT-1h-2021-{month}.zip{end}"
            for month in ("02", "03")
            for end in ("", ".CHECKSUM")
        }
        server.requests.clear()
        fetch(tmp_path, server, timerange=None, **given)
    asked = sorted(counted(server.requests))
    assert asked[0].startswith("BTCUSDT-1h-2021-03")


def test_months_are_taken_where_they_exist_and_days_for_the_rest(tmp_path: Path) -> None:
    bars = synthetic_bars(70 * 24, 1_609_459_200_000, step=60 * MINUTE)  # 2021-01-01 for 70 days
    with Exchange({("BTCUSDT", "1h"): bars}, now=1_609_459_200_000 + 70 * DAY + 5) as server:
        server.missing_files.add("BTCUSDT-1h-2021-02.zip")
        server.missing_files.add("BTCUSDT-1h-2021-02-11.zip")
        done = fetch(
            tmp_path, server, source="dumps", timerange="20210101-",
            market=market(server, timeframe="1h"),
        )  # fmt: skip
        asked = counted(server.requests)
    assert done.after == len(bars) - 24
    assert (done.gaps, done.missing_bars) == (1, 24)
    assert asked["BTCUSDT-1h-2021-01.zip"] == 1
    assert not any(name.startswith("BTCUSDT-1h-2021-01-") for name in asked)
    assert asked["BTCUSDT-1h-2021-02-03.zip"] == asked["BTCUSDT-1h-2021-03-01.zip"] == 1


@pytest.mark.parametrize("source", SOURCES)
def test_a_range_without_bars_is_a_clear_error(
    tmp_path: Path, server: Exchange, source: str
) -> None:
    with pytest.raises(DataError, match="no bars there"):
        fetch(tmp_path, server, source=source, timerange="20180101-20180110")
    with pytest.raises(DataError, match="has closed yet"):
        fetch(tmp_path, server, source=source, timerange="20990101-")


def test_every_request_waits_for_its_turn(
    tmp_path: Path, server: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[object] = []
    monkeypatch.setattr(ccxt.Exchange, "throttle", lambda _, cost=None: turns.append(cost))
    fetch(tmp_path, server)
    assert len(turns) == len(server.requests) > 10


def test_impossible_bars_are_left_out_and_counted(tmp_path: Path, server: Exchange) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    rows[5, 3] = rows[5, 2] + 1  # low above high
    rows[7, 4] = -1.0
    done = fetch(tmp_path, server)
    assert (done.impossible, done.after) == (2, BARS - 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exchange": "binanse"}, "Did you mean binance"),
        ({"exchange": "Binance"}, "Did you mean binance"),
        ({"symbol": "btc/usdt"}, "Did you mean BTC/USDT"),
        ({"symbol": "BTC-USDT"}, "no such market"),
        ({"timeframe": "7m"}, "timeframe"),
        ({"exchange": "bitflyer"}, "has no bars"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_one(
    tmp_path: Path, server: Exchange, changes: dict[str, str], words: str
) -> None:
    named = {"symbol": "BTC/USDT", "exchange": "binance", "timeframe": "1m", **changes}
    with pytest.raises(ConfigError, match=words):
        fetch(tmp_path, server, market=Market(**named, base_url=server.url))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("changes", "source", "words"),
    [
        ({"exchange": "kraken"}, "dumps", "binance only"),
        ({"timeframe": "1w"}, "dumps", "straddle"),
        ({"symbol": "btcusdt"}, "dumps", "capitals"),
        ({}, "ftp", "ccxt, dumps"),
    ],
)
def test_what_dumps_do_not_have_is_refused(
    tmp_path: Path, server: Exchange, changes: dict[str, str], source: str, words: str
) -> None:
    named = {"symbol": "BTC/USDT", "exchange": "binance", "timeframe": "1m", **changes}
    with pytest.raises(InputError, match=words):
        fetch(tmp_path, server, source=source, market=Market(**named, base_url=server.url))


def test_real_bars_arrive_as_the_file_has_them(tmp_path: Path, shared_data: Path) -> None:
    order = "timestamp,open,close,high,low,volume"
    bars = load_bars(
        shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz", symbol="BTCUSDT", exchange="binance",
        timeframe="1m", columns=order, calendar="24/7",
    )  # fmt: skip
    times = bars.timestamp // 1_000_000
    rows = np.column_stack([times, *(getattr(bars, name) for name in COLUMNS[1:])])
    named = Market("BTCUSDT", "binance", "1m")
    with Exchange({("BTCUSDT", "1m"): rows}, now=int(times[-1]) + DAY) as server:
        asked = Market(named.symbol, named.exchange, named.timeframe, server.url)
        load(Workspace(tmp_path), asked, timerange="20130101-", retry=QUICK)
    got = load_dataset(Workspace(tmp_path), "BTCUSDT", "binance", "1m")
    assert got.digest == bars.digest


def test_a_hole_is_filled_by_asking_for_it(tmp_path: Path, server: Exchange) -> None:
    fetch(tmp_path, server, timerange="20201230-20201231")
    apart = fetch(tmp_path, server, timerange="20210101-20210102")
    assert (apart.gaps, apart.missing_bars) == (1, DAY // MINUTE)
    part = fetch(tmp_path, server, timerange=f"20201231-{NOON}")
    assert (part.added, part.gaps, part.absent) == (DAY // MINUTE // 2, 1, 0)
    assert part.asked == "2020-12-31T00:00:00Z to 2020-12-31T12:00:00Z"
    rest = fetch(tmp_path, server)
    assert (rest.after, rest.gaps, rest.absent) == (BARS, 0, 0)
    np.testing.assert_array_equal(stored(tmp_path), server.bars["BTCUSDT", "1m"])


def test_without_a_time_range_only_the_end_is_asked_for(tmp_path: Path, server: Exchange) -> None:
    fetch(tmp_path, server, timerange="20201230-20201231")
    fetch(tmp_path, server, timerange="20210101-")
    server.requests.clear()
    done = fetch(tmp_path, server, timerange=None)
    assert (done.fetched, done.gaps, done.absent) == (11, 1, 0)


def test_a_day_whose_file_came_late_is_fetched(tmp_path: Path, server: Exchange) -> None:
    server.missing_files = {"BTCUSDT-1m-2020-12-31.zip", "BTCUSDT-1m-2020-12.zip"}
    done = fetch(tmp_path, server, source="dumps")
    assert (done.gaps, done.absent) == (1, DAY // MINUTE)
    server.missing_files = {"BTCUSDT-1m-2020-12.zip"}
    done = fetch(tmp_path, server, source="dumps")
    assert (done.added, done.gaps, done.absent) == (DAY // MINUTE, 0, 0)


def test_only_what_was_not_sent_is_absent(tmp_path: Path, server: Exchange) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    rows[1000:1003, 2] = 1e-3  # highs below the lows
    server.bars["BTCUSDT", "1m"] = np.delete(rows, np.r_[500:504], axis=0)
    for _ in range(2):
        done = fetch(tmp_path, server)
        assert (done.impossible, done.gaps) == (3, 2)
        assert done.absent == 4
    part = fetch(tmp_path, server, timerange=f"{START + 501 * MINUTE}-{START + 2000 * MINUTE}")
    assert part.absent == 3
    mended = repair(Workspace(tmp_path), market(server), retry=QUICK)
    assert (mended.filled, mended.absent) == (0, 4)
