"""What a newcomer gets wrong on the command line, and what is said about it."""

from __future__ import annotations

import inspect
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import small_runs
from ares.ares_launcher import options
from ares.ares_launcher.output import _ToStderr
from command_line import bars, write_bars

if TYPE_CHECKING:
    from command_line import Ares
    from small_runs import Finished


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--mode", "quik"), "--mode (enhanced_training_manager.mode): "),
        (("config", "init", "--mode", "fulll"), "--mode (enhanced_training_manager.mode): "),
        (("backtest", "--fill", "clos"), "--fill (search.fill): "),
        (("optimize", "--fill", "clos"), "--fill (search.fill): "),
        (("precompute", "--fill", "clos"), "--fill (search.fill): "),
        (("backtest", "--symbol", ""), "--symbol (data.symbol): "),
        (("train", "--memory", "much"), "--memory (computational_optimization.memory_manageme"),
        (("optimize", "--set", "search.fill=clos"), "--set search.fill: "),
        (("train", "--set", "search.fil=close"), "--set search.fil: "),
        (("train", "--set", "serch.fill=close"), "--set serch.fill: "),
        (("config", "show", "--set", "costs.fee=-1"), "--set costs.fee: "),
    ],
)
def test_a_wrong_value_is_told_under_what_was_typed(
    ares_here: Ares, arguments: tuple[str, ...], said: str
) -> None:
    done = ares_here(*arguments)
    assert done.code == 2
    assert done.err.startswith(f"Error: {said}"), done.err


def test_a_value_from_elsewhere_is_told_from_there(ares_here: Ares, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[search]\nfill = "clos"\n')
    file = ares_here("backtest", "--config", "a.toml", "--fee", "0.1")
    assert file.err.startswith("Error: a.toml: search.fill: ")
    assert "Did you mean close?" in file.err
    environment = ares_here("train", "--trials", "9", ARES_SEARCH__FILL="clos")
    assert environment.err.startswith("Error: environment: search.fill: ")


def test_a_dataset_of_nearly_this_name_is_asked_for(ares_here: Ares, tmp_path: Path) -> None:
    file = write_bars(tmp_path / "bars.csv", bars(3000))
    for symbol, exchange in (("BTCUSD", "bitfinex"), ("BTCUSD", "kraken"), ("DOGE", "bitfinex")):
        name = ("--symbol", symbol, "--exchange", exchange, "--timeframe", "1m")
        assert ares_here("import", file, *name).code == 0
    for asked, meant in (
        (("btcusd", "bitfinex", "1m"), ("BTCUSD", "bitfinex", "1m")),
        (("BTC/USD", "Kraken", "1m"), ("BTCUSD", "kraken", "1m")),
        (("DOGE", "nasdaq", "5m"), ("DOGE", "bitfinex", "1m")),
        (("ixic", "nasdaq", "1d"), ("IXIC", "nasdaq", "1d")),
    ):
        options = ("--symbol", "--exchange", "--timeframe")
        given = [word for pair in zip(options, asked, strict=True) for word in pair]
        words = " ".join(word for pair in zip(options, meant, strict=True) for word in pair)
        done = ares_here("backtest", *given)
        assert done.code == 2
        assert f"Did you mean {words}?" in done.err
    other = ares_here("backtest", "--symbol", "AAPL", "--exchange", "nasdaq", "--timeframe", "1d")
    assert "no bars are known" in other.err
    assert "Did you mean" not in other.err
    repair = ares_here("data", "repair", "--symbol", "doge", "--timeframe", "1m")
    assert "Did you mean --symbol DOGE --exchange bitfinex" in repair.err


@pytest.mark.parametrize("count", [20, 86, 399])
def test_too_few_bars_for_training_is_a_sentence(
    ares_here: Ares, tmp_path: Path, count: int
) -> None:
    file = write_bars(tmp_path / "few.csv", bars(count))
    market = ("--symbol", "X", "--exchange", "e", "--timeframe", "1m")
    done = ares_here("train", "--data", file, *market)
    assert done.code == 2
    error = done.err[done.err.index("Error: ") :]
    assert error.startswith(f"Error: X e 1m: {count} bars are too few to train on: ")
    assert "Load more data" in error


def test_bounds_in_the_wrong_order_are_told_as_such(ares_here: Ares) -> None:
    for given, swapped in (("fast=50:5", "5, 50"), ("stop_loss=0.1:0.01:log", "0.01, 0.1")):
        done = ares_here("optimize", "-p", given)
        assert done.code == 2
        assert "low must not exceed high" in done.err
        assert f"The lower bound comes first: {swapped}." in done.err
        assert "log" not in done.err


def test_what_searches_repeat_is_shown_once_by_what_their_records_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = logging.getLogger("ares.test")
    handler = _ToStderr()
    log.addHandler(handler)
    try:
        for number in range(3):
            log.warning("off, as %d are few", number, extra={"once": "off"})
            log.warning("another %d", number // 2)
    finally:
        log.removeHandler(handler)
    shown = capsys.readouterr().err
    assert [shown.count(text) for text in ("off, as", "another 0", "another 1")] == [1, 1, 1]


def test_precompute_says_who_finds_what(ares_here: Ares, finished: Finished) -> None:
    market = ("--data", finished.csv, "--symbol", "IXIC", "--exchange", "nasdaq", "--timeframe",
              "1d", *(f"--set={k}={json.dumps(v)}" for k, v in small_runs.SMALL.items()))  # fmt: skip
    plain = ares_here("precompute", *market).out
    assert "`ares train` with the same options takes steps and features from there." in plain
    assert "ares optimize" not in plain
    without = ares_here("precompute", *market, "--strategy", "sma_cross").out
    assert "This strategy has no slow columns: nothing was kept for `ares optimize`." in without
    with_ = ares_here("precompute", *market, "--strategy", "bollinger_reversion").out
    assert "`ares optimize` with the same strategy and options takes the columns." in with_
    search = (*market[:8], "--strategy", "bollinger_reversion", "--trials", "16", "--json")
    run = Path(ares_here("optimize", *search).json["run_dir"])
    columns = json.loads((run / "run_info.json").read_text())["columns"]
    assert columns["recalled"] > 0
    assert columns["made"] == 0


def test_every_key_that_an_option_sets_has_an_option_of_that_name() -> None:
    from ares.ares_launcher import search_commands, train_commands
    from ares.core.settings import load_settings

    known = load_settings({}, environ={}).origins
    commands = (search_commands.optimize, train_commands.train)
    shown = {
        word
        for command in commands
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        for meta in getattr(parameter.annotation, "__metadata__", ())
        for word in (meta.default, *meta.param_decls)  # typer takes the first one apart
    }
    assert set(options.SPELLED) <= set(known)
    assert set(options.SPELLED.values()) <= shown
