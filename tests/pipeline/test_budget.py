"""Training within a memory budget: what is predicted, what is refused, and what never changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from ares.core.errors import MemoryBudgetError
from ares.market.bars import Bars
from ares.market.memory import MemoryManager
from ares.pipeline import footprint
from command_line import call_ares
from small_runs import artifacts, difference, only_run, train, write_csv

if TYPE_CHECKING:
    from small_runs import Finished

MIB = 1 << 20
BUDGET = "computational_optimization.memory_management.budget"
MINUTE = 60 * 10**9
MEASURE = Path(__file__).with_name("measure_steps.py")


def minutes(n: int) -> Bars:
    """A random walk of one-minute bars."""
    rng = np.random.default_rng(5)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-3, n)))
    open_ = np.concatenate([close[:1], close[:-1]])
    return Bars(
        timestamp=np.arange(n, dtype=np.int64) * MINUTE,
        open=open_,
        high=np.maximum(open_, close) * 1.0005,
        low=np.minimum(open_, close) * 0.9995,
        close=close,
        volume=rng.lognormal(0.0, 1.0, n),
        symbol="WALK",
        exchange="test",
        timeframe="1m",
    )


@pytest.mark.slow
@pytest.mark.parametrize("n", [250_000, 500_000])
def test_no_step_takes_more_than_was_predicted_nor_much_less(n: int, tmp_path: Path) -> None:
    """Predictions are for sizes at which data matter: small runs are all allocators and text."""
    bars = minutes(n)
    path = tmp_path / "bars.parquet"
    bars.to_frame().to_parquet(path)
    done = subprocess.run(
        [sys.executable, str(MEASURE), str(path), str(tmp_path / "home")],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith(("ARES_", "COV"))},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {step["number"] for step in found} == set(range(1, 17))
    for step in found:
        assert step["taken"] <= step["predicted"] + 8 * MIB, step
    largest = max(found, key=lambda step: step["taken"])
    assert max(step["predicted"] for step in found) < 3.0 * largest["taken"], largest


@pytest.mark.slow
def test_the_artifacts_are_the_same_bytes_whatever_the_budget(
    finished: Finished, tmp_path: Path
) -> None:
    """Pieces, maps of files and evictions never change a result."""
    base = MemoryManager().base_bytes // MIB
    home = tmp_path / "home"
    train(home, finished.csv, {BUDGET: f"{base + 130}MiB", "search.generation": 8})
    assert difference(artifacts(only_run(home)), artifacts(finished.run_dir)) == []
    info = json.loads((only_run(home) / "run_info.json").read_text())
    assert info["memory"]["budget_bytes"] == (base + 130) * MIB
    assert all(step["peak_memory_bytes"] > 50 * MIB for step in info["steps"])
    peaks = [step["peak_memory_bytes"] for step in info["steps"]]
    assert info["memory"]["peak_bytes"] >= max(peaks)


def test_a_run_that_cannot_fit_is_refused_before_it_begins(tmp_path: Path) -> None:
    csv = write_csv(minutes(20_000), tmp_path / "bars.csv")
    done = call_ares(
        tmp_path, "train", "--data", csv, "--symbol", "WALK", "--exchange", "test",
        "--timeframe", "1m", "--memory", "100MiB",
    )  # fmt: skip
    assert done.code == 2
    assert "the process alone takes" in done.err
    assert not (tmp_path / "home" / "runs").exists()


def test_the_largest_step_is_refused_at_once_and_named(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint, "ROW_BYTES", {**footprint.ROW_BYTES, 12: 10**9})
    with pytest.raises(MemoryBudgetError) as caught:
        train(tmp_path / "home", finished.csv)
    text = str(caught.value)
    assert "step 12" in text
    assert "--memory" in text
    assert "--timerange" in text
    stored = tmp_path / "home" / ".ares" / "store"
    assert len([path for path in stored.rglob("objects/*/*") if path.is_file()]) == 1  # step 1


def test_switched_off_the_budget_refuses_nothing(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint, "ROW_BYTES", dict.fromkeys(range(2, 17), 10**9))
    off = {"enhanced_training_manager.enable_memory_management": False}
    result = train(tmp_path / "home", finished.csv, off, until=3)
    assert [step.number for step in result.steps] == [1, 2, 3]


_CAPPED = """
import sys
sys.path.insert(0, sys.argv[1])
import ares.enhanced_training_manager
import small_runs
from ares.core.errors import MemoryBudgetError
from ares.market.budget import peak_of_process
from ares.market.memory import MemoryManager
from ares.pipeline import footprint
footprint.preload()
base = MemoryManager().base_bytes
budget = base + int(sys.argv[3])
try:
    small_runs.train(small_runs.Path(sys.argv[4]), small_runs.Path(sys.argv[2]),
                     {"computational_optimization.memory_management.budget": f"{budget}B"})
except MemoryBudgetError as error:
    print("refused", error)
peak = peak_of_process()
assert peak <= budget, (peak, budget)
"""


def test_data_ten_times_the_budget_are_refused_within_it(tmp_path: Path) -> None:
    """R17: the cap holds, and the message names the stage."""
    room = 24 * MIB
    path = tmp_path / "bars.parquet"
    rows = 10 * room // 48
    columns = dict.fromkeys(("open", "high", "low", "close", "volume"), np.ones(rows))
    time = pd.DatetimeIndex(np.arange(rows, dtype=np.int64) * MINUTE, tz="UTC")
    pd.DataFrame({"timestamp": time, **columns}).to_parquet(path)
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", _CAPPED, tests, str(path), str(room), str(tmp_path / "home")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused")
    assert "step 1, data collection" in done.stdout
