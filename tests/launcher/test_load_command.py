"""`ares load` and `ares data repair` as a person sees them, with hostile names and planted secrets."""

from __future__ import annotations

import base64
import functools
import itertools
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from ares.core.errors import ConfigError, InputError
from ares.market.exchange.keys import find_keys
from ares.market.exchange.retry import Retry
from ares.store.workspace import Workspace
from exchange_server import DAY, MINUTE, Exchange, Fault, synthetic_bars

if TYPE_CHECKING:
    from command_line import Ares

pytest.importorskip("ccxt")

START = 1_609_459_200_000  # 2021-01-01
BARS = 2000
MARKET = ("--symbol", "BTC/USDT", "--exchange", "binance", "--timeframe", "1m")
RANGE = ("--timerange", "20210101-")


@pytest.fixture
def server():
    bars = {("BTCUSDT", "1m"): synthetic_bars(BARS, START)}
    with Exchange(bars, now=START + BARS * MINUTE + 30_000) as running:
        yield running


def address(server: Exchange) -> dict[str, str]:
    return {"ARES_DATA__BASE_URL": server.url}


def test_load_says_what_came_and_what_to_do_next(ares: Ares, server: Exchange) -> None:
    done = ares("load", *MARKET, *RANGE, **address(server))
    assert done.code == 0, done.err
    assert "0 bars before, 2,000 now: 2,000 added, 0 revised" in done.out
    assert "Next: ares train --symbol BTC/USDT --exchange binance --timeframe 1m" in done.out
    assert "Asked for 2021-01-01T00:00:00Z to 2021-01-02T09:" in done.out
    again = ares("load", *MARKET, **address(server))
    assert "Nothing new; 2,000 bars." in again.out
    used = ares("backtest", *MARKET, "--set", "fast=5", "--set", "slow=20", "--json")
    assert used.code == 0, used.err
    (entry,) = ares("data", "list", "--json").json["datasets"]
    assert (entry["symbol"], entry["bars"]) == ("BTC/USDT", 2000)


def test_json_has_the_counts_and_nothing_else_is_printed(ares: Ares, server: Exchange) -> None:
    done = ares("load", *MARKET, *RANGE, "--source", "dumps", "--json", **address(server))
    assert done.code == 0, done.err
    assert done.err == ""
    facts = done.json
    assert (facts["before"], facts["after"], facts["added"], facts["revised"]) == (0, 1440, 1440, 0)
    assert (facts["source"], facts["gaps"]) == ("dumps", 0)
    assert facts["last"] == "2021-01-01T23:59:00Z"
    assert Path(facts["path"]).is_dir()


def test_the_address_may_stand_in_the_configuration(
    ares: Ares, server: Exchange, tmp_path: Path
) -> None:
    file = tmp_path / "ares.toml"
    file.write_text(f'[data]\nbase_url = "{server.url}"\nhttp_timeout = 5\n')
    assert ares("load", *MARKET, *RANGE, "--config", file).code == 0
    for wrong in ("ftp://x/", "http://user:pass@x/", "file:///etc/passwd", "x"):
        done = ares("load", *MARKET, ARES_DATA__BASE_URL=wrong)
        assert done.code == 2
        assert "data.base_url" in done.err


def test_repair_tells_what_it_fetched(ares: Ares, server: Exchange, tmp_path: Path) -> None:
    ares("load", *MARKET, *RANGE, **address(server))
    (part,) = (tmp_path / "home" / "data").rglob("2021-*.parquet")
    part.write_bytes(part.read_bytes()[:-3])
    refused = ares("load", *MARKET, **address(server))
    assert refused.code == 2
    assert "ares data repair" in refused.err
    done = ares("data", "repair", *MARKET, **address(server))
    assert done.code == 0, done.err
    assert "2,000 bars fetched again" in done.out
    assert "Nothing is damaged." in ares("data", "repair", *MARKET, **address(server)).out
    facts = ares("data", "repair", *MARKET, "--json", **address(server)).json
    assert (facts["removed"], facts["filled"]) == ([], 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--symbol", "BTC/USDT"), "needs a symbol, an exchange and a timeframe"),
        ((*MARKET, "--source", "ftp"), "ccxt, dumps"),
        ((*MARKET, "--timerange", "yesterday"), "YYYYMMDD"),
        ((*MARKET[:-1], "2m"), "timeframe"),
        ((*MARKET[:3], "nowhere", *MARKET[4:]), "no such exchange"),
    ],
)
def test_wrong_usage_is_explained(
    ares_here: Ares, server: Exchange, arguments: tuple[str, ...], words: str
) -> None:
    done = ares_here("load", *arguments, **address(server))
    assert done.code == 2
    assert words in done.err
    assert not server.requests


@pytest.mark.parametrize("source", ["ccxt", "dumps"])
def test_an_outage_is_told_while_it_lasts_and_is_no_wrong_usage(
    ares_here: Ares, server: Exchange, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    hurried = functools.partial(Retry, attempts=3, sleep=lambda _: None)
    monkeypatch.setattr("ares.market.exchange.download.Retry", hurried)
    down = Fault("status", path="", value=(503, {}, b"down"), times=99)
    server.faults.append(down)
    done = ares_here("load", *MARKET, *RANGE, "--source", source, **address(server))
    assert done.code == 1
    told = [line for line in done.err.splitlines() if line.startswith("BTC/USDT 1m: attempt")]
    for k, line in enumerate(told, start=1):
        assert re.match(rf"BTC/USDT 1m: attempt {k} of 3 failed, the next one in \d\.\d s: ", line)
    assert len(told) == 2
    assert "failed 3 times" in done.err
    assert "The same command goes on" in done.err
    assert len(server.requests) == 3
    said = ares_here("load", *MARKET, *RANGE, "--source", source, "--json", **address(server))
    assert (said.code, said.err) == (1, "")
    assert said.json["error"]["type"] == "OutageError"
    down.times = 1  # a server that comes back
    assert ares_here("load", *MARKET, *RANGE, "--source", source, **address(server)).code == 0


def test_without_ccxt_the_extra_is_named_and_dumps_still_work(
    server: Exchange, tmp_path: Path
) -> None:
    (tmp_path / "ccxt.py").write_text("raise ImportError('not installed')\n")
    command = [sys.executable, "-m", "ares.ares_launcher", "load", *MARKET, *RANGE]
    given = {**os.environ, **address(server), "PYTHONPATH": str(tmp_path)}
    given["ARES_HOME"] = str(tmp_path / "home")
    refused = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "ares-trainer[exchange]" in refused.stderr
    dumped = subprocess.run(
        [*command, "--source", "dumps"], env=given, capture_output=True, text=True, check=False
    )
    assert dumped.returncode == 0, dumped.stderr


HOSTILE = [
    "../../x", "..\\x", "/etc/passwd", "C:\\x", ".", "..", "", " ", "a\nb", "a\x1b[2Jb", "x" * 5000,
    "BTC\u202eTDSU", "\u00e9/USDT", "e\u0301/USDT", "-rf", "~root", "a b", "$(id)", "a;b", "%2e%2e/x",
]  # fmt: skip


@pytest.mark.parametrize("symbol", HOSTILE, ids=lambda s: ascii(s)[:20])
def test_hostile_symbols_are_refused_before_anything_is_asked_or_written(
    ares_here: Ares, server: Exchange, tmp_path: Path, symbol: str
) -> None:
    options = ("--exchange", "binance", "--timeframe", "1m", *RANGE)
    for source in ("ccxt", "dumps"):
        done = ares_here(
            "load", "--symbol", symbol, *options, "--source", source, **address(server)
        )
        assert done.code == 2
        assert "\x1b[2J" not in done.err
        assert len(done.err) < 2000
    assert not any("klines" in path for path in server.requests)
    assert not list(tmp_path.rglob("*.parquet"))
    assert not (tmp_path / "home" / "data").exists()


def test_a_symbol_with_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ASCII letters"):
        Workspace(tmp_path).dataset("binance", "a\0b", "1m")


def test_distinct_symbols_never_share_a_folder(tmp_path: Path) -> None:
    twins = ["BTC/USDT", "BTC-USDT", "btc/usdt", "BTCUSDT", "BTC_USDT", "BTC:USDT", "BTC.USDT"]
    folders = [str(Workspace(tmp_path).dataset("binance", s, "1m")) for s in twins]
    for one, other in itertools.combinations(folders, 2):
        assert one.casefold() != other.casefold()
    composed = unicodedata.normalize("NFC", "e\u0301X")
    for text in (composed, "e\u0301X"):
        with pytest.raises(InputError):
            Workspace(tmp_path).dataset("binance", text, "1m")


CANARY = "CANARY/k3y+5f1d=0c7be2"
SECOND = "CANARY-s3cret-99a1b2"


def keyring(folder: Path, mode: int = 0o600) -> Path:
    path = folder / "keyring.toml"
    path.write_text(f'[binance]\napi_key = "{CANARY}"\nsecret = "{SECOND}"\n')
    path.chmod(mode)
    return path


def assert_clean(text: str) -> None:
    for secret in (CANARY, SECOND):
        forms = {secret, quote(secret, safe=""), secret.encode().hex()}
        for pad in range(3):
            coded = base64.b64encode(b"\0" * pad + secret.encode()).decode()
            forms.add(coded[(0, 2, 3)[pad] : -4])
        for form in forms:
            assert form not in text
    assert "CANARY" not in text


# A logging set-up of the user's own, at the most talkative level.
_TALKATIVE = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from ares.ares_launcher import main
main()
"""


@pytest.mark.parametrize("channel", ["environment", "keyring"])
@pytest.mark.parametrize("talk", ["answer", "error", "redirect"])
def test_a_planted_key_is_found_nowhere(
    tmp_path: Path, server: Exchange, channel: str, talk: str
) -> None:
    echo = f'{{"code":-2014,"msg":"bad key {CANARY} {quote(SECOND, safe="")}"}}'.encode()
    if talk == "error":
        server.faults.append(Fault("status", value=(400, {}, echo), times=99))
    elif talk == "redirect":
        value = f"http://x/?k={quote(CANARY, safe='')}"
        server.faults.append(Fault("redirect", value=value, times=99))
    given = {k: v for k, v in os.environ.items() if not k.startswith("ARES_")}
    given |= {**address(server), "ARES_HOME": str(tmp_path / "home")}
    if channel == "environment":
        given |= {"ARES_BINANCE_API_KEY": CANARY, "ARES_BINANCE_SECRET": SECOND}
    else:
        given["ARES_KEYRING"] = str(keyring(tmp_path))
    for extra in (["--debug"], ["--json", "--debug"]):
        done = subprocess.run(
            [sys.executable, "-c", _TALKATIVE, "load", *MARKET, *RANGE, *extra],
            env=given, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == (0 if talk == "answer" else 2)
        assert "DEBUG" in done.stderr
        assert_clean(done.stdout)
        assert_clean(done.stderr)
    for path in (tmp_path / "home").rglob("*"):
        if path.is_file():
            assert_clean(path.read_bytes().decode("latin-1"))
            assert_clean(str(path))
    assert server.requests
    assert_clean("\n".join([*server.headers, *server.requests]))  # public endpoints need no key


def test_a_run_on_loaded_bars_has_no_key_in_it(
    ares: Ares, server: Exchange, tmp_path: Path
) -> None:
    keys = {"ARES_BINANCE_API_KEY": CANARY, "ARES_BINANCE_SECRET": SECOND, **address(server)}
    assert ares("load", *MARKET, *RANGE, **keys).code == 0
    done = ares("backtest", *MARKET, "--set", "fast=5", "--set", "slow=20", "--json", **keys)
    assert done.code == 0, done.err
    for path in (tmp_path / "home").rglob("*"):
        if path.is_file():
            assert_clean(path.read_bytes().decode("latin-1"))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o700, 0o400])
def test_a_keyring_with_another_mode_is_refused(
    ares: Ares, server: Exchange, tmp_path: Path, mode: int
) -> None:
    path = keyring(tmp_path, mode)
    done = ares("load", *MARKET, *RANGE, ARES_KEYRING=str(path), **address(server))
    assert done.code == 2
    assert "chmod 600" in done.err
    assert_clean(done.err)


def test_keys_come_in_pairs_and_from_one_place(tmp_path: Path) -> None:
    none = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert find_keys("binance", none) is None
    with pytest.raises(ConfigError, match="together") as caught:
        find_keys("binance", {**none, "ARES_BINANCE_API_KEY": CANARY})
    assert "CANARY" not in str(caught.value)
    ring = {"ARES_KEYRING": str(keyring(tmp_path))}
    found = find_keys("binance", ring)
    assert found is not None
    assert CANARY not in repr(found)
    assert found.key.get_secret_value() == CANARY
    assert find_keys("kraken", ring) is None
    for content in ("[binance", "binance = 1", '[binance]\napi_key = "only"'):
        keyring(tmp_path).write_text(content)
        with pytest.raises(ConfigError):
            find_keys("binance", ring)
    (tmp_path / "link").symlink_to(keyring(tmp_path))
    with pytest.raises(ConfigError, match="readable"):
        find_keys("binance", {"ARES_KEYRING": str(tmp_path / "link")})


def test_keys_stay_here_where_the_address_is_a_mirror(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ares.market.exchange.ccxt_client import keys_for
    from ares.market.exchange.source import Market

    monkeypatch.setenv("ARES_BINANCE_API_KEY", CANARY)
    monkeypatch.setenv("ARES_BINANCE_SECRET", SECOND)
    names = ("BTC/USDT", "binance", "1m")
    assert keys_for(Market(*names)) is not None
    assert keys_for(Market(*names, "http://127.0.0.1:9/")) is not None
    for mirror in ("https://mirror.example", "http://127.0.0.1.evil.example"):
        assert keys_for(Market(*names, mirror)) is None
    assert "API keys stay here" in caplog.text


@pytest.fixture(autouse=True)
def _forgotten():
    from ares.core import secrets

    yield
    secrets._secrets.clear()
    secrets._pattern.cache_clear()


def test_dumps_of_another_day_are_not_yet_there(ares_here: Ares, server: Exchange) -> None:
    server.now = START + DAY // 2
    done = ares_here("load", *MARKET, *RANGE, "--source", "dumps", **address(server))
    assert done.code == 2
    assert "no bar of this time range has closed yet" in done.err
