"""The pipeline has sixteen steps, numbered 1 to 16, and calls them in that order."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from ares.enhanced_training_manager import STEPS
from ares.pipeline.step import Step

if TYPE_CHECKING:
    from small_runs import Finished

NAMES = (
    "data collection",
    "market regime classification",
    "regime data splitting",
    "analyst labeling and feature engineering",
    "analyst specialist training",
    "analyst enhancement",
    "analyst ensemble creation",
    "tactician labeling",
    "tactician specialist training",
    "tactician ensemble creation",
    "confidence calibration",
    "final parameters optimization",
    "walk-forward validation",
    "Monte Carlo validation",
    "A/B testing",
    "saving",
)


def test_steps_are_numbered_and_named() -> None:
    assert [(s.number, s.name) for s in STEPS] == list(enumerate(NAMES, start=1))


def test_steps_are_short_and_say_what_they_do() -> None:
    for s in STEPS:
        assert isinstance(s, Step)
        assert s.function.__doc__, s.name
        assert len(inspect.getsource(s.function).splitlines()) <= 45, s.name


def test_a_run_calls_all_of_them_in_order(finished: Finished) -> None:
    own = [(r.number, r.name) for r in finished.result.steps if not r.scope]
    assert own == list(enumerate(NAMES, start=1))


def test_every_window_calls_two_to_twelve_in_order(finished: Finished) -> None:
    for window in range(2):
        inside = [r.number for r in finished.result.steps if r.scope == f"window {window}"]
        assert inside == list(range(2, 13))
    nested = [r.scope for r in finished.result.steps].index("window 0")
    assert finished.result.steps[nested - 1].number == 12  # inside 13, after 12
