"""What a changed option reaches, `until`, `fresh`, and a store that cannot be written."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import small_runs
from small_runs import artifacts, difference, train

if TYPE_CHECKING:
    from pathlib import Path

    from ares.enhanced_training_manager import TrainingResult
    from small_runs import Finished

pytestmark = pytest.mark.slow


@pytest.fixture
def home(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished run's workspace."""
    shutil.copytree(finished.home, tmp_path / "home")
    return tmp_path / "home"


def computed(result: TrainingResult) -> set[int]:
    """The pipeline's own steps that were not answered by the store."""
    return {r.number for r in result.steps if not r.scope and not r.cached}


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("monte_carlo.paths", 60, {14, 16}),
        ("ab_test.alpha", 0.01, {15, 16}),
        ("computational_optimization.parallelization.max_workers", 2, set()),
        ("computational_optimization.caching.max_cache_size", 10, set()),
    ],
)
def test_an_option_reruns_only_what_it_reaches(
    finished: Finished, home: Path, option: str, value: Any, expected: set[int]
) -> None:
    result = train(home, finished.csv, {option: value})
    assert computed(result) == expected


def test_windows_rerun_the_refits_and_what_follows(finished: Finished, home: Path) -> None:
    result = train(home, finished.csv, {"walk_forward.windows": 1})
    assert computed(result) == {13, 14, 16}
    # The first window trains on the same bars as before, so all of its refit is known.
    assert all(r.cached for r in result.steps if r.scope == "window 0")


def test_a_regime_option_reruns_from_two_on_but_not_the_labels(
    finished: Finished, home: Path
) -> None:
    result = train(home, finished.csv, {"regimes.volatility_window": 25})
    assert {2, 3, 5, 6, 13} <= computed(result)
    assert not {1, 4} & computed(result)


def test_more_embargo_than_before_meets_equal_regimes(finished: Finished, home: Path) -> None:
    result = train(home, finished.csv, {"splits.embargo": 0.01}, until=5)
    by_number = {r.number: r for r in result.steps}
    before = {r.number: r for r in finished.result.steps if not r.scope}
    assert by_number[2].digest == before[2].digest  # computed anew, with the same result
    assert not by_number[2].cached
    assert not by_number[3].cached
    assert not by_number[5].cached


def test_the_second_run_is_the_first_one_again(finished: Finished, home: Path) -> None:
    result = train(home, finished.csv)
    assert computed(result) == set()
    assert result.run_dir is not None
    assert not difference(artifacts(finished.run_dir), artifacts(result.run_dir))
    assert result.run_dir.name != finished.run_dir.name


def test_fresh_computes_all_again_and_finds_the_same(finished: Finished, home: Path) -> None:
    result = train(home, finished.csv, fresh=True)
    assert computed(result) == set(range(1, 17))
    assert result.run_dir is not None
    assert not difference(artifacts(finished.run_dir), artifacts(result.run_dir))


def test_until_stops_and_a_later_run_continues(finished: Finished, tmp_path: Path) -> None:
    stopped = train(tmp_path / "home", finished.csv, until=6)
    assert [r.number for r in stopped.steps] == [1, 2, 3, 4, 5, 6]
    assert stopped.run_dir is None
    assert stopped.run_id == ""
    assert not list((tmp_path / "home" / "runs").glob("*"))
    result = train(tmp_path / "home", finished.csv)
    assert computed(result) == set(range(7, 17))
    assert result.run_dir is not None
    assert not difference(artifacts(finished.run_dir), artifacts(result.run_dir))


def test_a_blocked_store_costs_the_memory_not_the_run(finished: Finished, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".ares" / "store").mkdir(parents=True)
    (home / ".ares" / "store" / "v1").write_text("a file where a folder should be")
    result = train(home, finished.csv)
    assert sum("results are not kept" in note for note in result.fallbacks) == 1
    assert result.run_dir is not None
    info = json.loads((result.run_dir / "run_info.json").read_text())
    assert any("results are not kept" in note for note in info["fallbacks"])
    assert not difference(artifacts(finished.run_dir), artifacts(result.run_dir))


def test_a_blocked_backtest_cache_costs_nothing_but_time(
    finished: Finished, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / ".ares" / "cache.sqlite").mkdir(parents=True)
    result = train(home, finished.csv)
    assert any("cache" in note for note in result.fallbacks)
    assert result.run_dir is not None
    assert not difference(artifacts(finished.run_dir), artifacts(result.run_dir))


def test_a_second_process_on_one_request_is_refused(finished: Finished, home: Path) -> None:
    from ares.core.errors import BusyError
    from ares.enhanced_training_manager import EnhancedTrainingManager, Observer

    refused: list[str] = []

    def meanwhile(number: int, _name: str, _scope: str) -> None:
        if number == 1:
            try:
                train(home, finished.csv)
            except BusyError as error:
                refused.append(str(error))

    manager = EnhancedTrainingManager(
        small_runs.small_config(), home=home, observer=Observer(step_started=meanwhile)
    )
    manager.execute_enhanced_training({**small_runs.MARKET, "data": [str(finished.csv)]})
    assert len(refused) == 1
