"""`--param` and `--objective`: what they read, and what they refuse."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.ares_launcher.param_option import searched_space, shown_range
from ares.backtest.space import Categorical, Float, Int
from ares.backtest.strategies import RsiReversion, SmaCross
from ares.core.errors import InputError, ParameterError
from ares.search.user_objective import NAMES, load_objective

SPACE = SmaCross().space
CODE = """
def mine(blocks, days_per_year):
    return blocks.sum.sum() / days_per_year

def narrow(blocks):
    return 0.0

class Other:
    pass
"""


@given(st.integers(1, 500), st.integers(0, 500), st.sampled_from(["", ":log", ":linear"]))
def test_bounds_are_searched_as_written(low: int, more: int, scale: str) -> None:
    space = searched_space(SPACE, [f"slow={low + 100}:{low + 100 + more}{scale}"])
    slow = space.parameters["slow"]
    assert isinstance(slow, Int)
    assert (slow.low, slow.high, slow.log) == (low + 100, low + 100 + more, scale != ":linear")
    assert space.parameters["fast"] == SPACE.parameters["fast"]
    assert space.constraints == SPACE.constraints


@given(st.floats(1e-4, 0.49), st.floats(1.01, 2.0))
def test_numbers_survive_the_command_line(low: float, factor: float) -> None:
    stop = searched_space(SPACE, [f"stop_loss={low!r}:{low * factor!r}"]).parameters["stop_loss"]
    assert isinstance(stop, Float)
    assert (stop.low, stop.high) == (low, low * factor)


def test_one_value_fixes_and_a_list_chooses() -> None:
    space = searched_space(SPACE, ["fast=7", "direction=short,long,short", "stop_unit = ATR"])
    fast, direction, unit = (space.parameters[n] for n in ("fast", "direction", "stop_unit"))
    assert isinstance(fast, Int)
    assert (fast.low, fast.high) == (7, 7)
    assert isinstance(direction, Categorical)
    assert direction.choices == ("short", "long")
    assert shown_range(unit) == shown_range(fast) == "fixed"
    assert shown_range(direction) == "short, long"
    assert shown_range(SPACE.parameters["fast"]) == "3 to 60, log"
    assert searched_space(SPACE, None) == SPACE


def test_a_linear_range_stays_linear_until_log_is_said() -> None:
    low = searched_space(RsiReversion().space, ["low=10:40"]).parameters["low"]
    assert not low.log  # type: ignore[union-attr]
    low = searched_space(RsiReversion().space, ["low=10:40:log"]).parameters["low"]
    assert low.log  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["fats=3"], "Did you mean fast?"),
        (["fast"], "--param takes NAME=VALUE"),
        (["fast="], "--param takes NAME=VALUE"),
        (["=3"], "--param takes NAME=VALUE"),
        (["fast=3:4:5"], "--param takes NAME=VALUE"),
        (["fast=3:4:log:5"], "--param takes NAME=VALUE"),
        (["fast=3,4"], "fast is a number"),
        (["fast=ten"], "must be a finite number; got 'ten'"),
        (["fast=3:inf"], "must be a finite number"),
        (["fast=2.5:9"], "must be a whole number"),
        (["fast=50:5"], "low must not exceed high"),
        (["cooldown=0:9:log"], "log needs low > 0"),
        (["fast=0:5"], "fast must be at least 1"),
        (["fast=5", "fast=6"], "names each parameter once"),
        (["fast=200", "slow=10:50"], "hold no such point"),
        (["direction=up"], "must be one of 'long', 'short', 'both'"),
        (["stop_loss=0.5:2"], "must be below 1 where stop_unit is fraction"),
        (["fee=0.1"], "--fee 0.1"),
    ],
)
def test_unreadable_bounds_are_refused_with_a_reason(pairs: list[str], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        searched_space(SPACE, pairs)
    assert message in str(caught.value)


def test_stops_in_true_ranges_may_be_wide() -> None:
    space = searched_space(SPACE, ["stop_unit=atr", "stop_loss=0.5:5"])
    point = {"fast": 5, "slow": 50, "stop_unit": "atr", "stop_loss": 5.0}
    assert space.normalise(point)["stop_loss"] == 5.0


def test_objectives_are_names_or_functions_of_a_file(tmp_path: Path) -> None:
    assert [load_objective(name) for name in NAMES] == list(NAMES)
    path = tmp_path / "goal.py"
    path.write_text(CODE)
    found = load_objective(f"{path}:mine")
    assert callable(found)

    class Blocks:
        sum = np.array([1.0, 2.0])

    assert math.isclose(found(Blocks(), 2.0), 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sharp", "The nearest name is sharpe"),
        ("goal.py", "or path/to/file.py:function"),
        ("none.py:f", "must be a Python file that exists"),
        ("goal.py:mien", "Did you mean mine?"),
        ("goal.py:Other", "the file must define this function"),
        ("goal.py:narrow", "called as f(blocks, days_per_year); got 'narrow(blocks)'"),
        ("empty.py:f", "It defines no function."),
        ("broken.py:f", "broken.py:1: import raised ZeroDivisionError"),
    ],
)
def test_an_unusable_objective_is_refused_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "goal.py").write_text(CODE)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(InputError) as caught:
        load_objective(spec)
    assert message in str(caught.value)
