"""`ares cache` as a person calls it: counts, checks, shrinks, empties."""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ares.ares_launcher.cache_commands import _shared_options
from ares.search.blocks import BlockResults
from ares.search.scorestore import Request, _row
from ares.store.store import MISS, Store
from ares.store.workspace import Workspace

if TYPE_CHECKING:
    from command_line import Ares
    from small_runs import Finished

NAMED = ("--symbol", "IXIC", "--exchange", "nasdaq", "--timeframe", "1d")
SMALL = ("--trials", "24", "--set", "search.initial_samples=16", "--set", "search.generation=8")


@pytest.fixture
def market(finished: Finished) -> tuple[object, ...]:
    return ("--data", finished.csv, *NAMED)


@pytest.fixture
def filled(ares_here: Ares, market: tuple[object, ...], tmp_path: Path) -> Workspace:
    """A workspace with the results of one search and of three steps."""
    workspace = Workspace.locate(tmp_path / "home")
    assert ares_here("optimize", *market, *SMALL, "--json").code == 0
    store = Store(workspace.store)
    for number in range(3):
        store.put(f"step {number}", [number] * 1000)
    return workspace


def test_stats_count_what_is_kept(ares_here: Ares, filled: Workspace) -> None:
    found = ares_here("cache", "stats", "--json").json
    assert found["searches"]["entries"] >= 24
    assert found["searches"]["bytes"] >= filled.cache_db.stat().st_size > 0
    assert found["steps"]["entries"] == 3
    assert found["steps"]["quarantined"] == found["searches"]["quarantined"] == 0
    shown = ares_here("cache", "stats").out
    assert "searches" in shown
    assert "quarantined" in shown


def test_an_empty_workspace_has_nothing_to_say_and_stays_empty(
    ares_here: Ares, tmp_path: Path
) -> None:
    assert ares_here("cache", "stats", "--json").json["searches"]["entries"] == 0
    empty = ares_here("cache", "verify", "--json").json
    assert empty["ok"]
    assert empty["reason"].startswith("No results of searches are kept")
    assert empty["reason"] in ares_here("cache", "verify").out
    assert ares_here("cache", "gc").code == 0
    assert ares_here("cache", "clear").code == 0
    assert not (tmp_path / "home" / ".ares").exists()


def test_verify_computes_a_sample_again(
    ares_here: Ares, filled: Workspace, market: tuple[object, ...]
) -> None:
    found = ares_here("cache", "verify", *market, "--sample", "9", "--seed", "4", "--json")
    assert found.code == 0
    kept = found.json["searches"]
    assert kept["checked"] == 9
    assert kept["entries"] >= 24
    assert kept["others"] == kept["damaged"] == 0
    assert kept["wrong"] == []
    assert kept["seed"] == 4
    other = ares_here("cache", "verify", *market, "--strategy", "ema_cross")
    assert other.code == 2
    assert "None is of this search" in other.out
    digests_only = ares_here("cache", "verify", *market, "--strategy", "ema_cross", "--sample", "0")
    assert digests_only.code == 0


def test_verify_says_what_to_give_where_it_could_check_nothing(
    ares: Ares, market: tuple[object, ...]
) -> None:
    search = ("--strategy", "ema_cross", *market, "--fee", "0.002", "--trials=20")
    tools = ("--set", "search.initial_samples=16", "-p", "fast=5:50", "-j1", "--memory", "8GiB")
    assert ares("optimize", *search, *tools, "--seed", "3", "--json").code == 0
    lost = ares("cache", "verify")
    assert lost.code == 2
    assert "None of the 20 results kept was computed again" in lost.out
    (said,) = (line.strip() for line in lost.out.splitlines() if "  ares cache verify" in line)
    given = [*map(str, search[:-1]), "--set", "search.initial_samples=16"]
    assert shlex.split(said) == ["ares", "cache", "verify", *given]
    found = ares(*shlex.split(said)[1:], "--json")
    assert found.code == 0
    assert (found.json["ok"], found.json["searches"]["checked"]) == (True, 20)
    blind = ares("cache", "verify", "--json")
    assert (blind.code, blind.json["ok"]) == (2, False)
    assert blind.json["reason"] in lost.out
    assert "None of the 20 results kept was computed again" in blind.json["reason"]
    assert blind.json["commands"] == [said]
    assert (found.json["reason"], found.json["commands"]) == (None, [])
    content = ares("cache", "verify", "--sample", "0", "--json").json
    assert content["ok"]
    assert "--sample 0" in content["reason"]


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["-p", "fast=5", "-pslow=9", "-j", "2", "-j8", "--jobs=3", "--json", "--debug"], []),
        (["--data", "a b.csv", "--param=x=1", "--data", "c"], ["--data", "a b.csv", "--data", "c"]),
        (["--set", "search.trials=3", "--seed", "1", "--fill=close"], ["--set", "search.trials=3", "--fill=close"]),
        (["--trials"], []),
    ],
)  # fmt: skip
def test_of_a_search_its_market_strategy_and_costs_are_kept(
    words: list[str], kept: list[str]
) -> None:
    assert _shared_options(words) == kept


def test_verify_finds_a_planted_lie(
    ares_here: Ares, filled: Workspace, market: tuple[object, ...]
) -> None:
    """A row whose digest is right and whose numbers are not."""
    with sqlite3.connect(filled.cache_db) as database:
        key, problem, params, blocks, body = database.execute(
            "SELECT key, problem, params, blocks, body FROM results WHERE blocks='' LIMIT 1"
        ).fetchone()
        truth = BlockResults.from_bytes(body)
        measures = truth.measures.copy()
        measures[0, 0] += 1e-12
        lie = BlockResults(truth.n, measures, truth.trades)
        row = _row(Request(key, params, blocks), lie, problem, 0)
        database.execute("INSERT OR REPLACE INTO results VALUES (?,?,?,?,?,?,?)", row)
    database.close()
    found = ares_here("cache", "verify", *market, "--sample", "100000")
    assert found.code == 1
    assert "1 wrong" in found.out
    assert "Wrong, and removed: {'cooldown'" in found.out
    again = ares_here("cache", "verify", *market, "--sample", "100000", "--json")
    assert again.code == 0
    assert again.json["ok"]
    assert ares_here("cache", "stats", "--json").json["searches"]["quarantined"] == 1


def test_verify_finds_damaged_rows_and_steps(
    ares_here: Ares, filled: Workspace, market: tuple[object, ...]
) -> None:
    with sqlite3.connect(filled.cache_db) as database:
        database.execute("UPDATE results SET body=zeroblob(8) WHERE rowid=1")
    database.close()
    step = next(p for p in filled.store.rglob("objects/*/*") if p.is_file())
    step.write_bytes(b"nonsense")
    found = ares_here("cache", "verify", *market, "--json")
    assert found.code == 1
    assert found.json["searches"]["damaged"] == 1
    assert len(found.json["steps"]["damaged"]) == 1
    assert not found.json["ok"]
    assert ares_here("cache", "verify", *market).code == 0  # what was wrong has left


def test_gc_keeps_the_newest_up_to_a_size(ares_here: Ares, filled: Workspace) -> None:
    before = ares_here("cache", "stats", "--json").json
    assert "Removed 0 results of searches" in ares_here("cache", "gc", "--max-size", "1GiB").out
    assert ares_here("cache", "stats", "--json").json["steps"] == before["steps"]
    found = ares_here("cache", "gc", "--max-size", "10KiB", "--json").json
    after = ares_here("cache", "stats", "--json").json
    kept = after["searches"]["entries"]
    assert 0 < kept < before["searches"]["entries"]
    assert found["searches"]["removed_entries"] == before["searches"]["entries"] - kept
    assert found["steps"]["kept_bytes"] <= 10 * 1024
    refused = ares_here("cache", "gc", "--max-size", "plenty")
    assert refused.code == 2
    assert "E.g. 2GiB" in refused.err


def test_gc_leaves_what_a_run_names(ares_here: Ares, finished: Finished, tmp_path: Path) -> None:
    home = Path(shutil.copytree(finished.home, tmp_path / "copy"))
    store = Store(Workspace.locate(home).store)
    steps = json.loads((finished.run_dir / "manifest.json").read_text())["steps"]
    named = {step["digest"] for step in steps} & set(store.digests().values())
    assert named
    done = ares_here("cache", "gc", "--max-size", "0", "--json", home=home).json
    assert done["steps"]["kept_objects"] == len(named)
    assert done["steps"]["removed_objects"] > 0
    assert all(store.load(digest) is not MISS for digest in named)


def test_clear_asks_first(ares_here: Ares, filled: Workspace) -> None:
    refused = ares_here("cache", "clear", "--json")
    assert refused.code == 2
    assert "Add --yes" in refused.json["error"]["message"]
    assert ares_here("cache", "stats", "--json").json["searches"]["entries"] > 0
    assert ares_here("cache", "clear").code == 1  # nobody answers
    done = ares_here("cache", "clear", "--yes", "--json")
    assert done.code == 0
    assert done.json["removed_entries"] >= 27
    found = ares_here("cache", "stats", "--json").json
    assert found["searches"]["entries"] == found["steps"]["entries"] == 0
    assert ares_here("runs", "list", "--json").json["runs"]  # runs stay
