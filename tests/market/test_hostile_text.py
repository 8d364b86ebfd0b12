"""Text that means harm, in names of files, headers, cells and symbols, has nowhere to go."""

from __future__ import annotations

import itertools
import logging
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ares.core.errors import DataError, InputError
from ares.market.files import load_bars
from ares.market.stored.datasets import import_files, load_dataset
from ares.market.streaming import report_files
from ares.store import safe_name
from ares.store.workspace import Workspace

NAMES = ("BTCUSD", "bitfinex", "1m")
MARKET = dict(zip(("symbol", "exchange", "timeframe"), NAMES, strict=True))
HEADER = "timestamp,open,high,low,close,volume"
ROWS = [f"{1_600_000_020 + 60 * n},10.5,11.25,9.125,10.0625,1.5" for n in range(6)]
HOSTILE = [
    '=HYPERLINK("http://x";"y")',
    "<script>alert(1)</script>",
    "{{title}}",
    "\x1b[2J\x1b]0;owned\x07",
    "'+cmd|' /C calc'!A0",
    "\u202eevil",
    "a\u2028b",
    "%{x}<a href='javascript:alert(1)'>",
]


def clear(error):
    return str(error).isprintable() and error.exit_code == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_spare_columns_of_a_file_are_kept_nowhere(tmp_path, text):
    quoted = '"' + text.replace('"', '""') + '"'
    lines = [f"{quoted},{HEADER}", *(f"{quoted},{row}" for row in ROWS)]
    path = tmp_path / "bars.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    workspace = Workspace(tmp_path / "home")
    folder = import_files(workspace, path, **MARKET).path
    assert len(load_dataset(workspace, *NAMES)) == 6
    assert text not in "\n".join(report_files(path).lines())
    assert text not in (folder / "manifest.json").read_text()
    for part in folder.glob("[12]*.parquet"):
        assert pq.read_schema(part).names == HEADER.split(",")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("place", ["header", "cell", "time", "file", "parquet"])
def test_an_error_or_a_report_shows_hostile_text_escaped_on_one_line(tmp_path, text, place, caplog):
    caplog.set_level(logging.DEBUG)
    quoted = '"' + text.replace('"', '""') + '"'
    path = tmp_path / "bars.csv"
    lines = [HEADER, *ROWS]
    if place == "header":
        lines[0] = HEADER.replace("close", quoted)
    elif place == "cell":
        lines[3] = lines[3].replace("11.25", quoted)
    elif place == "time":
        lines[3] = quoted + lines[3][10:]
    elif place == "file":
        path = tmp_path / (text.replace("/", "_") + ".csv")
        lines[3] = lines[3].replace("11.25", "-1")
    if place == "parquet":
        path = tmp_path / "bars.parquet"
        columns = dict.fromkeys([*HEADER.split(",")[:4], text, "volume"], [1.0] * 3)
        pq.write_table(pa.table(columns), path)
    else:
        path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_bars(path, **MARKET)
    assert clear(caught.value)
    if place in {"header", "parquet"}:
        with pytest.raises(DataError) as caught:
            report_files(path, timeframe="1m")
        assert clear(caught.value)
    else:
        report = report_files(path, timeframe="1m")
        assert report.impossible == 1
        assert "\x1b" not in "\n".join(report.lines())
    assert "\x1b" not in caplog.text


@given(st.text(st.characters(), max_size=20), st.text(st.characters(), max_size=20))
@example("caf\u00e9", "cafe\u0301")
@example("BTC/USDT", "btc-usdt")
@example("\u00df", "SS")
@example("\u0130", "i\u0307")
@example("\ufb01", "fi")
@example("CON", "con")
def test_distinct_symbols_share_no_folder_on_any_file_system(a, b):
    """Folded as case-insensitive and normalising file systems do (HFS+: NFD, APFS: NFC, NTFS)."""
    forms = [
        {
            unicodedata.normalize(form, name).casefold().rstrip(". ")
            for name in map(safe_name, (a, b))
        }
        for form in ("NFC", "NFD", "NFKC", "NFKD")
    ]
    assert all(len(names) == (1 if a == b else 2) for names in forms)


PARTS = st.from_regex(r"[A-Za-z0-9^][A-Za-z0-9._:/^=@+-]{0,8}", fullmatch=True)


@given(st.sets(PARTS, min_size=2, max_size=6))
@example({"BTC/USDT", "BTC-USDT", "btc/usdt", "BTC.USDT", "BTC:USDT"})
def test_allowed_symbols_and_exchanges_make_folders_of_their_own(texts):
    workspace = Workspace(tmp := workspace_home())
    folders = set()
    count = 0
    for symbol, exchange in itertools.product(texts, texts):
        try:
            folder = workspace.dataset(exchange, symbol, "1m")
        except InputError:
            continue  # two dots in a row
        count += 1
        folders.add(unicodedata.normalize("NFD", str(folder)).casefold())
        assert folder.is_relative_to(tmp / "data")
        assert len(folder.relative_to(tmp / "data").parts) == 3
    assert len(folders) == count


def workspace_home():
    return Workspace.locate("/home/of/ares").home
