"""A repair fetches what was damaged, fills gaps that the exchange can fill, and is idempotent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ares.core.errors import ArtifactError, ConfigError, DataError
from ares.market.exchange import refetch
from ares.market.exchange.download import LoadResult, load
from ares.market.exchange.refetch import RepairResult, repair
from ares.market.exchange.retry import Retry
from ares.market.exchange.source import Market
from ares.market.stored.datasets import import_files, load_dataset
from ares.market.stored.partitions import MANIFEST
from ares.store.workspace import Workspace
from command_line import write_bars
from exchange_server import DAY, MINUTE, Exchange, Fault, synthetic_bars

START = 1_609_286_400_000  # 2020-12-30
BARS = 6000
NAMES = ("BTC/USDT", "binance", "1m")
QUICK = Retry(base=0.01, cap=0.02)

ccxt = pytest.importorskip("ccxt")


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccxt.Exchange, "throttle", lambda *_: None)


@pytest.fixture
def server():
    bars = {("BTCUSDT", "1m"): synthetic_bars(BARS, START)}
    with Exchange(bars, now=START + BARS * MINUTE + DAY) as running:
        yield running


def fill(home: Path, server: Exchange, source: str = "ccxt") -> Path:
    market = Market(*NAMES, server.url)
    options: dict[str, Any] = {"timerange": "20201201-", "retry": QUICK}
    return load(Workspace(home), market, source=source, **options).path


def mend(home: Path, server: Exchange, source: str | None = None) -> RepairResult:
    return repair(Workspace(home), Market(*NAMES, server.url), source=source, retry=QUICK)


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def damage(folder: Path, year: str) -> None:
    (path,) = folder.glob(f"{year}-*.parquet")
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("source", ["ccxt", "dumps"])
@pytest.mark.parametrize("years", [("2020",), ("2021",), ("2020", "2021")])
def test_damaged_parts_are_fetched_again(
    tmp_path: Path, server: Exchange, source: str, years: tuple[str, ...]
) -> None:
    folder = fill(tmp_path, server, source)
    whole = parts(folder)
    for year in years:
        damage(folder, year)
    done = mend(tmp_path, server)
    assert len(done.removed) == len(years)
    assert done.filled > 0
    assert parts(folder) == whole
    server.requests.clear()
    again = mend(tmp_path, server)
    assert (again.removed, again.source, again.changed) == ((), None, False)
    assert not server.requests
    assert parts(folder) == whole


@pytest.mark.parametrize("timerange", [None, "20201201-"])
@pytest.mark.parametrize("victim", ["2020-", "2021-", "gaps-"])
def test_a_load_beside_a_damaged_file_says_so_and_a_repair_mends_it(
    tmp_path: Path, server: Exchange, victim: str, timerange: str | None
) -> None:
    """Also where it would fetch nothing new, and so would need no byte of that file."""
    folder = fill(tmp_path, server)
    whole = parts(folder)
    (path,) = folder.glob(f"{victim}*.parquet")
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(flipped)

    def again() -> LoadResult:
        return load(
            Workspace(tmp_path), Market(*NAMES, server.url), timerange=timerange, retry=QUICK
        )

    with pytest.raises(ArtifactError, match="`ares data repair`") as caught:
        again()
    assert path.name in str(caught.value)
    mend(tmp_path, server)
    assert parts(folder) == whole
    assert not again().changed


def test_a_repair_that_dies_before_it_fetched_goes_on(
    tmp_path: Path, server: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, server)
    whole = parts(folder)
    damage(folder, "2020")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(refetch, "open_source", dies)
        with pytest.raises(KeyboardInterrupt):
            mend(tmp_path, server)
    assert parts(folder) != whole
    assert mend(tmp_path, server).filled > 0
    assert parts(folder) == whole


def test_a_load_after_a_repair_without_network_fetches_what_was_taken_out(
    tmp_path: Path, server: Exchange
) -> None:
    folder = fill(tmp_path, server)
    whole = parts(folder)
    damage(folder, "2020")
    server.faults.append(Fault("status", "", 99, value=(404, {}, b"")))
    with pytest.raises(DataError):
        mend(tmp_path, server)
    server.faults.clear()
    load(Workspace(tmp_path), Market(*NAMES, server.url), retry=QUICK)
    assert parts(folder) == whole


def test_gaps_that_the_exchange_can_fill_are_filled_and_others_named(
    tmp_path: Path, server: Exchange
) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    really_absent = np.delete(rows, np.r_[900:905, 4000], axis=0)
    lost = np.delete(really_absent, np.r_[100, 200, 300:310, 2000:4500], axis=0)
    server.bars["BTCUSDT", "1m"] = lost
    folder = fill(tmp_path, server)
    server.bars["BTCUSDT", "1m"] = really_absent
    done = mend(tmp_path, server)
    assert (done.filled, done.absent) == (len(really_absent) - len(lost), 6)
    bars = load_dataset(Workspace(tmp_path), *NAMES)
    np.testing.assert_array_equal(bars.timestamp // 1_000_000, really_absent[:, 0])
    np.testing.assert_array_equal(bars.close, really_absent[:, 4])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = mend(tmp_path, server)
    assert (again.filled, again.changed, again.absent) == (0, False, 6)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_scattered_gaps_pass_the_door(tmp_path: Path, server: Exchange) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    server.bars["BTCUSDT", "1m"] = np.delete(rows, np.r_[60:5900:60], axis=0)
    fill(tmp_path, server)
    server.bars["BTCUSDT", "1m"] = rows
    assert mend(tmp_path, server).filled == 98
    bars = load_dataset(Workspace(tmp_path), *NAMES)
    np.testing.assert_array_equal(bars.volume, rows[:, 5])


def test_a_dataset_from_files_is_left_alone_unless_a_source_is_named(
    tmp_path: Path, server: Exchange
) -> None:
    rows = server.bars["BTCUSDT", "1m"]
    kept = np.delete(rows, np.r_[500:700], axis=0)
    file = write_bars(tmp_path / "bars.csv", [[int(r[0]), *map(float, r[1:])] for r in kept])
    named = dict(zip(("symbol", "exchange", "timeframe"), NAMES, strict=True))
    import_files(Workspace(tmp_path), file, **named, options={"calendar": "24/7"})
    done = mend(tmp_path, server)
    assert (done.source, done.filled) == (None, 0)
    assert not server.requests
    assert mend(tmp_path, server, "ccxt").filled == 200
    with pytest.raises(ConfigError, match="ccxt, dumps"):
        mend(tmp_path, server, "elsewhere")


def test_without_its_manifest_a_dataset_says_how_to_get_it_back(
    tmp_path: Path, server: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fill(tmp_path, server)
    (folder / MANIFEST).write_text("{")
    done = mend(tmp_path, server)
    assert done.removed == (MANIFEST,)
    assert "`ares load` fetches them anew" in caplog.text
    with pytest.raises(DataError, match="no such dataset"):
        mend(tmp_path, server)
    fill(tmp_path, server)
    bars = load_dataset(Workspace(tmp_path), *NAMES)
    np.testing.assert_array_equal(bars.open, server.bars["BTCUSDT", "1m"][:, 1])
