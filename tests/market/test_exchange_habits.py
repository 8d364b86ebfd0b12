"""Exchanges that page otherwise than Binance: newest first, newest only, less than one may ask for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

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
from more_exchanges import HOUR, LENGTHS, Bybit, Coinbase, Kraken, Kucoin, Okx, Other

if TYPE_CHECKING:
    from pathlib import Path

START = 1_609_286_400_000  # 2020-12-30, so that years meet
BARS = 3000
QUICK = Retry(base=0.01, cap=0.02)
SYMBOL = "BTC/USD"
WHOLE = (Coinbase, Okx, Bybit, Kucoin)  # they give out all that they have
ALL = (Kraken, *WHOLE)

ccxt = pytest.importorskip("ccxt")


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt.Exchange, "throttle", lambda *_: None)  # these servers have no limits


def serve(kind: type[Other], bars: np.ndarray, now: int) -> Other:
    return kind({(kind.market_id, "1m"): bars}, now=now)


def with_gaps() -> np.ndarray:
    """Minutes without trades, one run of them longer than a page of OKX."""
    return np.delete(synthetic_bars(BARS, START), np.r_[100:103, 700:1100], axis=0)


def fetch(
    home: Path,
    server: Other,
    timerange: str | None = "20201201-",
    timeframe: str = "1m",
    retry: Retry = QUICK,
) -> LoadResult:
    asked = Market(server.symbol, server.exchange, timeframe, server.url, 5.0)
    return load(Workspace(home), asked, timerange=timerange, retry=retry)


def stored(home: Path, server: Other, timeframe: str = "1m") -> np.ndarray:
    bars = load_dataset(Workspace(home), server.symbol, server.exchange, timeframe)
    times = bars.timestamp // 1_000_000
    return np.column_stack([times, *(getattr(bars, name) for name in COLUMNS[1:])])


@pytest.mark.parametrize("timerange", ["20201229-", "20201201-", "20201230-20201231"])
@pytest.mark.parametrize("kind", WHOLE)
def test_every_closed_bar_arrives_and_only_those_are_absent_that_are(
    tmp_path: Path, kind: type[Other], timerange: str
) -> None:
    bars = with_gaps()
    with serve(kind, bars, int(bars[-1, 0]) + 30_000) as server:
        done = fetch(tmp_path, server, timerange)
        until = START + DAY if timerange.endswith("1231") else bars[-1, 0]
        np.testing.assert_array_equal(stored(tmp_path, server), bars[bars[:, 0] < until])
    assert (done.gaps, done.missing_bars, done.absent) == (2, 403, 403)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Coinbase, {}), (Okx, {}), (Bybit, {}), (Bybit, {"page": 130}), (Kucoin, {}),
        (Kucoin, {"inclusive": False}), (Kucoin, {"page": 100}), (Kucoin, {"page": 2}),
    ],
)  # fmt: skip
def test_no_bar_is_lost_where_pages_meet(
    tmp_path: Path, kind: type[Other], options: dict[str, Any]
) -> None:
    """KuCoin's answer to a window of 1501 bars are the newest 1500 of them."""
    count = 40 if options.get("page") == 2 else 3301
    bars = synthetic_bars(count, START)
    with serve(kind, bars, int(bars[-1, 0]) + 30_000) as server:
        for name, value in options.items():
            setattr(server, name, value)
        done = fetch(tmp_path, server, "20201230-")
        np.testing.assert_array_equal(stored(tmp_path, server), bars[:-1])
    assert (done.gaps, done.absent) == (0, 0)


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


def command(home: Path, server: Other, timeframe: str) -> str:
    """What `ares load` says without a time range."""
    home.mkdir(exist_ok=True)
    done = call_here(
        home, "load", "--symbol", server.symbol, "--exchange", server.exchange,
        "--timeframe", timeframe, home=home, ARES_DATA__BASE_URL=server.url,
    )  # fmt: skip
    assert done.code == 0, done.err
    return done.out


def hourly() -> np.ndarray:
    """Eight years of hours, two of them without a trade."""
    bars = synthetic_bars(8 * 365 * 24, START - 8 * 365 * DAY, step=HOUR)
    return np.delete(bars, np.s_[5 * 365 * 24 + 7 : 7 * 365 * 24], axis=0)


def begins(bars: np.ndarray, step: int) -> np.ndarray:
    """Open times of the longer bars that hold trades."""
    return np.unique(bars[:, 0] // step * step)


def test_whoever_asks_for_all_is_told_that_older_bars_exist(tmp_path: Path) -> None:
    bars = with_gaps()
    with serve(Kraken, bars, int(bars[-1, 0]) + 30_000) as server:
        told = command(tmp_path, server, "1m")
        assert "There are older ones (bars of 1d since 2020-12-30T00:00:00Z), but of 1m" in told
        assert "There are older ones" not in command(tmp_path, server, "1m")  # nothing new
        server.bars["XXBTZUSD", "1m"] = bars[-700:]  # a young market
        assert "There are older ones" not in command(tmp_path / "young", server, "1m")
    hours = hourly()
    with Kraken({("XXBTZUSD", "1h"): hours}, now=int(hours[-1, 0]) + 30_000) as server:
        weeks = f"{np.datetime64(int(begins(hours, 7 * DAY)[0]), 'ms').astype('M8[s]')}Z"
        told = command(tmp_path, server, "1d")
        assert f"There are older ones (bars of 1w since {weeks}), but of 1d" in told
        assert "There are older ones" not in command(tmp_path, server, "1w")


@pytest.mark.parametrize("kind", WHOLE)
def test_nothing_of_the_kind_is_said_of_an_exchange_that_gives_all(
    tmp_path: Path, kind: type[Other]
) -> None:
    bars = with_gaps()
    with serve(kind, bars, int(bars[-1, 0]) + 30_000) as server:
        assert fetch(tmp_path, server, None).older is None
        np.testing.assert_array_equal(stored(tmp_path, server), bars[:-1])


def test_a_load_does_not_fail_for_want_of_that_answer(tmp_path: Path) -> None:
    bars = with_gaps()
    with serve(Kraken, bars, int(bars[-1, 0]) + 30_000) as server:
        server.faults = [Fault("garbage", path="interval=1440", times=10**6)]
        assert fetch(tmp_path, server, None).older is None
        np.testing.assert_array_equal(stored(tmp_path, server), bars[-720:-1])
        assert sum("interval=1440" in path for path in server.requests) == 2
        long = (429, {"Retry-After": "600"}, b"{}")
        server.faults = [Fault("status", path="interval=1440", value=long, times=10**6)]
        slept: list[float] = []
        patient = Retry(base=0.01, cap=0.02, sleep=slept.append)
        assert fetch(tmp_path / "again", server, None, retry=patient).older is None
        assert not slept


@pytest.mark.parametrize(
    ("kind", "timeframe"),
    [(kind, tf) for kind in ALL for tf in ("1d", "1w") if (kind, tf) != (Coinbase, "1w")],
)  # fmt: skip
def test_long_bars_of_a_market_that_rested_and_ended_long_ago_are_loaded(
    tmp_path: Path, kind: type[Other], timeframe: str
) -> None:
    """Its rest and the time since its end are longer than any page; Kraken repeats the last bar."""
    hours, step = hourly(), LENGTHS[timeframe]
    times = begins(hours, step)
    with kind({(kind.market_id, "1h"): hours}, now=int(hours[-1, 0]) + 2000 * step) as server:
        done = fetch(tmp_path, server, None, timeframe)
        rows = stored(tmp_path, server, timeframe)
        np.testing.assert_array_equal(rows[:, 0], times[-720:] if kind is Kraken else times)
        np.testing.assert_array_equal(
            rows[:, 1], hours[np.searchsorted(hours[:, 0], rows[:, 0]), 1]
        )
        assert done.gaps == 1
        server.now += 2000 * step
        assert not fetch(tmp_path, server, None, timeframe).changed


def test_an_exchange_that_answers_all_questions_alike_is_still_an_error(tmp_path: Path) -> None:
    hours = hourly()
    with Kraken({("XXBTZUSD", "1h"): hours}, now=int(hours[-1, 0]) + 2000 * DAY) as server:
        server.names = dict.fromkeys(server.names, "1440") | {"1d": "1440"}
        server.tree_of = partial(_always_days, server.tree_of)  # type: ignore[method-assign]
        with pytest.raises(DataError, match="from before the time"):
            fetch(tmp_path, server, None, "1d")


def _always_days(tree_of: Any, path: str, query: dict[str, str]) -> Any:
    return tree_of(path, query | {"interval": "1440"} if "interval" in query else query)


@pytest.mark.parametrize("kind", WHOLE)
def test_minutes_after_a_rest_longer_than_any_page_are_loaded(
    tmp_path: Path, kind: type[Other]
) -> None:
    bars = np.delete(synthetic_bars(9000, START), np.s_[50:8000], axis=0)
    with serve(kind, bars, int(bars[-1, 0]) + 3 * DAY) as server:
        done = fetch(tmp_path, server)
        np.testing.assert_array_equal(stored(tmp_path, server), bars)
        assert (done.gaps, done.absent) == (1, 7950)


MUCH = b'{"retCode":10006,"retMsg":"Too many visits!","result":{},"retExtInfo":{},"time":0}'
QUOTA = b'{"code":"429000","msg":"Too many requests"}'


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize(
    ("kind", "status", "headers", "body"),
    [
        (Bybit, 200, {"X-Bapi-Limit-Reset-Timestamp": "{reset}"}, MUCH),
        (Kucoin, 429, {"gw-ratelimit-reset": "9000"}, QUOTA),
        (Bybit, 429, {"Retry-After": "9"}, b"busy"),
        (Kucoin, 429, {"Retry-After": "9", "gw-ratelimit-reset": "2"}, QUOTA),
    ],
)
def test_who_asked_too_much_waits_as_long_as_the_exchange_says(
    tmp_path: Path,
    kind: type[Other],
    status: int,
    headers: dict[str, str],
    body: bytes,
    everywhere: bool,
) -> None:
    bars = with_gaps()
    with serve(kind, bars, START + 2 * DAY + 30_000) as server:
        headers = {name: text.format(reset=server.now + 9000) for name, text in headers.items()}
        server.faults = [
            Fault(
                "status",
                path="" if everywhere else server.klines,
                value=(status, headers, body),
                times=2,
                after=1,
            )
        ]
        slept: list[float] = []
        fetch(tmp_path, server, retry=Retry(attempts=4, base=0.01, sleep=slept.append))
        assert [int(seconds) for seconds in slept] == [9, 9]
        np.testing.assert_array_equal(stored(tmp_path, server), bars[bars[:, 0] < START + 2 * DAY])


def test_headers_of_quotas_mean_nothing_where_nobody_asked_too_much(tmp_path: Path) -> None:
    broken = (500, {"gw-ratelimit-reset": "29000"}, b"{}")
    bars = with_gaps()
    with serve(Kucoin, bars, START + 2 * DAY) as server:
        server.faults = [Fault("status", path=server.klines, value=broken, times=2)]
        slept: list[float] = []
        fetch(tmp_path, server, retry=Retry(attempts=4, base=0.01, sleep=slept.append))
        assert len(slept) == 2
        assert max(slept) < 1


def test_a_refusal_may_be_a_matter_of_time_and_says_so(tmp_path: Path) -> None:
    with serve(Bybit, with_gaps(), START + 2 * DAY) as server:
        server.faults = [Fault("status", path="kline", value=(403, {}, b"access too frequent"))]
        with pytest.raises(DataError, match=r"refuses.*half an hour after too many questions"):
            fetch(tmp_path, server)


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


@pytest.mark.parametrize("kind", WHOLE)
def test_an_interrupted_load_ends_in_the_bytes_of_another(
    tmp_path: Path, kind: type[Other]
) -> None:
    bars = with_gaps()
    with serve(kind, bars, int(bars[-1, 0]) + DAY) as server:
        if kind in {Bybit, Kucoin}:
            server.page = 200
        fetch(tmp_path / "clean", server)
        for after in (2, 4, 9):
            server.faults = [Fault("garbage", path=server.klines, times=10**6, after=after)]
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
        shared_data / "bitfinex_BTCUSD_1m_2013.csv.gz", symbol=kind.symbol, exchange=kind.exchange,
        timeframe="1m", columns=order, calendar="24/7", timerange="20131220-20131222",
    )  # fmt: skip
    times = real.timestamp // 1_000_000
    rows = np.column_stack([times, *(getattr(real, name) for name in COLUMNS[1:])])
    with serve(kind, rows, int(times[-1]) + 2 * MINUTE) as server:
        done = fetch(tmp_path, server, "20131201-")
        got = stored(tmp_path, server)
    assert done.impossible == 0
    np.testing.assert_array_equal(got, rows[-720:] if kind is Kraken else rows)
