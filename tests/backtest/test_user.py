"""Strategies from a user's file: they run, and what they raise names file and line."""

from __future__ import annotations

import pytest

from ares.backtest import Costs, simulate
from ares.backtest.user import load_strategy
from ares.core.errors import InputError
from backtest_cases import random_bars

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
import numpy as np
from ares.backtest.signals import Events
from ares.backtest.space import ParameterSpace

@dataclass(frozen=True)
class Every:
    name: str = "Every"
    space = ParameterSpace.from_bounds({"n": (2, 50)})

    def prepare(self, bars, *, max_gap=None):
        return len(bars)

    def signals(self, prepared, params):
        if params["n"] == 13:
            raise RuntimeError("unlucky")
        entry = np.arange(0, prepared, params["n"])
        none = np.empty(0, dtype=np.int64)
        return Events(entry, entry + 1 if entry[-1] + 1 < prepared else entry[:-1] + 1, none, none)
"""


def write(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


def test_a_strategy_from_a_file_runs(tmp_path):
    strategy = load_strategy(f"{write(tmp_path, GOOD)}:Every")
    assert strategy.name == "Every"
    bars = random_bars(60, 1)
    result = simulate(bars, strategy, {"n": 5, "size": 0.5}, costs=Costs(0, 0))
    assert len(result.trades) == 12  # bars 0, 5, ... 55


def test_what_it_raises_names_file_and_line(tmp_path):
    path = write(tmp_path, GOOD)
    strategy = load_strategy(f"{path}:Every")
    with pytest.raises(InputError) as caught:
        simulate(random_bars(60, 1), strategy, {"n": 13}, costs=Costs(0, 0))
    line = GOOD.splitlines().index('            raise RuntimeError("unlucky")') + 1
    assert str(caught.value) == f"{path}:{line}: Every.signals raised RuntimeError: unlucky"


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("x = 1\ny = = 2\n", 2, "SyntaxError"),
        ("import nothing_of_this_name\n", 1, "ModuleNotFoundError"),
        ("\n\nclass Every:\n    def __init__(self):\n        1 / 0\n", 5, "ZeroDivisionError"),
    ],
)
def test_a_file_that_cannot_be_used_names_its_line(tmp_path, text, line, error):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=error) as caught:
        load_strategy(f"{path}:Every")
    assert f"{path}:{line}: " in str(caught.value)


def test_missing_pieces_are_named(tmp_path):
    path = write(tmp_path, GOOD + "\nclass Half:\n    name = 'Half'\n    space = 3\n")
    with pytest.raises(InputError, match="no prepare"):
        load_strategy(f"{path}:Half")
    with pytest.raises(InputError, match="Did you mean Every"):
        load_strategy(f"{path}:Evry")
    with pytest.raises(InputError, match="must be a Python file"):
        load_strategy(f"{tmp_path}/none.py:Every")
    with pytest.raises(InputError, match="the nearest name is SmaCross"):
        load_strategy("SmaCros")
    assert load_strategy("SmaCross").name == "SmaCross"


def test_a_space_must_be_a_space(tmp_path):
    text = GOOD.replace('ParameterSpace.from_bounds({"n": (2, 50)})', "{}")
    with pytest.raises(InputError, match="must be a ParameterSpace"):
        load_strategy(f"{write(tmp_path, text)}:Every")


def test_files_beside_a_strategy_can_be_imported(tmp_path):
    (tmp_path / "beside_the_strategy.py").write_text("N = 7\n")
    text = "from beside_the_strategy import N\n" + GOOD.replace(
        "from __future__ import annotations", ""
    )
    bars = random_bars(60, 1)
    strategy = load_strategy(f"{write(tmp_path, text)}:Every")
    assert simulate(bars, strategy, {"n": 7}, costs=Costs(0, 0)).metrics["n_trades"] > 0


def test_a_strategy_may_change_the_parameters_it_gets(tmp_path):
    text = GOOD.replace(
        'if params["n"] == 13:',
        'n = params["n"]; params.clear(); params["n"] = n\n        if n == 13:',
    )
    strategy = load_strategy(f"{write(tmp_path, text)}:Every")
    bars = random_bars(60, 1)
    found = simulate(bars, strategy, {"n": 5, "size": 0.5}, costs=Costs(0, 0))
    assert found.trades["units"].iloc[0] * found.trades["entry_price"].iloc[0] == pytest.approx(0.5)
