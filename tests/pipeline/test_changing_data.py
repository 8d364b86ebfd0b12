"""R25: the same path with new bytes is other data, whenever it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ares.core.errors import DataError
from ares.enhanced_training_manager import EnhancedTrainingManager
from ares.pipeline.source import find_source
from ares.store.workspace import Workspace
from small_runs import MARKET, small_bars, small_config, train, write_csv

if TYPE_CHECKING:
    from pathlib import Path

    from ares.enhanced_training_manager import TrainingResult


def digest_of(result: TrainingResult) -> str:
    """Content digest of step 1's result."""
    return next(step.digest for step in result.steps if step.number == 1)


def test_new_bytes_under_the_same_path_are_another_dataset(tmp_path: Path) -> None:
    bars = small_bars()
    csv = write_csv(bars, tmp_path / "bars.csv")
    first = train(tmp_path / "home", csv, until=3)
    again = train(tmp_path / "home", csv, until=3)
    assert [step.cached for step in again.steps] == [True] * 3
    write_csv(bars[1:], csv)
    other = train(tmp_path / "home", csv, until=3)
    assert [step.cached for step in other.steps] == [False] * 3
    assert digest_of(first) == digest_of(again) != digest_of(other)
    write_csv(bars, csv)
    back = train(tmp_path / "home", csv, until=3)
    assert [step.cached for step in back.steps] == [True] * 3
    assert digest_of(back) == digest_of(first)


def test_a_file_that_changes_between_two_reads_of_one_run_is_refused(tmp_path: Path) -> None:
    """Its digest was taken for the key of step 1: other bars may not be kept under it."""
    bars = small_bars()
    csv = write_csv(bars, tmp_path / "bars.csv")
    manager = EnhancedTrainingManager(small_config(), home=tmp_path / "home", until=1)
    manager._take({**MARKET, "data": [str(csv)]})
    workspace = Workspace.locate(tmp_path / "home")
    load = manager._loader()

    def changed_first():  # type: ignore[no-untyped-def]  # between the digest and the reading
        write_csv(bars[5:], csv)
        return load()

    source = find_source(manager.config.data, workspace, changed_first)
    with pytest.raises(DataError, match="changed while they are read"):
        source.loader.load()


def test_a_run_whose_file_changed_meanwhile_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = small_bars()
    csv = write_csv(bars, tmp_path / "bars.csv")
    original = EnhancedTrainingManager._loader

    def changing(self: EnhancedTrainingManager):  # type: ignore[no-untyped-def]
        load = original(self)

        def changed_first():  # type: ignore[no-untyped-def]
            write_csv(bars[5:], csv)
            return load()

        return changed_first

    monkeypatch.setattr(EnhancedTrainingManager, "_loader", changing)
    with pytest.raises(DataError, match="changed while they are read"):
        train(tmp_path / "home", csv, until=1)
    monkeypatch.undo()
    result = train(tmp_path / "home", csv, until=1)
    assert [step.cached for step in result.steps] == [False]
    write_csv(bars, csv)
    before = train(tmp_path / "home", csv, until=1)
    assert [step.cached for step in before.steps] == [False]
    assert digest_of(before) != digest_of(result)
