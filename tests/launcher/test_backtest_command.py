"""`ares backtest` as a person calls it: what it shows, keeps, and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from ares.ares_launcher.strategy_commands import BUILT_IN as NAMED
from ares.ares_launcher.strategy_commands import why_idle
from ares.backtest.strategies import BUILT_IN, SmaCross
from ares.backtest.user import load_strategy
from backtest_cases import random_bars
from command_line import bars, write_bars

if TYPE_CHECKING:
    from command_line import Ares
    from small_runs import Finished

MARKET = ["--symbol", "IXIC", "--exchange", "nasdaq", "--timeframe", "1d"]
CROSS = ["--strategy", "sma_cross", "--set", "fast=10", "--set", "slow=50"]


def test_backtest_publishes_trades_and_a_page(ares: Ares, finished: Finished) -> None:
    arguments = ("--data", finished.csv, *MARKET, *CROSS)
    done = ares("backtest", *arguments, "--json")
    assert done.code == 0
    answer = done.json
    trades = pd.read_parquet(answer["trades_path"])
    assert len(trades) == answer["n_trades"] == answer["metrics"]["n_trades"]
    twice = answer["metrics_at_twice_the_costs"]
    assert twice["total_return"] < answer["metrics"]["total_return"]
    assert answer["params"]["fast"] == 10
    assert answer["params"]["direction"] == "long"
    assert answer["buy_and_hold"] == finished.bars.close[-1] / finished.bars.open[0] - 1
    assert answer["bars"] == len(finished.bars)
    run = Path(answer["run_dir"])
    assert Path(answer["report_path"]) == run / "report.html"
    assert (run / "report.html").stat().st_size > 100_000
    assert json.loads((run / "metrics.json").read_text())["twice"] == twice
    shown = ares("backtest", *arguments, "--fee", "0", "--slippage", "0")
    assert "costs twice" in shown.out
    assert "Buying at the first open and holding: " in shown.out
    assert "fee 0 bp, slippage 0 bp (given)" in shown.out
    assert shown.err == ""


def test_options_of_a_backtest_change_what_is_traded(ares: Ares, finished: Finished) -> None:
    plain = ["backtest", "--data", finished.csv, *MARKET, *CROSS, "--json"]
    first = ares(*plain).json
    for more in (
        ("--fill", "close"),
        ("--set", "direction=both"),
        ("--set", "stop_loss=2", "--set", "stop_unit=atr"),
        ("--set", "size=0.5", "--set", "take_profit=0.05", "--set", "max_hold=20"),
    ):
        other = ares(*plain, *more).json
        assert other["metrics"] != first["metrics"], more
    year = ares(*plain, "--timerange", "20110101-20120101").json
    days = pd.read_parquet(Path(year["run_dir"]) / "equity.parquet")["time"].dt.year
    assert set(days) <= {2011, 2012}  # closes, not opens
    assert year["bars"] == len(days)


def test_files_without_names_are_not_the_sample(ares: Ares, tmp_path: Path) -> None:
    csv = write_bars(tmp_path / "hidden.csv", bars(600))
    done = ares("backtest", "--data", csv, *CROSS)
    assert done.code == 0
    assert "SmaCross on unnamed 1m, 600 bars, 2020-01-01 to 2020-01-01" in done.out
    assert "fee 10 bp, slippage 5 bp (default" in done.out  # round the clock, as the times say
    assert "IXIC" not in done.out
    page = next((tmp_path / "home" / "runs").glob("*/report.html")).read_text()
    assert "unnamed" in page
    assert "hidden.csv" not in page  # results do not depend on what files are called


def test_what_was_wrong_with_the_data_is_said(ares: Ares, tmp_path: Path) -> None:
    rows = bars(600)
    rows[300][1:5] = [9_000.0, 9_000.0, 9_000.0, 9_000.0]
    csv = write_bars(tmp_path / "bars.csv", rows[:100] + rows[150:])
    done = ares("backtest", "--data", csv, *CROSS)
    assert "In the data: 1 gaps, 50 missing bars, 1 bad prints dropped" in done.out


def test_of_a_part_of_the_data_its_own_gaps_are_said(ares_here: Ares, tmp_path: Path) -> None:
    """The note was on the whole data set, whatever --timerange asked for."""
    rows = bars(2880)
    rows[300][1:5] = [9_000.0, 9_000.0, 9_000.0, 9_000.0]
    csv = write_bars(tmp_path / "bars.csv", rows[:100] + rows[150:2000] + rows[2007:])
    asked = ("backtest", "--data", csv, *CROSS, "--timerange")
    second = ares_here(*asked, "20200102-").out
    assert "In the time range: 1 gaps, 7 missing bars." in second
    whole = (
        "In all data as read, the time range and 1,389 other bars: 2 gaps, 57 missing bars, 1 bad"
    )
    assert whole in second
    assert "In the data:" not in second
    first = ares_here(*asked, "-20200102").out
    assert "In the time range: 2 gaps, 51 missing bars." in first  # the bad print is gone
    assert "In the data: 2 gaps, 57 missing bars" in ares_here(*asked, "20200101-").out


def test_help_names_every_built_in_strategy(ares: Ares) -> None:
    named = [name.strip() for name in NAMED.split(",")]
    assert [load_strategy(name).name for name in named] == list(BUILT_IN)
    said = ares("backtest", "--help").out
    assert all(name in said for name in named)


def test_a_strategy_of_ones_own(ares: Ares, finished: Finished, tmp_path: Path) -> None:
    readme = Path(__file__).parents[2] / "README.md"
    code = readme.read_text().split("```python\n# my_strategy.py\n")[1].split("```")[0]
    code = code.replace("k = params", 'print("a line of its own")\n        k = params')
    (tmp_path / "my_strategy.py").write_text(code)
    arguments = ("--strategy", "my_strategy.py:Momentum", "--data", finished.csv, *MARKET)
    done = ares("backtest", *arguments, "--set", "lookback=50", "--json")
    assert done.code == 0
    assert done.json["n_trades"] > 10
    assert "a line of its own" in done.err  # standard output is one JSON object


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "fats=10"), "Did you mean fast?"),
        (("--set", "fast=50", "--set", "slow=10"), "fast must be below slow"),
        (("--set", "size=0"), "size must be above 0"),
        (("--set", "fast=ten"), "fast must be a finite number; got 'ten'"),
        (("--set", "fee=0.001"), "an option of its own: --fee 0.001"),
        (("--fee", "0.7"), "less than 0.5"),
        (
            ("--fee", "-0.1"),
            "--fee (costs.fee): input should be greater than or equal to 0; got -0.1",
        ),
        (("--fill", "middle"), "'next_open' or 'close'"),
        (("--strategy", "sma_cros"), "the nearest name is SmaCross"),
        (("--strategy", "score_threshold"), "trades a score that is given in Python"),
        (("--strategy", "none.py:Mine"), "must be a Python file"),
        (("--strategy", "broken.py:Mine"), "broken.py:3: Mine() raised ZeroDivisionError"),
        (("--strategy", "syntax.py:Mine"), "syntax.py:2: import raised SyntaxError"),
        (("--strategy", "half.py:Mine"), "got 'no signals'"),
        (("--timerange", "19000101-19000201"), "no bars lie in the time range"),
        (("--timerange", "20110101-20110111"), "needs 50 bars to warm up; got 6"),
    ],
)
def test_bad_input_is_one_clear_message_and_leaves_nothing(
    ares: Ares, finished: Finished, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "broken.py").write_text("class Mine:\n    def __init__(self):\n        1 / 0\n")
    (tmp_path / "syntax.py").write_text("x = 1\ny = = 2\n")
    (tmp_path / "half.py").write_text("class Mine:\n    name, space, prepare = 'm', 1, 2\n")
    done = ares("backtest", "--data", finished.csv, *MARKET, *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""
    assert not list((tmp_path / "home").glob("runs/*"))
    assert not list((tmp_path / "home").glob(".ares/work/*"))


def test_no_trades_where_gaps_leave_no_room_to_warm_up_have_a_reason() -> None:
    missing = np.zeros(100, dtype=int)
    missing[[30, 70]] = 61
    market = random_bars(100, 1, missing=missing)
    assert "never asked for one" in why_idle(SmaCross(), {"slow": 40}, market, 60)
    said = why_idle(SmaCross(), {"slow": 41}, market, 60)
    assert "no stretch has the 41 bars to warm up; the longest has 40." in said
    assert "never asked for one" in why_idle(SmaCross(), {"slow": 41}, market, 61)


def test_a_backtest_without_trades_says_so(ares: Ares, finished: Finished) -> None:
    done = ares("backtest", "--data", finished.csv, *MARKET, "--timerange", "20110101-20110317")
    assert done.code == 0
    assert "There were no trades" in done.out
