"""`ares data check`, `ares data list` and `ares import`, with good and bad files."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from command_line import bars, write_bars

if TYPE_CHECKING:
    from command_line import Ares

COUNTS = {
    "rows", "first", "last", "missing_bars", "gaps", "duplicates", "out_of_order", "impossible",
    "bad_prints", "stale_open",
}  # fmt: skip
MARKET = ("--symbol", "BTCUSD", "--exchange", "local", "--timeframe", "1m")


def test_check_counts_without_a_declared_timeframe(ares: Ares, minute_csv: Path) -> None:
    report = ares("data", "check", minute_csv, "--json").json
    assert set(report) >= COUNTS
    assert report["rows"] == 2880
    assert report["missing_bars"] == report["duplicates"] == report["impossible"] == 0
    assert report["first"] == "2020-01-01T00:00:00Z"


def _cell(row: int, column: int, value: Any) -> list[list[Any]]:
    rows = bars(500)
    rows[row][column] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        (_cell(7, 1, "abc"), "row 9, column open"),
        (_cell(7, 2, ""), "row 9, column high"),
        (_cell(7, 4, "nan"), "row 9, column close"),
        (_cell(7, 3, -5), "row 9, column low"),
        (_cell(7, 2, 1.0), "row 9, column high"),
    ],
)
def test_impossible_rows_are_counted_by_check_and_refused_by_everything_else(
    ares: Ares, tmp_path: Path, rows: list[list[Any]], where: str
) -> None:
    file = write_bars(tmp_path / "bad.csv", rows)
    checked = ares("data", "check", file, "--json")
    assert checked.code == 0
    assert checked.json["impossible"] == 1
    for command in (("import", file, *MARKET), ("backtest", "--data", file, *MARKET)):
        refused = ares(*command)
        assert refused.code == 2
        assert f"bad.csv, {where}" in refused.err


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", (), "the file is empty"),
        ("timestamp,open,high,low,close,volume\n", (), "no rows"),
        ("timestamp,open,high\n1577836800000,1,2\n", (), "low, close, volume are missing"),
        ("a,b\n1,2\n", (), "missing"),
        ("\0\0\0\0", (), ""),
    ],
)
def test_files_that_are_no_bars(
    ares: Ares, tmp_path: Path, content: str, options: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "odd.csv"
    file.write_text(content)
    for command in (("data", "check", file), ("import", file, *MARKET)):
        done = ares(*command, *options)
        assert done.code == 2
        assert message in done.err
        assert "odd.csv" in done.err


def test_mixed_units_a_declared_header_and_a_wrong_timeframe(ares: Ares, tmp_path: Path) -> None:
    rows = bars(300)
    rows[9][0] //= 1000
    mixed = ares("data", "check", write_bars(tmp_path / "mixed.csv", rows))
    assert mixed.code == 2
    assert "timestamps of one unit" in mixed.err
    good = write_bars(tmp_path / "good.csv", bars(300))
    order = "timestamp,open,high,low,close,volume"
    declared = ares("data", "check", good, "--columns", order)
    assert declared.code == 2
    assert "no header line" in declared.err
    wrong = ares("import", good, "--symbol", "X", "--timeframe", "1h")
    assert wrong.code == 2
    assert "Is the timeframe 1m?" in wrong.err


def test_unsorted_and_duplicate_rows_are_resolved_and_counted(ares: Ares, tmp_path: Path) -> None:
    rows = bars(300)
    rows[5], rows[6] = rows[6], rows[5]
    rows.insert(20, list(rows[19]))
    file = write_bars(tmp_path / "messy.csv", rows)
    report = ares("data", "check", file, "--json").json
    assert (report["rows"], report["duplicates"], report["out_of_order"]) == (301, 1, 1)
    assert ares("import", file, *MARKET).code == 0


def test_import_list_and_use_without_files(ares: Ares, minute_csv: Path) -> None:
    assert "No datasets yet" in ares("data", "list").out
    first = ares("import", minute_csv, *MARKET, "--json").json
    assert (first["before"], first["after"], first["changed"]) == (0, 2880, True)
    again = ares("import", minute_csv, *MARKET, "--json").json
    assert (again["before"], again["after"], again["changed"]) == (2880, 2880, False)
    (entry,) = ares("data", "list", "--json").json["datasets"]
    assert (entry["symbol"], entry["bars"], entry["first"]) == (
        "BTCUSD", 2880, "2020-01-01T00:00:00Z",
    )  # fmt: skip
    minute_csv.unlink()
    done = ares("backtest", *MARKET, "--set", "fast=5", "--set", "slow=20", "--json")
    assert done.code == 0
    assert done.json["n_trades"] > 10


def test_import_needs_a_market_and_a_safe_symbol(ares: Ares, minute_csv: Path) -> None:
    assert "needs a symbol" in ares("import", minute_csv).err
    assert "no file was named" in ares("import").err
    for symbol in ("../../x", "a\nb", "", "x" * 41):
        assert ares("import", minute_csv, "--symbol", symbol, "--timeframe", "1m").code == 2


def test_control_characters_never_reach_the_terminal(ares: Ares, tmp_path: Path) -> None:
    file = write_bars(tmp_path / "evil.csv", _cell(3, 1, "\x1b[2J"))
    shown = ares("data", "check", file)
    assert "\x1b" not in shown.out + shown.err


@pytest.mark.parametrize("command", [("data", "check"), ("import",)])
def test_what_need_not_end_is_refused_at_once(
    ares: Ares, tmp_path: Path, command: tuple[str, ...]
) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/zero")):
        done = ares(*command, path, "--symbol", "S", "--timeframe", "1m")
        assert done.code == 2
        assert "this must be a regular file" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("compiled", [False, True])
def test_an_interrupted_check_says_that_it_begins_anew(
    ares_here: Ares, monkeypatch: pytest.MonkeyPatch, number: int, compiled: bool
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:
            if compiled:  # what CPython makes of an interruption within a kernel of numba
                raise SystemError("a result with an exception set") from error
            raise

    monkeypatch.setattr("ares.market.streaming.report_files", interrupted)
    done = ares_here("data", "check", "bars.csv", "--json")
    assert done.code == 130
    assert done.json["error"]["message"] == "Interrupted. The same command begins anew."


@pytest.mark.parametrize(
    ("command", "next_time"),
    [
        ("train", "continues"), ("train --fresh", "begins anew"), ("optimize", "continues"), ("precompute", "continues"),
        ("backtest", "begins anew"), ("runs list", "begins anew"), ("data list", "begins anew"),
    ],
)  # fmt: skip
def test_only_a_command_that_goes_on_from_there_says_so(
    ares_here: Ares, monkeypatch: pytest.MonkeyPatch, command: str, next_time: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("ares.store.workspace.Workspace.locate", interrupted)
    done = ares_here(*command.split(), "--json")
    assert done.code == 130
    assert done.json["error"]["message"] == f"Interrupted. The same command {next_time}."


def test_a_system_error_of_another_cause_is_an_internal_error(
    ares_here: Ares, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise SystemError("broken") from ValueError("value")

    monkeypatch.setattr("ares.market.streaming.report_files", broken)
    done = ares_here("data", "check", "bars.csv")
    assert done.code == 1
    assert "Internal error: SystemError: broken" in done.err


def test_an_empty_exchange_is_refused(ares_here: Ares, minute_csv: Path) -> None:
    done = ares_here("import", minute_csv, "--symbol", "S", "--timeframe", "1m", "--exchange", "")
    assert done.code == 2
    assert "exchange" in done.err


def test_a_resampling_that_gives_nothing_says_what_to_do(ares_here: Ares, minute_csv: Path) -> None:
    assert ares_here("import", minute_csv, *MARKET).code == 0
    short = ares_here("data", "resample", *MARKET, "--to", "1w")
    assert short.code == 2
    assert "a whole interval of 1w; got '2,880 bars of 1m'. Choose a shorter" in short.err
    same = ares_here("data", "resample", *MARKET, "--to", "1m")
    assert "There is nothing to resample" in same.err


def test_a_resampling_after_a_repair_says_that_bars_are_gone(
    ares_here: Ares, tmp_path: Path
) -> None:
    """It said "0 dropped" while the days of a damaged year vanished."""
    rows = [[row[0] - 86_400_000, *row[1:]] for row in bars(3 * 1440)]  # from 2019-12-31 on
    years = write_bars(tmp_path / "two.csv", rows)
    assert ares_here("import", years, *MARKET).code == 0
    first = ares_here("data", "resample", *MARKET, "--to", "1d")
    assert "0 bars before, 3 now in " in first.out
    (part,) = (tmp_path / "home" / "data" / "local").glob("*/1m/2020-*.parquet")
    part.write_bytes(b"")
    assert ares_here("data", "repair", *MARKET).code == 0
    again = ares_here("data", "resample", *MARKET, "--to", "1d")
    assert "3 bars before, 1 now in " in again.out
    assert "dropped" not in again.out
    assert "Nothing new; 1 bars" in ares_here("data", "resample", *MARKET, "--to", "1d").out
