"""One seed, one artifact: whatever the process, its environment and its number of workers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from small_runs import artifacts, difference, only_run, train_apart

if TYPE_CHECKING:
    from small_runs import Finished

pytestmark = [pytest.mark.slow, pytest.mark.laws]

ENVIRONMENTS = {
    "hash seed, two workers": ({"PYTHONHASHSEED": "12345"}, 2, "true"),
    "time zone and locale, uncached": (
        {"TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONHASHSEED": "0"},
        1,
        "false",
    ),
}


def test_environment_and_workers_do_not_reach_the_artifacts(
    finished: Finished, tmp_path: Path
) -> None:
    compiled = os.environ.get("NUMBA_CACHE_DIR") or str(Path.home() / ".cache")

    def one(item: tuple[str, tuple[dict[str, str], int, str]]) -> tuple[str, list[str]]:
        name, (environ, jobs, caching) = item
        folder = tmp_path / name.replace(" ", "_").replace(",", "")
        (folder / "elsewhere").mkdir(parents=True)
        done = train_apart(
            folder / "workspace",
            finished.csv,
            f"computational_optimization.parallelization.max_workers={jobs}",
            f"enhanced_training_manager.enable_caching={caching}",
            environ={"HOME": str(folder), "NUMBA_CACHE_DIR": compiled, **environ},
            cwd=folder / "elsewhere",
        )
        assert done.returncode == 0, done.stderr
        found = artifacts(only_run(folder / "workspace"))
        return name, difference(artifacts(finished.run_dir), found)

    with ThreadPoolExecutor(2) as pool:
        assert dict(pool.map(one, ENVIRONMENTS.items())) == {name: [] for name in ENVIRONMENTS}


def test_another_seed_is_another_run(finished: Finished, tmp_path: Path) -> None:
    from small_runs import train

    result = train(tmp_path / "home", finished.csv, {"enhanced_training_manager.seed": 1}, until=12)
    before = {r.number: r.digest for r in finished.result.steps if not r.scope}
    after = {r.number: r.digest for r in result.steps}
    assert before[1] == after[1]
    assert before[12] != after[12]
