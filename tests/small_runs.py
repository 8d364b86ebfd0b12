"""A pipeline small enough for tests: real daily bars, few trees, few trials, two windows.

`python small_runs.py HOME CSV [key=value ...] [--until=N]` trains in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ares.core.config import Config
    from ares.enhanced_training_manager import TrainingResult
    from ares.market.bars import Bars

MARKET = {"symbol": "IXIC", "exchange": "nasdaq", "timeframe": "1d"}
N_BARS = 2400
SMALL: dict[str, Any] = {
    "enhanced_training_manager.mode": "quick",
    "computational_optimization.parallelization.max_workers": 1,
    "splits.chunks": 4,
    "analyst.trees": 12,
    "analyst.candidates": 2,
    "analyst.max_rows": 1500,
    "analyst.features": 8,
    "tactician.trees": 12,
    "tactician.candidates": 1,
    "tactician.max_rows": 1500,
    "search.trials": 24,
    "search.initial_samples": 16,
    "search.generation": 8,
    "search.min_trades": 10,
    "walk_forward.windows": 2,
    "monte_carlo.paths": 50,
    "ab_test.resamples": 100,
}
VOLATILE_FILES = {"run_info.json", "log.jsonl", "report.html"}


@dataclass(frozen=True)
class Finished:
    """A published run, its workspace and its data."""

    home: Path
    csv: Path
    run_dir: Path
    result: TrainingResult
    bars: Bars


def small_config(changed: Mapping[str, Any] | None = None) -> Config:
    from ares.core.settings import load_settings

    return load_settings(None, overrides=SMALL | dict(changed or {}), environ={}).config


def small_bars() -> Bars:
    """The last years of the embedded sample."""
    from ares.market.sources import sample

    bars = sample()
    return bars[len(bars) - N_BARS :]


def write_csv(bars: Bars, path: Path) -> Path:
    """Bars as a CSV file that reads back to the same numbers."""
    times = np.array(bars.timestamp, dtype="datetime64[ns]").astype("datetime64[s]")
    columns = (times, bars.open, bars.high, bars.low, bars.close, bars.volume)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    lines = [",".join([f"{row[0].isoformat()}Z", *map(repr, row[1:])]) for row in rows]
    path.write_text("\n".join(["timestamp,open,high,low,close,volume", *lines]) + "\n")
    return path


def train(
    home: Path, csv: Path, changed: Mapping[str, Any] | None = None, **options: Any
) -> TrainingResult:
    """Train in this process."""
    from ares.enhanced_training_manager import EnhancedTrainingManager

    manager = EnhancedTrainingManager(small_config(changed), home=home, **options)
    try:
        return manager.execute_enhanced_training({**MARKET, "data": [str(csv)]})
    finally:
        manager.get_optimized_manager().cleanup()


def train_apart(
    home: Path,
    csv: Path,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ARES_", "COV"))}
    return subprocess.run(
        [sys.executable, __file__, str(home), str(csv), *arguments],
        env=inherited | dict(environ or {}),
        cwd=cwd or home.parent,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


def artifacts(run_dir: Path) -> dict[str, bytes]:
    """Every file of a run by relative path, without what is volatile."""
    paths = [path for path in run_dir.rglob("*") if path.is_file()]
    page = (run_dir / "report.html").read_text()
    steady, marked = re.subn(r'<section id="volatile">.*?</section>', "", page, flags=re.DOTALL)
    assert marked == 1
    return {"report.html": steady.encode()} | {
        name: path.read_bytes()
        for path in paths
        if (name := path.relative_to(run_dir).as_posix()) not in VOLATILE_FILES
    }


def only_run(home: Path) -> Path:
    """The one run of a workspace."""
    (run_dir,) = (path for path in (home / "runs").iterdir() if path.is_dir())
    return run_dir


def difference(first: dict[str, bytes], second: dict[str, bytes]) -> list[str]:
    """Names of the files that differ or are missing on one side."""
    return sorted(n for n in first.keys() | second.keys() if first.get(n) != second.get(n))


class _KillAt:
    """Ends the process by SIGKILL when a step begins."""

    def __init__(self, spec: str) -> None:
        number, _, scope = spec.partition("@")
        self.number, self.scope = int(number), scope

    def __call__(self, number: int, _name: str, scope: str) -> None:
        if (number, scope) == (self.number, self.scope):
            import signal

            os.kill(os.getpid(), signal.SIGKILL)


def _main(arguments: list[str]) -> None:
    from ares.enhanced_training_manager import Observer

    home, csv, *rest = arguments
    options: dict[str, Any] = {}
    changed: dict[str, Any] = {}
    for item in rest:
        key, _, value = item.partition("=")
        if key == "--until":
            options["until"] = int(value)
        elif key == "--kill":
            options["observer"] = Observer(step_started=_KillAt(value))
        else:
            changed[key] = json.loads(value)
    result = train(Path(home), Path(csv), changed, **options)
    steps = [(s.scope, s.number, s.cached) for s in result.steps]
    print(json.dumps({"run_dir": str(result.run_dir), "steps": steps}))


if __name__ == "__main__":
    _main(sys.argv[1:])
