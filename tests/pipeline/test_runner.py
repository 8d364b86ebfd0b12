"""The runner: one answer per distinct question, and no question twice."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ares.pipeline import step as mechanism
from ares.pipeline.step import Runner, StepRecord, UntilReached, Volatile, step
from ares.store.codecs import register
from ares.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

calls: list[str] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@register(schema=1)
@dataclass(frozen=True)
class Level:
    value: int
    curve: np.ndarray = field(default_factory=lambda: np.arange(3.0))


class Counter(Volatile):
    def __init__(self, workers: int) -> None:
        self.workers = workers


@step(1, "first")
def first(value: int, tools: Counter | None = None) -> Level:
    calls.append("first")
    return Level(value)


@step(2, "second")
def second(level: Level, floor: int) -> Level:
    calls.append("second")
    return Level(max(level.value, floor))


@step(3, "third")
def third(level: Level, note: str = "") -> int:
    calls.append("third")
    return level.value * 10


def program(runner: Runner, value: int = 5, floor: int = 0) -> int:
    return runner.run(third, runner.run(second, runner.run(first, value), floor))


def cached(runner: Runner) -> list[bool]:
    return [record.cached for record in runner.records]


def test_a_second_runner_answers_from_the_store(tmp_path: Path) -> None:
    before, after = Runner(Store(tmp_path)), Runner(Store(tmp_path))
    assert program(before) == program(after) == 50
    assert calls == ["first", "second", "third"]
    assert cached(before) == [False] * 3
    assert cached(after) == [True] * 3
    assert [r.digest for r in before.records] == [r.digest for r in after.records]


def test_a_changed_argument_reruns_what_it_reaches_and_no_more(tmp_path: Path) -> None:
    program(Runner(Store(tmp_path)))
    runner = Runner(Store(tmp_path))
    assert program(runner, floor=7) == 70
    assert cached(runner) == [True, False, False]


def test_equal_results_cut_off_early(tmp_path: Path) -> None:
    program(Runner(Store(tmp_path)), floor=0)
    runner = Runner(Store(tmp_path))
    assert program(runner, floor=3) == 50  # another floor, the same level: the third is a hit
    assert cached(runner) == [True, False, True]


def test_a_result_made_now_and_one_from_the_store_have_one_digest(tmp_path: Path) -> None:
    with_store, without = Runner(Store(tmp_path)), Runner(None)
    program(with_store)
    program(without)
    assert [r.digest for r in with_store.records] == [r.digest for r in without.records]
    assert cached(without) == [False] * 3


def test_volatile_arguments_never_enter_a_key(tmp_path: Path) -> None:
    Runner(Store(tmp_path)).run(first, 1, Counter(1))
    runner = Runner(Store(tmp_path))
    runner.run(first, 1, Counter(8))
    assert cached(runner) == [True]


def test_a_default_and_the_same_value_given_are_one_question(tmp_path: Path) -> None:
    level = Level(2)
    Runner(Store(tmp_path)).run(third, level)
    runner = Runner(Store(tmp_path))
    runner.run(third, level=level, note="")
    runner.run(third, level, "another")
    assert cached(runner) == [True, False]


@pytest.mark.parametrize(("one", "other"), [(1, 2), (1, True), (1, 1.0)])
def test_different_arguments_are_different_questions(
    tmp_path: Path, one: object, other: object
) -> None:
    runner = Runner(Store(tmp_path))
    runner.run(first, one)  # type: ignore[arg-type]
    runner.run(first, other)  # type: ignore[arg-type]
    assert cached(runner) == [False, False]


def test_other_code_is_another_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(Runner(Store(tmp_path)))
    monkeypatch.setattr(mechanism, "code_digest", lambda: "other sources")
    runner = Runner(Store(tmp_path))
    program(runner)
    assert cached(runner) == [False] * 3


def test_steps_of_one_function_with_other_numbers_do_not_share_answers(tmp_path: Path) -> None:
    runner = Runner(Store(tmp_path))
    runner.run(first, 1)
    runner.run(step(9, "first")(first.function), 1)
    runner.run(step(1, "other")(first.function), 1)
    assert cached(runner) == [False] * 3


def test_until_ends_after_its_step_and_a_later_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(UntilReached):
        program(Runner(Store(tmp_path), until=2))
    assert calls == ["first", "second"]
    runner = Runner(Store(tmp_path))
    assert program(runner) == 50
    assert cached(runner) == [True, True, False]


def test_until_is_about_the_pipeline_not_about_the_refits_inside_it(tmp_path: Path) -> None:
    runner = Runner(Store(tmp_path), until=2)
    assert program(runner.scoped("window 0")) == 50
    assert [r.scope for r in runner.records] == ["window 0"] * 3


def test_fresh_computes_everything_and_keeps_it(tmp_path: Path) -> None:
    program(Runner(Store(tmp_path)))
    fresh = Runner(Store(tmp_path), fresh=True)
    program(fresh)
    assert cached(fresh) == [False] * 3
    assert calls == ["first", "second", "third"] * 2
    after = Runner(Store(tmp_path))
    program(after)
    assert cached(after) == [True] * 3


@pytest.mark.parametrize("scopes", [("",), ("", "window 0", "window 1")])
def test_an_unwritable_store_degrades_once_and_the_results_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scopes: tuple[str, ...]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    runner = Runner(Store(blocked / "store"))
    inner = [runner if scope == "" else runner.scoped(scope) for scope in reversed(scopes)]
    with caplog.at_level(logging.WARNING, logger="ares.pipeline"):
        assert {program(each) for each in inner} == {50}
    assert len(runner.fallbacks) == 1
    assert [r.levelname for r in caplog.records if r.name == "ares.pipeline"] == ["WARNING"]


def test_a_damaged_result_is_made_anew(tmp_path: Path) -> None:
    program(Runner(Store(tmp_path)), floor=7)
    for path in (tmp_path / "v1" / "objects").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    runner = Runner(Store(tmp_path))
    assert program(runner, floor=7) == 70
    assert cached(runner) == [False] * 3


def test_a_failing_step_leaves_no_answer(tmp_path: Path) -> None:
    @step(4, "fails once")
    def fails(value: int) -> int:
        calls.append("fails")
        if len(calls) == 1:
            raise OSError("disk")
        return value

    with pytest.raises(OSError, match="disk"):
        Runner(Store(tmp_path)).run(fails, 1)
    runner = Runner(Store(tmp_path))
    assert runner.run(fails, 1) == 1
    assert cached(runner) == [False]


def test_callbacks_frame_every_call(tmp_path: Path) -> None:
    seen: list[tuple[object, ...]] = []

    def ended(record: StepRecord) -> None:
        seen.append(("end", record.number, record.name, record.scope))
        assert record.seconds >= 0
        assert record.peak_memory_bytes > 1_000_000

    runner = Runner(
        Store(tmp_path), on_start=lambda *given: seen.append(("start", *given)), on_end=ended
    )
    runner.scoped("window 3").run(first, 1)
    assert seen == [("start", 1, "first", "window 3"), ("end", 1, "first", "window 3")]


def test_the_key_of_an_array_is_its_content(tmp_path: Path) -> None:
    runner = Runner(Store(tmp_path))
    runner.run(second, Level(1, np.array([1.0, 2.0])), 0)
    runner.run(second, Level(1, np.array([1.0, 3.0])), 0)
    runner.run(second, Level(1, np.array([1.0, 2.0])), 0)
    assert cached(runner) == [False, False, True]
