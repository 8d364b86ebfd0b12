"""Every bad input is one error that names where, the rule, the value and the remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ares.backtest import Costs, simulate, simulate_reference
from ares.backtest.checks import checked_signals
from ares.backtest.signals import Events, ScoreRule
from ares.backtest.space import ParameterSpace
from ares.backtest.strategies import ModelSignal, ScoreThreshold, SmaCross
from ares.backtest.user import load_strategy
from ares.core.errors import DataError, InputError, ParameterError
from ares.market.bars import Bars
from backtest_cases import random_bars

FREE = Costs(0, 0)
BARS = random_bars(60, 1)
NONE = np.empty(0, dtype=np.int64)

CLASS = """
import numpy as np
from ares.backtest.signals import Events, ScoreRule
from ares.backtest.space import Int, ParameterSpace

class Mine:
    name = "Mine"
    space = ParameterSpace({"n": Int(2, 50, minimum=1, default=5)})
    def prepare(self, bars, *, max_gap=None):
        PREPARE
    def signals(self, prepared, params):
        none = np.empty(0, dtype=np.int64)
        SIGNALS
    def lookback(self, params):
        LOOKBACK
"""
DEFAULTS = {
    "PREPARE": "return len(bars)",
    "SIGNALS": "return Events(none, none, none, none)",
    "LOOKBACK": 'return params["n"]',
}
LINES = {word: CLASS.splitlines().index(f"        {word}") + 1 for word in DEFAULTS}


def _write(folder: Path, **bodies: str) -> Path:
    text = CLASS
    for word, default in DEFAULTS.items():
        text = text.replace(word, bodies.get(word, default))
    path = folder / "mine.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("word", "body", "said"),
    [
        ("PREPARE", 'raise KeyError("close")', "Mine.prepare raised KeyError: 'close'"),
        ("PREPARE", "bars.close[0] = 1.0", "Mine.prepare raised ValueError: assignment"),
        ("SIGNALS", 'raise RuntimeError("unlucky")', "Mine.signals raised RuntimeError: unlucky"),
        ("SIGNALS", "raise SystemExit(3)", "Mine.signals raised SystemExit: 3"),
        ("SIGNALS", "return Events(entry=none)", "Mine.signals raised TypeError"),
        ("SIGNALS", "Int(2, 9).normalise('n', 2.5)", "Mine.signals, parameters: n must be a whole"),
        ("LOOKBACK", 'return params["m"]', "Mine.lookback raised KeyError: 'm'"),
    ],
)
def test_what_a_users_code_raises_names_file_and_line(
    tmp_path: Path, word: str, body: str, said: str
) -> None:
    path = _write(tmp_path, **{word: body})
    strategy = load_strategy(f"{path}:Mine")
    with pytest.raises(InputError) as caught:
        simulate(BARS, strategy, {}, costs=FREE)
    assert str(caught.value).startswith(f"{path}:{LINES[word]}: {said}")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("None", "signals must be a ScoreRule or Events; got 'NoneType'"),
        ("[1, 2, 3]", "signals must be a ScoreRule or Events; got 'list'"),
        ("Events(np.ones(60, dtype=bool), none, none, none)", "np.flatnonzero(mask) makes"),
        ("ScoreRule(np.full(60, np.nan), 0.5, 0.0)", "must be defined somewhere"),
        ("ScoreRule(np.zeros(3), 0.5, 0.0)", "one value per bar, that is 60; got 3"),
    ],
)
def test_what_a_user_answers_wrongly_names_file_and_method(
    tmp_path: Path, answer: str, said: str
) -> None:
    path = _write(tmp_path, SIGNALS=f"return {answer}")
    with pytest.raises(ParameterError) as caught:
        simulate(BARS, load_strategy(f"{path}:Mine"), {}, costs=FREE)
    line = LINES["SIGNALS"] - 2
    assert str(caught.value).startswith(f"{path}:{line}: Mine.signals")
    assert said in str(caught.value)


@pytest.mark.parametrize("answer", ["None", "-3", "'ten'", "2.5", "True"])
def test_a_lookback_is_a_number_of_bars(tmp_path: Path, answer: str) -> None:
    path = _write(tmp_path, LOOKBACK=f"return {answer}")
    with pytest.raises(InputError, match="lookback answers a number of bars, at least 0; got"):
        simulate(BARS, load_strategy(f"{path}:Mine"), {}, costs=FREE)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            ", *, max_gap=None",
            "",
            r":10: Mine.prepare: .*\(bars, \*, max_gap=None\); got '\(bars\)'",
        ),
        ("prepared, params", "prepared", r":12: Mine.signals: .*\(prepared, params\)"),
        ("self, params", "self", r"Mine.lookback: lookback is called as lookback\(params\)"),
        ('name = "Mine"', "name = 3", "Mine.name: name must be a text; got 3"),
        ('    name = "Mine"\n', "", "a strategy has name, space, prepare, signals; got 'no name'"),
        ("Int(2, 50, minimum=1, default=5)", "(2, 50)", ":9: import, parameters: n must be an Int"),
        ("def prepare", "prepare = 3\n    def other", "Mine.prepare: prepare must be a method"),
        ("class Mine", "raise SystemExit(3)\nclass Mine", ":7: import raised SystemExit: 3"),
        ("class Mine", "class Mine(", ":7: import raised SyntaxError: "),
        ("class Mine", "class Yours", "must define this class; got 'Mine'. Did you mean Yours?"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_before_any_bar_is_read(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = _write(tmp_path)
    path.write_text("\n" + path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=said) as caught:
        load_strategy(f"{path}:Mine")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{path}", "Name the class, too: {path}:Mine."),
        ("{path}:", "Name the class, too: {path}:Mine."),
        ("{path}:Events", "must define this class; got 'Events'. Did you mean Mine?"),
        ("{path}:np", "must define this class; got 'np'. Did you mean Mine?"),
        ("ScoreThreshold", "simulate(bars, ScoreThreshold(score), ...) runs it"),
        ("model_signal", "simulate(bars, ModelSignal(score), ...) runs it"),
        ("sma_cros", "the nearest name is SmaCross"),
        ("nowhere.py:Mine", "must be a Python file that exists; got 'nowhere.py'"),
    ],
)
def test_a_spec_that_means_nothing_says_what_would(tmp_path: Path, spec: str, said: str) -> None:
    path = _write(tmp_path)
    with pytest.raises(InputError, match=re.escape(said.format(path=path))):
        load_strategy(spec.format(path=path))


def _events(values: Any) -> Events:
    return Events(NONE, values, NONE, NONE)


def _rule(array: Any, **levels: Any) -> ScoreRule:
    return ScoreRule(array, **{"enter": 0.5, "exit": 0.0, **levels})


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        (None, "S: signals must be a ScoreRule or Events; got 'NoneType'"),
        (np.zeros(60), "got 'ndarray'. Both are in ares.backtest.signals."),
        (_events(None), "S, long_exit: events are a flat array of indices of bars; got 'None'"),
        (_events([5, 3]), "S, long_exit[1]: events must increase; got '3 after 5'. np.unique"),
        (_events([3, 5, 5]), "S, long_exit[2]: events must increase; got '5 after 5'"),
        (_events([3, 60]), "S, long_exit[1]: events are indices of the 60 bars, 0 to 59; got 60"),
        (_events([-1, 3]), "S, long_exit[0]: events are indices of the 60 bars"),
        (_events([1.0, 2.0]), "got 'float64 of shape (2,)'. array.astype(np.int64)"),
        (_events(np.zeros(60, dtype=bool)), "got 'bool of shape (60,)'. np.flatnonzero(mask)"),
        (_events([[1, 2]]), "got 'int64 of shape (1, 2)'"),
        (_events([[1], [2, 3]]), "long_exit: events are a flat array"),
        (_events("abc"), "long_exit: events are a flat array"),
        (_events({1, 2}), "long_exit: events are a flat array"),
        (_rule(np.zeros(59)), "S, score: a score has one value per bar, that is 60; got 59"),
        (_rule(np.zeros((60, 1))), "got 'float64 of shape (60, 1)'"),
        (_rule(["a"] * 60), "a flat array of numbers, one per bar; got 'str"),
        (_rule([None] * 60), "a flat array of numbers, one per bar; got 'object"),
        (_rule(np.r_[0.0, np.inf, np.zeros(58)]), "S, score, bar 1: a score must be finite"),
        (_rule(np.full(60, np.nan)), "S, score, all 60 bars: a score must be defined somewhere"),
        (_rule(np.zeros(60), enter=np.nan), "S, ScoreRule: enter must be a number; got 'nan'"),
        (_rule(np.zeros(60), exit="0.1"), "exit must be a number; got '0.1'"),
        (_rule(np.zeros(60), enter=None), "enter must be a number; got 'None'"),
        (_rule(np.zeros(60), short_exit=[1]), "short_exit must be a number"),
    ],
)
def test_signals_of_a_wrong_kind_are_refused(signals: Any, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        checked_signals(signals, 60, where="S")
    assert said in str(caught.value)


def test_good_signals_pass_in_their_canonical_types() -> None:
    found = checked_signals(Events([1, 2], np.array([], dtype=float), NONE, [59]), 60, where="S")
    assert isinstance(found, Events)
    assert [column.dtype for column in vars(found).values()] == [np.int64] * 4
    assert found.long_entry.tolist() == [1, 2]
    score = np.r_[np.nan, np.zeros(59)]
    rule = checked_signals(_rule(score, short_enter=-np.inf), 60, where="S")
    assert isinstance(rule, ScoreRule)
    assert rule.array is score  # what is kept for an array is found again
    assert (rule.short_enter, rule.short_exit) == (-np.inf, None)
    counts = checked_signals(_rule(np.arange(60) % 3), 60, where="S")
    assert isinstance(counts, ScoreRule)
    assert counts.array.dtype == np.float64


@pytest.mark.parametrize("kind", [ScoreThreshold, ModelSignal])
@pytest.mark.parametrize(
    ("score", "said"),
    [
        (np.full(60, np.nan), "score: a score must be defined somewhere"),
        (np.zeros(59), "score: a score needs one value per bar, that is 60; got 59"),
        (np.zeros((60, 2)), "one per bar"),
        (["high"] * 60, "one per bar"),
        ([], "one per bar"),
        (np.r_[np.inf, np.zeros(59)], "must be finite"),
    ],
)
def test_a_score_that_cannot_be_traded(kind: Any, score: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        simulate(BARS, kind(score), {}, costs=FREE)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"fats": 5}, "Did you mean fast?"),
        ({"slow": 1}, "slow must be at least 2; got 1"),
        ({"fast": 50, "slow": 10}, "fast must be below slow; got {'fast': 50, 'slow': 10}"),
        ({"size": 0}, "size must be above 0 and at most 1; got 0"),
        ({"size": 2}, "size must be above 0 and at most 1; got 2"),
        ({"slow": 61}, "SmaCross needs 61 bars to warm up; got 60. Use shorter periods or more"),
        (None, "parameters are a dict of names and values; got 'None'"),
    ],
)
def test_a_point_that_cannot_be_tested(params: Any, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        simulate(BARS, SmaCross(), params, costs=FREE)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"fee": -0.1, "slippage": 0}, "fee is a fraction, at least 0 and below 1; got -0.1. 10"),
        ({"fee": 1, "slippage": 0}, "below 1; got 1"),
        ({"fee": 0, "slippage": np.nan}, "slippage is a fraction"),
        ({"fee": 0, "slippage": "5"}, "slippage is a fraction"),
        ({"fee": 0, "slippage": 0, "borrow": -1}, "borrow is a fraction, at least 0; got -1"),
    ],
)
def test_costs_that_cannot_be(rates: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Costs(**rates)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"bars": BARS.to_frame()},
            "bars: a backtest trades Bars; got 'DataFrame'. ares.load_bars",
        ),
        ({"strategy": SmaCross}, "strategy: a strategy is an object with name, space,"),
        ({"strategy": "sma_cross"}, "strategy: a strategy is an object with name, space,"),
        ({"costs": 0.001}, "costs: costs are Costs(fee=..., slippage=...); got 'float'."),
        ({"fill": "middle"}, "fill: fill must be next_open or close; got 'middle'"),
        ({"max_gap": -1}, "max_gap: max_gap counts bars; got -1"),
        ({"start": 60}, "start and stop must be a range of the 60 bars; got (60, 60)"),
    ],
)
@pytest.mark.parametrize("engine", [simulate, simulate_reference])
def test_arguments_of_a_wrong_kind_are_refused(
    engine: Any, changed: dict[str, Any], said: str
) -> None:
    given = {"bars": BARS, "strategy": SmaCross(), "params": {}, "costs": FREE, **changed}
    with pytest.raises(ParameterError, match=re.escape(said)):
        engine(**given)


@pytest.mark.parametrize("engine", [simulate, simulate_reference])
def test_a_strategy_of_a_notebook_is_checked_as_one_of_a_file(engine: Any) -> None:
    class Mine:
        name = "Mine"
        space = ParameterSpace({})

        def prepare(self, bars: Bars, *, max_gap: int | None = None) -> None:
            pass

        def signals(self, prepared: None, params: dict[str, Any]) -> Any:
            return Events([[1], [2, 3]], NONE, NONE, NONE)

    with pytest.raises(ParameterError, match=r"Mine.signals, long_entry: events are a flat array"):
        engine(BARS, Mine(), {}, costs=FREE)


def test_no_bars_are_refused() -> None:
    with pytest.raises(ParameterError, match="bars: a backtest needs at least one bar"):
        simulate(BARS[:0], SmaCross(), {}, costs=FREE)
    frame = pd.DataFrame(columns=["timestamp", "open", "high", "low", "close", "volume"])
    with pytest.raises(DataError):
        Bars.from_frame(frame, symbol="X", exchange="local", timeframe="1m")
