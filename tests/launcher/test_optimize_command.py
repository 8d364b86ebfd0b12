"""`ares optimize` as a person calls it: what it shows, keeps, refuses, and how it goes on."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.ares_launcher.search_show import _origins
from command_line import call_here

if TYPE_CHECKING:
    from command_line import Ares
    from small_runs import Finished

SMALL = ("--trials", "48", "--set", "search.initial_samples=32", "--set", "search.generation=16",
         "--set", "search.min_trades=5")  # fmt: skip
NAMED = ("--symbol", "IXIC", "--exchange", "nasdaq", "--timeframe", "1d")
CODE = """
import numpy as np
from ares.backtest.signals import Events
from ares.backtest.space import ParameterSpace

def middle(blocks, days_per_year):
    return float(np.median(blocks.log_growth))

def boom(blocks, days_per_year):
    raise ValueError("no such luck")

def narrow(blocks):
    return 0.0

class Broken:
    name = "Broken"
    space = ParameterSpace.from_bounds({"k": (2, 50)})

    def prepare(self, bars, *, max_gap=None):
        return bars

    def signals(self, prepared, params):
        return prepared.nonsense

class Moody(Broken):
    name = "Moody"

    def signals(self, prepared, params):
        if params["k"] > 20:
            raise ValueError(f"{params['k']} at 0x{id(params):x}")
        if params["k"] > 12:
            return {}["volume"]
        bars = np.arange(0, len(prepared), params["k"])
        none = np.empty(0, dtype=np.int64)
        return Events(bars[::2], bars[1::2], none, none)
"""


@pytest.fixture
def search(finished: Finished, tmp_path: Path) -> Any:
    (tmp_path / "mine.py").write_text(CODE)
    return _search_in(tmp_path, finished)


def _search_in(folder: Path, finished: Finished) -> Any:
    return lambda *more, **keywords: call_here(
        folder, "optimize", "--data", finished.csv, *NAMED, *SMALL, *more, **keywords
    )


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, finished: Finished) -> tuple[Any, Any]:
    """The same search from the engine and from the cache."""
    run = _search_in(tmp_path_factory.mktemp("twice"), finished)
    return run("--json").json, run("--json", "-j", "1").json


@given(
    st.lists(st.tuples(st.sampled_from(["engine", "memory", "store"]), st.sampled_from([0, 0, 2]))),
    st.integers(0, 5),
    st.data(),
)
def test_each_point_is_counted_once(
    points: list[tuple[str, int]], resumed: int, data: st.DataObject
) -> None:
    ran = [number for number, (_, stage) in enumerate(points) if stage == 0]
    raised = data.draw(st.sets(st.sampled_from(ran)) if ran else st.just(set()))
    found = SimpleNamespace(
        failures=[SimpleNamespace(numbers=(number,)) for number in sorted(raised)],
        trials=pd.DataFrame({"stage": [stage for _, stage in points]}, dtype="int64"),
        volatile=pd.DataFrame({"source": [source for source, _ in points]}, dtype="object"),
    )
    told = _origins(SimpleNamespace(found=found, resumed=min(resumed, len(points))))  # type: ignore[arg-type]
    counts = {what: int(n) for n, what in re.findall(r"(\d+) ([a-z ]+)", told)}
    assert sum(counts.values()) == len(points)
    assert 0 not in counts.values()
    later = [p for n, p in enumerate(points) if n >= resumed and n not in raised]
    assert counts.get("failed", 0) == sum(number >= resumed for number in raised)
    assert counts.get("from before the interruption", 0) == min(resumed, len(points))
    assert counts.get("stopped early", 0) == later.count(("engine", 2))
    assert counts.get("run in full", 0) == later.count(("engine", 0))


def test_the_account_of_a_repeated_search_adds_up(search: Any) -> None:
    account = r"48 points on 1,920 bars, \S+ to \S+: (.*); [\d,]+ per second\.(.*)"
    first, again = (re.search(account, search().out) for _ in range(2))
    assert first is not None
    assert again is not None
    assert sum(map(int, re.findall(r"(\d+) ", first[1]))) == 48
    assert "cache" not in first[1]
    assert again[1] == "48 from the cache"
    assert again[2] == first[2]


def _without_volatile(page: str) -> str:
    return re.sub(r'<section id="volatile">.*?</section>', "", page, flags=re.DOTALL)


def test_a_search_shows_its_winner_with_what_speaks_against_it(search: Any) -> None:
    done = search("--param", "fast=5:20", "--param", "direction=long,both")
    assert done.code == 0
    for said in (
        "Best of SmaCross: score ",
        "5 to 20, log",
        "long, both",
        "buy and hold",
        "deflated Sharpe ratio, 48 trials",
        "probability of backtest overfitting",
        "only days that no search saw can prove it",
        "48 points on 1,920 bars",
        "Early stopping",
        "The winner was run again by the plain bar loop: same result.",
        "Try the winner once on bars that the search did not see:",
        "report.html",
    ):
        assert said in done.out, said


def test_what_to_run_next_runs_on_the_bars_that_were_held_back(
    search: Any, ares_here: Ares, finished: Finished
) -> None:
    answer = search(
        "--param", "stop_loss=0.02:0.2:log", "--fee", "0.002", "--set", "data.max_gap=30", "--json"
    ).json
    words = shlex.split(answer["next_command"])
    assert words[:3] == ["ARES_DATA__MAX_GAP=30", "ares", "backtest"]
    after = ares_here(*words[2:], "--json", ARES_DATA__MAX_GAP="30").json
    held_back = len(finished.bars) - round(0.8 * len(finished.bars))
    assert after["bars"] == held_back
    assert after["costs"]["fee"] == 0.002
    assert {k: after["params"][k] for k in answer["best"]["params"]} == answer["best"]["params"]
    run = Path(after["run_dir"])
    assert json.loads((run / "manifest.json").read_text())["data"]["first"].startswith(
        f"{pd.Timestamp(finished.bars.timestamp[-held_back]):%Y-%m-%d}"
    )


def test_json_has_the_names_that_machines_read(twice: tuple[Any, Any]) -> None:
    answer = twice[0]
    assert answer.keys() >= {
        "run_dir", "best", "trials", "full", "stopped", "cached", "failed", "trials_per_second",
        "trials_digest", "memory", "overfitting", "early_stopping", "outcomes", "next_command",
    }  # fmt: skip
    assert answer["best"].keys() >= {"params", "score", "standard_error", "metrics"}
    assert answer["memory"].keys() == {"peak_bytes", "budget_bytes", "evictions"}
    assert answer["trials"] == 48 == answer["full"] + answer["stopped"]
    overfitting = answer["overfitting"]
    assert overfitting["n_trials"] == 48
    assert overfitting["points"] <= 32
    assert 0 <= overfitting["dsr"] <= 1
    assert 0 <= overfitting["pbo"]["probability"] <= 1
    trials = pd.read_parquet(Path(answer["run_dir"]) / "trials.parquet")
    full = trials[trials["status"] == "full"]
    assert full["value"].max() == answer["best"]["score"]


def test_the_same_search_makes_the_same_page_from_engine_and_from_cache(
    twice: tuple[Any, Any],
) -> None:
    first, again = twice
    assert first["cached"] == 0
    assert again["cached"] == 48
    assert again["trials_digest"] == first["trials_digest"]
    one, two = (Path(each["report_path"]).read_text() for each in (first, again))
    assert _without_volatile(one) == _without_volatile(two)
    assert one != two  # the volatile part says when


def test_param_fixes_and_narrows_what_is_searched(search: Any) -> None:
    answer = search(
        "--param", "fast=10", "-p", "slow=40:60", "--param", "cooldown=0:5", "--json"
    ).json
    trials = pd.read_parquet(Path(answer["run_dir"]) / "trials.parquet")
    assert set(trials["param_fast"]) == {10}
    assert trials["param_slow"].between(40, 60).all()
    assert trials["param_cooldown"].between(0, 5).all()
    assert "param_direction" not in trials
    assert answer["space"]["slow"]["log"]  # the strategy's own scale stays


def test_the_direction_is_long_unless_somebody_says_otherwise(
    search: Any, twice: tuple[Any, Any], tmp_path: Path
) -> None:
    (tmp_path / "both.toml").write_text('[search]\ndirection = "both"\n')
    plain = twice[0]
    assert "direction" not in plain["best"]["params"]
    said = search("--config", "both.toml", "--json").json
    assert said["best"]["params"]["direction"] == "both"
    other = search("--config", "both.toml", "--param", "direction=short", "--json").json
    assert other["best"]["params"]["direction"] == "short"
    config = (Path(other["run_dir"]) / "config.toml").read_text()
    assert 'direction = "short"' in config
    assert (
        "direction" not in (Path(plain["run_dir"]) / "config.toml").read_text().split("[search]")[1]
    )


def test_an_objective_of_ones_own_is_maximised_as_it_is(search: Any) -> None:
    answer = search("--objective", "mine.py:middle", "--json").json
    assert answer["objective"] == {"name": "middle", "penalty": 0.0, "min_trades": 5}
    manifest = json.loads((Path(answer["run_dir"]) / "manifest.json").read_text())
    assert manifest["objective"] == "middle"
    assert manifest["objective_identity"]
    assert "Objective: the function middle" in (Path(answer["run_dir"]) / "config.toml").read_text()


def test_without_a_score_the_outcomes_are_counted(search: Any) -> None:
    done = search("--set", "search.min_trades=5000", "--set", "search.penalty=0")
    assert done.code == 1
    assert "No point of SmaCross had a score:" in done.out
    assert "48 had fewer than 5000 trades (search.min_trades)" in done.out
    assert "Try the winner" not in done.out


def test_where_every_point_raised_the_first_error_is_told(search: Any, tmp_path: Path) -> None:
    done = search("--strategy", "mine.py:Broken")
    assert done.code == 2
    assert "none of the 48 points has a score" in done.err
    assert re.search(r"mine\.py:\d+: Broken\.signals raised AttributeError", done.err)
    objective = search(
        "--objective", "mine.py:boom", "--set", "search.min_trades=1", "-p", "slow=10:40"
    )
    assert objective.code == 2
    assert "the objective raised ValueError: no such luck" in objective.err
    assert not list((tmp_path / "home").glob("runs/*"))
    some = search("--objective", "mine.py:boom", "--set", "search.min_trades=25")
    assert some.code == 1
    told = re.search(r"\n(\d+) points failed: (\S+): boom: the objective raised (.*)", some.out)
    assert told is not None, some.out
    assert told[2] == _line(tmp_path, 'raise ValueError("no such luck")')
    assert re.fullmatch(r"ValueError: no such luck; first at fast=\d+, slow=\d+\.", told[3])
    few = re.search(r"  (\d+) had fewer than 25 trades", some.out)
    assert few is not None
    assert int(told[1]) + int(few[1]) == 48
    assert re.search(rf": {few[1]} (run in full|from the cache), {told[1]} failed; ", some.out)
    assert "no finite number" not in some.out


def _line(folder: Path, code: str) -> str:
    lines = CODE.splitlines()
    return f"{folder / 'mine.py'}:{1 + next(n for n, line in enumerate(lines) if code in line)}"


def test_what_most_failed_points_raised_is_told_everywhere(
    search: Any, ares_here: Ares, tmp_path: Path
) -> None:
    again = ("--strategy", "mine.py:Moody", "--set", "search.min_trades=1", "--json")
    answer = search(*again).json
    trials = pd.read_parquet(Path(answer["run_dir"]) / "trials.parquet")
    k = trials["param_k"]
    assert answer["raised"] == (k > 12).sum()
    assert answer["trials"] == answer["full"] + answer["stopped"] + answer["raised"]
    first = trials[k > 20].iloc[0]
    often, rare = answer["failures"]
    assert often == {
        "type": "ValueError",
        "where": _line(tmp_path, "raise ValueError(f"),
        "message": f"Moody.signals raised ValueError: {first['param_k']} at 0x...",
        "count": (k > 20).sum(),
        "params": {"k": first["param_k"]},
    }
    assert (rare["type"], rare["count"]) == ("KeyError", ((k > 12) & (k <= 20)).sum())
    page = Path(answer["report_path"]).read_text()
    assert "What failed" in page
    assert often["where"].rpartition("/")[2] in page
    assert str(tmp_path) not in page.split('<section id="volatile">')[0]
    assert "Moody.signals raised ValueError" in page
    assert search(*again, "--engine", "processes").json["failures"] == answer["failures"]
    shown = search(*again[:-1]).out
    assert f"{answer['raised']} points failed, {often['count']} of them alike: " in shown
    assert "There is 1 other kind of error." in shown
    assert f"{answer['raised']} failed." in ares_here("runs", "show", "last").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trials", "0"), "greater than or equal to 1"),
        (("--objective", "sharp"), "The nearest name is sharpe"),
        (
            ("--objective", "mine.py:narrow"),
            "called as f(blocks, days_per_year); got 'narrow(blocks)'",
        ),
        (("--param", "fats=3"), "Did you mean fast?"),
        (("--set", "fast=10"), "--param fast=10"),
        (("--scheduler", "tcp://x:1"), "Add --engine dask"),
    ],
)
def test_bad_input_is_one_clear_message_and_no_run(
    search: Any, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = search(*arguments)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""
    assert not list((tmp_path / "home").glob("runs/*"))


def test_with_a_timerange_all_of_it_is_searched_and_what_follows_is_next(search: Any) -> None:
    answer = search("--timerange", "20100101-20160101", "--json").json
    assert answer["held_back"] is None
    assert "--timerange 20160101-" in answer["next_command"]
    done = search("--timerange", "20100101-", "--trials", "4")
    assert "nothing is held back to try the winner on" in done.out
    assert "Too few points with numbers" in done.out or "deflated" in done.out


def test_an_interrupted_search_goes_on_where_it_was(
    search: Any, finished: Finished, tmp_path: Path
) -> None:
    trials = "12000"  # long enough to be interrupted on a machine that is busy
    command = [sys.executable, "-m", "ares.ares_launcher", "optimize", "--data", str(finished.csv),
               *NAMED, *SMALL, "--trials", trials, "-j", "1"]  # fmt: skip
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ARES_", "PYTHONDONT"))}
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**clean, "ARES_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _wait_for_a_generation(tmp_path / "home", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    told = re.search(
        rf"after (\d+) of {trials} points. They are kept: the same command goes on", err
    )
    assert told is not None, err
    resumed = search("--trials", trials, "-j", "1", "--set", "search.penalty=1", "--json").json
    assert resumed["resumed"] >= int(told[1]) >= 16
    fresh = search("--trials", trials, "--json", home=tmp_path / "other").json
    assert fresh["resumed"] == 0
    assert fresh["trials_digest"] == resumed["trials_digest"]


def _wait_for_a_generation(home: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        for path in home.glob(".ares/work/*/ledger.sqlite"):
            try:
                with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                    if database.execute("SELECT COUNT(*) FROM generations").fetchone()[0] >= 2:
                        return
            except sqlite3.Error:
                continue
            finally:
                database.close()
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail("no generation within a minute")


def test_runs_of_searches_are_listed_shown_compared_and_reported(
    search: Any, ares_here: Ares
) -> None:
    one = search("--json").json
    two = search("--strategy", "ema_cross", "--param", "slow=30:80", "--json").json
    first, second = (Path(each["run_dir"]).name for each in (one, two))
    entries = {e["run_id"]: e for e in ares_here("runs", "list", "--json").json["runs"]}
    assert [entries[n]["strategy"] for n in (first, second)] == ["SmaCross", "EmaCross"]
    assert entries[first]["kind"] == "optimize"
    assert entries[first]["metrics"]["score"] == one["best"]["score"]
    shown = ares_here("runs", "show", first).out
    assert "SmaCross, its winner in sample" in shown
    assert "48 points" in shown
    compared = ares_here("runs", "compare", first, second, "--json").json
    assert {"strategy", "params"} <= set(compared["differing"])
    assert "slow" in ares_here("runs", "compare", first, second).out
    page = Path(two["report_path"])
    before = page.read_text()
    page.unlink()
    assert ares_here("report", "last", "--json").json["report"] == str(page)
    assert page.read_text() == before


def test_the_report_of_a_backtest_is_found_and_a_lost_one_told(
    ares_here: Ares, finished: Finished
) -> None:
    answer = ares_here("backtest", "--data", finished.csv, *NAMED, "--json").json
    assert ares_here("report", "--json").json["report"] == answer["report_path"]
    Path(answer["report_path"]).unlink()
    lost = ares_here("report")
    assert lost.code == 2
    assert "Run the backtest again" in lost.err
