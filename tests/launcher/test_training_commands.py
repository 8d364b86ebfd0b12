"""`ares train`, `optimize`, `runs`, `signal` and `report`, as a person calls them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import small_runs
from ares.store.jsonio import json_bytes

if TYPE_CHECKING:
    from command_line import Ares
    from small_runs import Finished

SETS = [f"--set={key}={json.dumps(value)}" for key, value in small_runs.SMALL.items()]
MARKET = ["--symbol", "IXIC", "--exchange", "nasdaq", "--timeframe", "1d"]


@pytest.fixture
def home(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished run's workspace, free to change."""
    return Path(shutil.copytree(finished.home, tmp_path / "copy"))


def _train(ares: Ares, finished: Finished, home: Path, *more: str) -> Any:
    return ares("train", *MARKET, "--data", finished.csv, *SETS, *more, home=home)


def test_a_second_train_recomputes_no_step(ares: Ares, finished: Finished, home: Path) -> None:
    done = _train(ares, finished, home, "--json")
    assert done.code == 0
    answer = done.json
    assert set(answer) >= {"run_id", "run_dir", "verdict", "metrics", "steps"}
    assert [step["number"] for step in answer["steps"]] == list(range(1, 17))
    assert all(step["cached"] for step in answer["steps"])
    assert answer["verdict"] == finished.result.verdict
    assert Path(answer["run_dir"], "report.html").stat().st_size > 100_000
    first, second = (small_runs.artifacts(p) for p in (finished.run_dir, Path(answer["run_dir"])))
    assert small_runs.difference(first, second) == []


def test_train_ends_with_table_verdict_and_report(
    ares: Ares, finished: Finished, home: Path
) -> None:
    done = _train(ares, finished, home)
    assert done.code == 0
    lines = done.out.strip().splitlines()
    assert lines[-1].startswith("Report: ")
    assert lines[-2] == finished.result.verdict
    assert "candidate" in lines[-2]
    assert lines[-3].startswith("A candidate is a configuration that was validated on these bars")
    assert "points searched inside the windows are none" in lines[-3]
    assert lines[-3] in ares("runs", "show", home=home).out
    page = (finished.run_dir / "report.html").read_text()
    assert f"1 candidate validated. {lines[-3]}" in page
    assert "walk-forward validation" in done.out
    assert "Costs per side: fee 1 bp, slippage 2 bp (default" in done.out
    assert "step 16 saving: kept" in done.err


def test_what_every_window_warns_of_is_one_warning_and_a_count(
    ares: Ares, finished: Finished
) -> None:
    """Flat-start blocks of these bars are too short in both windows, not in the final search."""
    done = ares("train", *MARKET, "--data", finished.csv, *SETS)
    assert done.code == 0, done.err
    assert done.err.count("early stopping is off") == 1
    assert "Warning: early stopping is off: " in done.err
    assert "Early stopping was off in 2 of 3 searches" in done.out
    again = ares("train", *MARKET, "--data", finished.csv, *SETS, "--json").json
    assert all(step["cached"] for step in again["steps"])
    assert (len(again["unstopped"]), again["searches"]) == (2, 3)
    run = Path(again["run_dir"])
    notes = [
        note
        for number in (12, 13)
        for note in json.loads((run / "steps" / f"{number}.json").read_text())["notes"]
        if "early stopping is off" in note
    ]
    assert notes == again["unstopped"]
    assert [note[: len("window 0")] for note in notes] == ["window 0", "window 1"]
    assert {"steps/12.json", "steps/13.json"} <= set(
        json.loads((run / "manifest.json").read_text())["files"]
    )


def test_require_edge_and_until(ares: Ares, finished: Finished, home: Path) -> None:
    code = _train(ares, finished, home, "--require-edge").code
    assert code == (0 if finished.result.edge else 3)
    stopped = _train(ares, finished, home, "--until", "7", "--json")
    assert stopped.code == 0
    assert [step["number"] for step in stopped.json["steps"]] == list(range(1, 8))
    assert stopped.json["run_dir"] is None


def test_too_few_bars_say_so(ares: Ares, minute_csv: Path) -> None:
    market = ("--symbol", "X", "--exchange", "local", "--timeframe", "1m")
    done = ares("blank", "--data", minute_csv, *market)
    assert done.code == 2
    assert "Load more data" in done.err


def test_regimes_of_shorter_bars_than_the_analysts_are_refused_at_once(
    ares: Ares, minute_csv: Path
) -> None:
    done = ares(
        "blank", "--data", minute_csv, "--symbol", "X", "--exchange", "local", "--timeframe", "1m",
        "--set", "regimes.timeframe=5m", "--set", "analyst.timeframe=15m",
    )  # fmt: skip
    assert done.code == 2
    assert "regimes.timeframe: " in done.err
    assert "Set analyst.timeframe to 5m, too" in done.err


def test_runs_list_show_compare_promote(ares: Ares, finished: Finished, home: Path) -> None:
    name = finished.run_dir.name
    (entry,) = ares("runs", "list", "--json", home=home).json["runs"]
    assert (entry["run_id"], entry["champion"], entry["problem"]) == (name, False, "")
    shown = ares("runs", "show", name[:12], "--json", home=home).json
    assert shown["verdict"] == finished.result.verdict
    assert "Holdout: " in ares("runs", "show", home=home).out
    promoted = ares("runs", "promote", "last", home=home)
    assert promoted.code == 0
    assert ("no evidence of edge" in promoted.out) == (not finished.result.edge)
    assert ares("runs", "list", "--json", home=home).json["runs"][0]["champion"]
    same = ares("runs", "compare", name, "last", "--json", home=home).json
    assert same["differing"] == []
    twice = ares("runs", "compare", name, "last", home=home)
    assert (twice.code, twice.err) == (0, "")
    shown = twice.out
    assert "They differ in: nothing that shapes a result." in shown
    assert "in sample" not in shown
    assert "ot recorded" not in shown
    missing = ares("runs", "show", "2000", home=home)
    assert missing.code == 2
    assert "no run of this workspace" in missing.err


def test_runs_of_different_kinds_are_compared_in_what_both_record(
    ares_here: Ares, finished: Finished, home: Path
) -> None:
    market = ("--data", finished.csv, *MARKET)
    small = ("--trials", "24", "--set", "search.initial_samples=16", "--set", "search.min_trades=2")
    search = ares_here("optimize", *market, *small, "--json", home=home).json
    best = search["best"]
    point = [w for k, v in best["params"].items() for w in ("--set", f"{k}={v}")]
    test = ares_here("backtest", *market, *point, "--json", home=home).json
    train, found, back = finished.run_dir.name, *(Path(r["run_dir"]).name for r in (search, test))
    told = ares_here("runs", "compare", train, found, back, "--json", home=home).json
    assert not {
        "strategy",
        "costs",
        "objective",
        "mode",
        "libraries",
        "code",
        "params",
        "seed",
    } & set(told["differing"])
    assert {"kind", "data"} <= set(told["differing"])
    lacking = {each["run_id"]: set(each["not_recorded"]) for each in told["runs"]}
    assert lacking[train] >= {"strategy", "costs"}
    assert lacking[found] == {"costs", "mode", "libraries"}
    assert lacking[back] == {"objective", "mode", "libraries"}
    measured = ["out of sample", "in sample", "all bars given"]
    assert [each["measured"] for each in told["runs"]] == measured
    shown = ares_here("runs", "compare", train, found, home=home).out
    head = shown[: shown.index("sharpe")].splitlines()
    assert any("out of sample" in line and " in sample" in line for line in head)
    assert f"Not recorded in {train} (train): strategy, objective." in shown
    (drawdown,) = (line for line in shown.splitlines() if "max drawdown" in line)
    assert f"{100 * best['metrics']['max_drawdown']:.2f} %" in drawdown
    other = ares_here("backtest", *market, "--set", "fast=2", "--json", home=home).json
    for command in (("runs", "promote"), ("signal",)):
        for name, kind in ((found, "optimize"), (back, "backtest")):
            refused = ares_here(*command, name, home=home)
            assert refused.code == 2
            assert f"takes a run of `ares train`, and this one is of `ares {kind}`" in refused.err
            assert train in refused.err
    moved = ares_here("runs", "compare", found, Path(other["run_dir"]).name, home=home).out
    assert re.search(r"fast +│ +\d+ +│ +2 +│", moved)
    assert "stop_unit" not in moved  # a search does not record what it did not search


def test_promoting_says_what_speaks_against_it_and_how_to_go_back(
    ares_here: Ares, finished: Finished, home: Path
) -> None:
    first = finished.run_dir.name
    assert "The champion before" not in ares_here("runs", "promote", first, home=home).out
    other = home / "runs" / f"20300101T000000Z-{first[-8:]}"
    shutil.copytree(home / "runs" / first, other)
    manifest = other / "manifest.json"
    body = json.loads(manifest.read_text())
    body["recommendation"] = "reject"
    del body["checksum"]
    checksum = hashlib.sha256(json_bytes(body)).hexdigest()
    manifest.write_bytes(json_bytes({**body, "checksum": checksum}))
    done = ares_here("runs", "promote", other.name, home=home)
    assert done.code == 0, done.err
    assert "REJECTED: on the holdout it was significantly worse" in done.out
    assert f"`ares runs promote {first}` brings it back." in done.out
    back = ares_here("runs", "promote", first, "--json", home=home).json
    assert (back["champion"], back["before"]) == (first, other.name)
    assert back["recommendation"] == finished.result.recommendation


def test_without_a_trained_model_the_command_that_makes_one_is_named(ares_here: Ares) -> None:
    for command in (("runs", "promote", "last"), ("signal",)):
        done = ares_here(*command)
        assert done.code == 2
        assert "`ares train` makes one" in done.err


def test_a_run_is_one_line_of_eighty_columns(ares: Ares, finished: Finished, home: Path) -> None:
    market = ("--data", finished.csv, "--timeframe", "1d")
    other = Path(ares("backtest", *market, "--json", home=home).json["run_dir"]).name
    ares("runs", "promote", finished.run_dir.name, home=home)
    narrow = ares("runs", "list", home=home, COLUMNS="80").out.splitlines()
    wide = ares("runs", "list", home=home, COLUMNS="160").out
    assert all(len(line) <= 80 for line in narrow)
    for name, words in ((finished.run_dir.name, "evidence, Sharpe"), (other, "return ")):
        (line,) = (line for line in narrow if line.startswith(f"│ {name} "))
        assert words in line
    assert len([line for line in narrow if line.startswith("│")]) == 2
    assert f"{finished.run_dir.name} is the champion of IXIC nasdaq 1d." in narrow
    assert "A wider terminal, or --json, shows more: " in narrow[-1]
    assert "wider" not in wide
    for word in ("SmaCross", "train", "backtest", "unnamed 1d"):
        assert word in wide
    (home / "runs" / other / "manifest.json").write_text("{}")
    damaged = ares("runs", "list", home=home, COLUMNS="80").out
    assert f"{other} is damaged: " in damaged


def test_a_damaged_run_is_listed_and_refused(ares: Ares, finished: Finished, home: Path) -> None:
    run = home / "runs" / finished.run_dir.name
    text = run / "models" / "model.json"
    text.write_text(text.read_text().replace("1", "2", 1))
    done = ares("signal", finished.run_dir.name, home=home)
    assert done.code == 2
    assert "model.json" in done.err
    (run / "manifest.json").write_text("{}")
    (entry,) = ares("runs", "list", "--json", home=home).json["runs"]
    assert entry["problem"]


def test_signal_says_what_predict_says(ares: Ares, finished: Finished, home: Path) -> None:
    done = ares("signal", "last", "--data", finished.csv, "--rows", "3", "--json", home=home)
    assert done.code == 0
    rows = done.json["signals"]
    assert len(rows) == 3
    assert rows[-1]["timestamp"].startswith("2018-12-31")
    assert rows[-1]["action"] in {-1, 0, 1}
    assert "decision at its close" in ares("signal", "--data", finished.csv, home=home).out


def test_a_report_is_made_again_as_it_was(ares: Ares, finished: Finished, home: Path) -> None:
    market = ("--data", finished.csv, *MARKET, "--set", "fast=10", "--set", "slow=50")
    other = ares("backtest", *market, "--json", home=home).json["run_dir"]
    assert "on all bars given" in ares("runs", "show", Path(other).name, home=home).out
    assert "return" in ares("runs", "list", home=home).out
    page = home / "runs" / finished.run_dir.name / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert ares("report", finished.run_dir.name, home=home).code == 0
    assert page.read_bytes() == before
    assert str(other) in ares("report", home=home).out  # the last run of any kind


def test_optimize_finds_repeats_and_proves(ares: Ares, finished: Finished, tmp_path: Path) -> None:
    arguments = ("optimize", "--data", finished.csv, *MARKET, "--trials", "24")
    quick = ("--set", "search.initial_samples=16", "--set", "search.min_trades=5", "--json")
    answers = [
        ares(*arguments, *quick, "-j", jobs, home=tmp_path / home).json
        for jobs, home in (("1", "a"), ("2", "b"), ("1", "a"))
    ]
    assert len({answer["trials_digest"] for answer in answers}) == 1
    assert answers[0]["best"] == answers[1]["best"]
    assert answers[0]["cached"] == 0
    assert answers[2]["cached"] == answers[2]["trials"]
    keys = {"run_dir", "best", "trials", "full", "stopped", "cached", "failed", "memory"}
    assert keys | {"trials_per_second", "trials_digest"} <= set(answers[0])
    assert set(answers[0]["memory"]) == {"peak_bytes", "budget_bytes", "evictions"}
    params = answers[0]["best"]["params"]
    assert params["fast"] < params["slow"]


def test_a_run_without_trades_shows_dashes(capsys):
    from ares.ares_launcher.train_commands import show_metrics

    show_metrics({"n_trades": 0.0, "dsr": float("nan"), "sharpe": float("nan")})
    assert "deflated Sharpe ratio" in capsys.readouterr().out
