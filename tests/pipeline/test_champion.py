"""Step 15 in a workspace with a past: looks are counted, a champion must be met and beaten."""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import ares
from ares.backtest.costs import Costs
from ares.market.bars import split_holdout
from ares.pipeline import compare
from ares.pipeline.walk import Market
from ares.store.history import History
from small_runs import artifacts, difference, small_config, train

if TYPE_CHECKING:
    from pathlib import Path

    from ares.validate.ab_test import ABReport
    from small_runs import Finished

pytestmark = pytest.mark.slow

MARKET = Market(Costs(0.0001, 0.0002), "next_open", 60)


@pytest.fixture
def home(finished: Finished, tmp_path: Path) -> Path:
    shutil.copytree(finished.home, tmp_path / "home")
    return tmp_path / "home"


def comparison(run_dir: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    assert run_dir is not None
    step = json.loads((run_dir / "steps" / "15.json").read_text())
    return step, json.loads((run_dir / "run_info.json").read_text())


def test_another_model_meets_the_champion_at_half_the_level(finished: Finished, home: Path) -> None:
    first, _ = comparison(finished.run_dir)
    assert (first["looks_before"], first["level"]) == (0, 0.05)
    assert [c["opponent"] for c in first["comparisons"]] == ["buy and hold", "cash"]
    History(home / ".ares" / "history.sqlite").promote("IXIC nasdaq 1d", finished.result.run_id)
    other = {"enhanced_training_manager.seed": 1}
    result = train(home, finished.csv, other)
    step, info = comparison(result.run_dir)
    assert (step["looks_before"], step["level"]) == (1, 0.025)
    assert step["comparisons"][0]["opponent"] == "champion"
    assert info["champion"] == finished.result.run_id
    assert info["validations_before"] == 1
    # The same run again is no further look, and meets the same champion.
    again = train(home, finished.csv, other)
    assert result.run_dir is not None
    assert again.run_dir is not None
    assert not difference(artifacts(result.run_dir), artifacts(again.run_dir))


def test_a_champion_does_not_meet_itself(finished: Finished, home: Path) -> None:
    History(home / ".ares" / "history.sqlite").promote("IXIC nasdaq 1d", finished.result.run_id)
    result = train(home, finished.csv)
    assert result.run_dir is not None
    assert not difference(artifacts(finished.run_dir), artifacts(result.run_dir))


def test_a_champion_that_cannot_be_loaded_is_left_out_visibly(
    finished: Finished, home: Path
) -> None:
    History(home / ".ares" / "history.sqlite").promote("IXIC nasdaq 1d", finished.result.run_id)
    (home / "runs" / finished.result.run_id / "models" / "model.json").write_text("{}")
    result = train(home, finished.csv, {"enhanced_training_manager.seed": 1})
    assert any("champion" in note for note in result.fallbacks)


def compared(finished: Finished, valid_from: int) -> ABReport:
    model = ares.load(finished.run_dir)
    _, holdout = split_holdout(finished.bars, 0.2)
    champion = dataclasses.replace(model, valid_from=valid_from)
    return compare.compare_on_holdout(
        model, champion, holdout, MARKET, small_config().ab_test, 0, 0
    )


def test_only_days_after_both_trainings_count(finished: Finished) -> None:
    bars = finished.bars
    assert compared(finished, int(bars.close_time[100])).n_days == 480
    late = compared(finished, int(bars.close_time[2199]))
    assert late.n_days == 200
    assert late.comparisons[0].opponent == "champion"


def test_a_champion_that_saw_the_whole_holdout_is_never_replaced_by_it(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = compare.ab_test
    monkeypatch.setattr(
        compare,
        "ab_test",
        lambda *given, **options: dataclasses.replace(test(*given, **options), decision="promote"),
    )
    report = compared(finished, int(finished.bars.close_time[-1]))
    assert report.decision == "hold"
    assert any("champion was trained" in reason for reason in report.reasons)
