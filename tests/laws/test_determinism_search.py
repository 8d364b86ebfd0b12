"""A search gives the same bytes whatever switches are on, and whenever it was killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.laws]

SEARCH = ("--strategy", "rsi_reversion", "--trials", "256", "--seed", "5")
CACHING = "computational_optimization.caching."
SWITCHES = {
    "two workers": ("-j", "2"),
    "no workers": ("--set", "enhanced_training_manager.enable_parallelization=false"),
    "no cache": ("--set", f"{CACHING}enabled=false"),
    "a cache of one entry": ("--set", f"{CACHING}max_cache_size=1"),
    "no memory management": ("--set", "enhanced_training_manager.enable_memory_management=false"),
    "a small budget": ("--memory", "2GiB"),
    "another hash seed": ("--debug",),
}
HASHED = ("trials.parquet", "params.json", "config.toml")


def command(home: Path, *arguments: str) -> list[str]:
    return [
        sys.executable, "-m", "ares.ares_launcher", "optimize", "--home", str(home), "--json",
        *arguments,
    ]  # fmt: skip


def environment(hash_seed: str = "0") -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": hash_seed, "COLUMNS": "80"}


def optimize(home: Path, *arguments: str, hash_seed: str = "0") -> dict[str, bytes]:
    """The hashed files of the run that the command publishes."""
    done = subprocess.run(
        command(home, *arguments),
        env=environment(hash_seed), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    files = {name: Path(answer["run_dir"], name).read_bytes() for name in HASHED}
    return files | {"digest": answer["trials_digest"].encode()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return optimize(tmp_path_factory.mktemp("plain"), *SEARCH, "-j", "1")


@pytest.mark.parametrize("switch", SWITCHES)
def test_no_switch_changes_a_byte(expected: dict[str, bytes], tmp_path: Path, switch: str) -> None:
    assert optimize(tmp_path, *SEARCH, *SWITCHES[switch], hash_seed="7") == expected


def test_a_warm_cache_changes_no_byte(expected: dict[str, bytes], tmp_path: Path) -> None:
    assert [optimize(tmp_path, *SEARCH) for _ in range(2)] == [expected, expected]


SCRIPT = """
import signal, sys, time
from ares.search import EngineEvaluator, ParallelBacktester, run_search
from ares.backtest.strategies import RsiReversion
from ares.core.config import SearchConfig
from ares.market.sources import resolve

engine = EngineEvaluator(resolve("IXIC", "nasdaq", "1d", data=None), RsiReversion())
since = []

def progress(now):
    if not now.resumed and not since:
        since.append(time.process_time())
        signal.setitimer(signal.ITIMER_PROF, float(sys.argv[2]))

with ParallelBacktester(2, inner=engine) as workers:
    found = run_search(
        workers, RsiReversion.space, SearchConfig(trials=6000, generation=16), seed=5,
        ledger=sys.argv[1], progress=progress,
    )
print(found.trials_digest, found.best, found.score.value)
print(time.process_time() - since[0] if since else 0.0)
"""


def search(ledger: Path, life: float) -> subprocess.CompletedProcess[str]:
    """The script, killed by the kernel after ``life`` seconds of processor time (0: never).

    Not of the clock, which runs on where a loaded machine stands still. An unhandled SIGPROF ends
    a process as SIGKILL does: nothing of it runs any more.
    """
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(ledger), str(life)],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip


def answer(done: subprocess.CompletedProcess[str]) -> tuple[str, float]:
    assert done.returncode == 0, done.stderr
    found, seconds = done.stdout.splitlines()
    return found, float(seconds)


def test_twenty_kills_at_random_moments_change_no_byte(tmp_path: Path) -> None:
    """One search, killed again and again, whatever it is doing; another where it comes to its end.

    How far a search is when it is killed depends on the machine: generations grow, and one that is
    almost at its end may get there before it is killed.
    """
    plain, seconds = answer(search(tmp_path / "plain.sqlite", life=0.0))
    chance, kills, sizes = random.Random(0), 0, []
    killed = tmp_path / "killed.sqlite"
    while kills < 20:
        done = search(killed, life=chance.uniform(1e-5, seconds / 30))
        if done.returncode == -signal.SIGPROF:
            kills += 1
            sizes.append(sum(path.stat().st_size for path in tmp_path.glob("killed.sqlite*")))
            continue
        assert answer(done)[0] == plain
        for path in tmp_path.glob("killed.sqlite*"):
            path.unlink()
    assert len(set(sizes)) > 10, "the kills must hit a search that runs"
    assert answer(search(killed, life=0.0))[0] == plain
