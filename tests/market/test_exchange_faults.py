"""Every fault of an exchange ends in a complete store or in a clear error, and can be gone on from."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ares.core.errors import AresError, BusyError, DataError, OutageError
from ares.market.exchange.download import load
from ares.market.exchange.retry import Retry
from ares.market.exchange.source import Market
from ares.market.exchange.spool import Spool
from ares.market.raw import COLUMNS
from ares.market.stored.datasets import load_dataset
from ares.store.faults import reset_faults
from ares.store.workspace import Workspace
from exchange_server import DAY, MINUTE, Exchange, Fault, synthetic_bars, tree, zip_of

START = 1_609_459_200_000
BARS = 3000
NAMES = ("BTC/USDT", "binance", "1m")
RANGE = "20210101-"

ccxt = pytest.importorskip("ccxt")


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt.Exchange, "throttle", lambda *_: None)  # this server has no limits


class Slept(list[float]):
    """Instead of sleeping: the seconds that would have been slept."""

    @property
    def retry(self) -> Retry:
        return Retry(attempts=5, base=0.01, cap=0.02, sleep=self.append)


def fetch(home: Path, server: Exchange, source: str, slept: Slept, timeout: float = 5.0) -> Any:
    market = Market(*NAMES, server.url, timeout)
    return load(Workspace(home), market, source=source, timerange=RANGE, retry=slept.retry)


def stored(home: Path) -> np.ndarray:
    bars = load_dataset(Workspace(home), *NAMES)
    times = bars.timestamp // 1_000_000
    return np.column_stack([times, *(getattr(bars, name) for name in COLUMNS[1:])])


@pytest.fixture
def server():
    bars = {("BTCUSDT", "1m"): synthetic_bars(BARS, START)}
    with Exchange(bars, now=START + 4 * DAY, page=500) as running:
        yield running


BUSY = (429, {"Retry-After": "7"}, b'{"code":-1003,"msg":"Too many requests."}')
BANNED = (418, {"Retry-After": "7"}, b'{"code":-1003,"msg":"banned"}')
DATED = (503, {"Retry-After": "Tue, 05 Jan 2021 00:00:07 GMT"}, b"{}")
BROKEN = (500, {}, b"internal error")
PASSING = [
    Fault("status", value=BUSY),
    Fault("status", value=BANNED, after=1),
    Fault("status", value=DATED, after=1),
    Fault("status", value=BROKEN, times=3),
    Fault("status", value=BROKEN, path="", times=2),
    Fault("cut", times=2, after=1),
    Fault("garbage", times=2, after=1),
    Fault("hang", value=1.2, after=1),
]


@pytest.mark.parametrize("source", ["ccxt", "dumps"])
@pytest.mark.parametrize("fault", PASSING, ids=lambda f: f"{f.kind}-{f.value and f.value}"[:20])
def test_what_passes_is_waited_for(
    tmp_path: Path, server: Exchange, source: str, fault: Fault
) -> None:
    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    fetch(undisturbed, server, source, Slept())
    server.faults.append(Fault(**vars(fault)))
    slept = Slept()
    fetch(disturbed, server, source, slept, timeout=0.5)
    assert server.faults[0].times == 0
    assert tree(disturbed / "data") == tree(undisturbed / "data")
    assert slept
    if fault.kind == "status" and "Retry-After" in fault.value[1]:
        assert 7 <= slept[0] < 8


def test_a_repeated_page_is_asked_for_again(tmp_path: Path, server: Exchange) -> None:
    server.faults.append(Fault("repeat", after=2, times=2))
    fetch(tmp_path, server, "ccxt", Slept())
    np.testing.assert_array_equal(stored(tmp_path), server.bars["BTCUSDT", "1m"])


def test_an_exchange_that_only_repeats_itself_is_an_error(tmp_path: Path, server: Exchange) -> None:
    server.page = 100
    server.faults.append(Fault("repeat", after=2, times=99))
    with pytest.raises(DataError, match="from before the time"):
        fetch(tmp_path, server, "ccxt", Slept())
    server.faults.clear()
    fetch(tmp_path, server, "ccxt", Slept())
    np.testing.assert_array_equal(stored(tmp_path), server.bars["BTCUSDT", "1m"])


LASTING = [
    ("ccxt", Fault("status", value=BROKEN, times=99), "failed 5 times"),
    ("dumps", Fault("status", value=BROKEN, times=99), "failed 5 times"),
    ("ccxt", Fault("garbage", times=99, after=1), "no JSON"),
    ("dumps", Fault("cut", path=".zip", times=99), "cut after|SHA-256"),
    ("ccxt", Fault("redirect", value="http://10.0.0.1/evil", times=9), "redirect.*10.0.0.1"),
    ("dumps", Fault("redirect", value="file:///etc/passwd", times=9), "redirect.*etc/passwd"),
    ("ccxt", Fault("status", value=(451, {}, b"{}"), times=9), "refuses"),
    ("dumps", Fault("status", value=(403, {}, b""), times=9), "refuses"),
    ("ccxt", Fault("status", value=(429, {"Retry-After": "86400"}, b"{}")), "86400 seconds"),
    ("dumps", Fault("status", value=(429, {"Retry-After": "86400"}, b"")), "86400 seconds"),
    ("dumps", Fault("body", path=".CHECKSUM", value=b"0" * 64 + b"  other.zip\n", times=99), "SHA"),
    ("dumps", Fault("body", path=".CHECKSUM", value=b"x" * 9000, times=99), "4096 bytes"),
    ("dumps", Fault("body", path="-01.zip", value=b"PK", times=99, after=1), "SHA-256"),
    ("ccxt", Fault("body", value=b'[[1609459200000,null,"1","1","1","1"]]', times=99), "lacks a number"),
    ("ccxt", Fault("hang", value=0.6, times=99), "failed 5 times"),
    ("dumps", Fault("hang", value=0.6, times=99), "failed 5 times"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "fault", "words"), LASTING)
def test_what_lasts_is_one_clear_error_and_the_same_command_goes_on(
    tmp_path: Path, server: Exchange, source: str, fault: Fault, words: str
) -> None:
    server.faults.append(Fault(**vars(fault)))
    with pytest.raises(AresError, match=words):
        fetch(tmp_path, server, source, Slept(), timeout=0.3)
    assert not (tmp_path / "data").exists()
    server.faults.clear()
    fetch(tmp_path, server, source, Slept())
    kept = stored(tmp_path)
    np.testing.assert_array_equal(kept, server.bars["BTCUSDT", "1m"][: len(kept)])
    assert len(kept) >= BARS - 1440


def test_a_checksum_that_does_not_fit_once_is_fetched_again(
    tmp_path: Path, server: Exchange
) -> None:
    wrong = b"0" * 64 + b"  BTCUSDT-1m-2021-01-01.zip\n"
    server.faults.append(Fault("body", path="2021-01-01.zip.CHECKSUM", value=wrong))
    fetch(tmp_path, server, "dumps", Slept())
    assert server.faults[0].times == 0
    kept = stored(tmp_path)
    np.testing.assert_array_equal(kept, server.bars["BTCUSDT", "1m"][: len(kept)])


def _line(time: str = "1609459200000", cells: int = 11) -> str:
    return ",".join([time, "1", "2", "1", "1", "1", *["0"] * (cells - 5)]) + "\n"


NAME = "BTCUSDT-1m-2021-01-01"


def _lying_size() -> bytes:
    data = bytearray(zip_of({f"{NAME}.csv": _line() * 1000}))
    for mark, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.index(mark) + offset
        data[at : at + 4] = (100).to_bytes(4, "little")
    return bytes(data)


def _encrypted() -> bytes:
    data = bytearray(zip_of({f"{NAME}.csv": _line()}))
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(mark) + offset] |= 1
    return bytes(data)


HOSTILE = {
    "another name": (zip_of({"../../x.csv": _line()}), "nothing else"),
    "an absolute name": (zip_of({"/etc/passwd": _line()}), "nothing else"),
    "two members": (zip_of({f"{NAME}.csv": _line(), "b": "x"}), "nothing else"),
    "a bomb": (zip_of({f"{NAME}.csv": b"0" * 50_000_000}), "times its packed size"),
    "a size that lies": (_lying_size(), "damaged|4096 bytes"),
    "encryption": (_encrypted(), "encrypted"),
    "no archive": (b"hello", "damaged"),
    "a giant line": (zip_of({f"{NAME}.csv": np.random.default_rng(0).bytes(9000).hex()}), "4096"),
    "too few columns": (zip_of({f"{NAME}.csv": _line(cells=9)}), "12 columns"),
    "text for a price": (zip_of({f"{NAME}.csv": _line().replace(",2,", ",=1+1,")}), "high must be"),
    "text for a time": (zip_of({f"{NAME}.csv": _line() + _line("2021-01-01")}), "must be a time"),
    "another day": (zip_of({f"{NAME}.csv": _line("1609459199999")}), "2021-01-01 only"),
    "odd microseconds": (zip_of({f"{NAME}.csv": _line("1609459200000001")}), "milliseconds"),
}


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_are_refused(
    tmp_path: Path, server: Exchange, data: bytes, words: str
) -> None:
    server.put_file(f"{NAME}.zip", data)
    with pytest.raises(DataError, match=words):
        fetch(tmp_path / "home", server, "dumps", Slept())
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert not (tmp_path / "home" / "data").exists()


def test_the_archives_of_these_tests_are_archives_otherwise(
    tmp_path: Path, server: Exchange
) -> None:
    whole = zip_of({f"{NAME}.csv": _line()})
    assert zipfile.ZipFile(__import__("io").BytesIO(whole)).namelist() == [f"{NAME}.csv"]
    server.put_file(f"{NAME}.zip", whole)
    assert fetch(tmp_path, server, "dumps", Slept()).after == BARS - 1439


def test_a_full_disk_leaves_pages_that_the_next_attempt_uses(
    tmp_path: Path, server: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = tmp_path / "clean"
    fetch(clean, server, "ccxt", Slept())
    home = tmp_path / "home"
    for n in range(1, 60):
        reset_faults()
        monkeypatch.setenv("ARES_FAULT", f"*:{n}:enospc")
        try:
            fetch(home, server, "ccxt", Slept())
        except AresError:
            continue
        break
    assert n > 15  # each page, the import and the origin have several points
    monkeypatch.delenv("ARES_FAULT")
    fetch(home, server, "ccxt", Slept())
    assert tree(home / "data") == tree(clean / "data")


def test_a_damaged_page_is_fetched_again(tmp_path: Path, server: Exchange) -> None:
    clean, home = tmp_path / "clean", tmp_path / "home"
    fetch(clean, server, "ccxt", Slept())
    server.faults.append(Fault("status", value=BROKEN, after=4, times=99))
    with pytest.raises(OutageError):
        fetch(home, server, "ccxt", Slept())
    pages = sorted(home.glob(".ares/work/*/*.npy"))
    assert len(pages) == 4
    data = bytearray(pages[1].read_bytes())
    data[-5] ^= 1
    pages[1].write_bytes(data)
    server.faults.clear()
    fetch(home, server, "ccxt", Slept())
    assert tree(home / "data") == tree(clean / "data")


def test_one_process_loads_a_market_at_a_time(tmp_path: Path, server: Exchange) -> None:
    with (
        Spool(Workspace(tmp_path), "ccxt", Market(*NAMES)),
        pytest.raises(BusyError, match="one process"),
    ):
        fetch(tmp_path, server, "ccxt", Slept())


def test_an_interrupt_is_kept_for_the_next_attempt(tmp_path: Path, server: Exchange) -> None:
    def stop(step: Any) -> None:
        if step.bars >= 1500:
            raise KeyboardInterrupt

    market = Market(*NAMES, server.url)
    with pytest.raises(KeyboardInterrupt):
        load(Workspace(tmp_path), market, timerange=RANGE, watch=stop, retry=Slept().retry)
    before = sum("klines" in path for path in server.requests)
    fetch(tmp_path, server, "ccxt", Slept())
    after = sum("klines" in path for path in server.requests) - before
    assert before == 3
    assert after == 4 + 1 + 5  # the last page again and the rest; days; nothing in the last of them
    np.testing.assert_array_equal(stored(tmp_path), server.bars["BTCUSDT", "1m"])
    assert threading.active_count() < 20
    assert MINUTE == 60_000
