from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ares.core.errors import ConfigError, InputError, StoreError
from ares.store import Workspace, check_symbol, safe_name

HOSTILE = [
    "../../x",
    "..\\x",
    "/etc/passwd",
    "C:\\x",
    "a\0b",
    ".",
    "..",
    "",
    " ",
    "A" * 5000,
    "BTC\u202eTDSU",
    unicodedata.normalize("NFC", "caf\u00e9"),
    unicodedata.normalize("NFD", "caf\u00e9"),
    "BTC\n",
    "-rf",
    "\ud800",
    "B\x1b[2J",
]
TWINS = ["BTC/USDT", "BTC-USDT", "btc/usdt", "btc-usdt", "Btc/Usdt", "BTC:USDT", "BTCUSDT", "CON"]


@pytest.mark.parametrize("symbol", HOSTILE)
def test_hostile_symbols_are_refused(symbol):
    with pytest.raises(InputError, match="symbol"):
        check_symbol(symbol)
    with pytest.raises(InputError):
        Workspace(Path("/home")).dataset("nasdaq", symbol, "1d")
    with pytest.raises(InputError, match="exchange"):
        Workspace(Path("/home")).dataset(symbol, "IXIC", "1d")


@pytest.mark.parametrize(
    "symbol", [*TWINS, "^GSPC", "BRK.B", "EURUSD=X", "BTC/USDT:USDT", "1INCH/USDT", "a" * 40]
)
def test_symbols_of_exchanges_are_allowed(symbol):
    assert check_symbol(symbol) == symbol


@pytest.mark.parametrize("text", HOSTILE + TWINS)
def test_any_text_is_contained(tmp_path, text):
    name = safe_name(text)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}-[0-9a-f]{12}", name)
    folder = tmp_path / name
    folder.mkdir()
    assert folder.resolve().parent == tmp_path.resolve()


def test_hostile_texts_and_twins_have_folders_of_their_own():
    texts = HOSTILE + TWINS
    assert len({safe_name(text).casefold() for text in texts}) == len(texts)
    assert safe_name("BTC/USDT") == "btc-usdt-4d7eaaf19e71"  # an interface: data is found by it


TEXTS = st.text(st.characters(), max_size=60) | st.sampled_from(TWINS + HOSTILE)


@given(TEXTS, TEXTS)
@example("K", "\u212a")  # the Kelvin sign is a k in lower case
def test_distinct_texts_never_share_a_folder_even_where_case_does_not_count(a, b):
    shared = safe_name(a).casefold() == safe_name(b).casefold()
    assert shared == (a == b)


@given(TEXTS)
def test_a_symbol_is_allowed_or_refused_and_never_leaves_the_workspace(symbol):
    home = Path("/home/workspace")
    try:
        folder = Workspace(home).dataset("nasdaq", symbol, "1d")
    except InputError:
        return
    relative = folder.relative_to(home / "data")
    assert len(relative.parts) == 3
    assert ".." not in relative.parts


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_]{0,5}(-[0-9a-f]{12})?", fullmatch=True), st.data())
def test_distinct_exchanges_never_share_a_folder_even_where_case_does_not_count(a, data):
    b = data.draw(st.sampled_from([a.upper(), a.lower(), a.swapcase(), safe_name(a)[:40]]))
    workspace = Workspace(Path("/w"))
    first, second = (str(workspace.dataset(e, "X", "1h")).casefold() for e in (a, b))
    assert (first == second) == (a == b)


def test_the_layout(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.create()
    workspace.create()
    assert workspace.runs == tmp_path / "runs"
    assert workspace.store == tmp_path / ".ares" / "store"
    assert workspace.cache_db == tmp_path / ".ares" / "cache.sqlite"
    assert workspace.history_db == tmp_path / ".ares" / "history.sqlite"
    assert workspace.work("ab" * 20) == tmp_path / ".ares" / "work" / ("ab" * 20)
    assert workspace.dataset("binance", "X", "1h").parent.parent == tmp_path / "data" / "binance"
    assert workspace.dataset("con", "X", "1h").parent.parent.name.startswith("con-")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ares", "data", "runs"]


@pytest.mark.parametrize("digest", ["", "..", "ab/../../cd", "AB" * 20, "abcdefg\n", "0" * 200])
def test_a_request_digest_is_hexadecimal(digest):
    with pytest.raises(InputError):
        Workspace(Path("/w")).work(digest)


@pytest.mark.parametrize("timeframe", ["", "1", "h", "0h", "1M", "../1h", "1h\n", "10000h"])
def test_a_timeframe_is_a_number_and_a_unit(timeframe):
    with pytest.raises(InputError):
        Workspace(Path("/w")).dataset("nasdaq", "X", timeframe)


def test_where_the_workspace_is(tmp_path, monkeypatch):
    named, given_ = tmp_path / "named", tmp_path / "given ä folder"
    environ = {"ARES_HOME": str(named)}
    assert Workspace.locate(str(given_), environ).home == given_
    assert Workspace.locate(None, environ).home == named
    assert Workspace.locate("", {"ARES_HOME": ""}, cwd=tmp_path).home == tmp_path
    assert Workspace.locate("relative", None, cwd=tmp_path).home == tmp_path / "relative"
    monkeypatch.chdir(tmp_path)
    assert Workspace.locate().home == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workspace.locate("~/x").home == tmp_path / "x"


def test_a_workspace_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="--home"):
        Workspace.locate("a\0b")
    with pytest.raises(ConfigError, match="ARES_HOME"):
        Workspace.locate(None, {"ARES_HOME": str(tmp_path / "file")})
    with pytest.raises(StoreError):
        Workspace(tmp_path / "file" / "below").create()


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_a_workspace_is_not_below_a_file(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--home: the workspace must be a folder"):
        Workspace.locate(tmp_path / "file" / below)


def test_a_bad_exchange_is_called_so():
    with pytest.raises(InputError, match="^exchange: such a name has"):
        Workspace(Path("/w")).dataset("a/../b", "X", "1h")
