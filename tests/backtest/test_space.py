"""Parameter spaces: one canonical point, clear refusals, bounds as users write them."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest.signals import Stops
from ares.backtest.space import Categorical, Float, Int, LessThan, ParameterSpace
from ares.backtest.strategies import BUILT_IN, ModelSignal, RsiReversion, ScoreThreshold, SmaCross
from ares.core.errors import ParameterError
from ares.core.identity import fingerprint


@pytest.mark.parametrize("ten", [10, 10.0, np.int32(10), np.float64(10)])
def test_equal_values_are_one_point(ten):
    point = SmaCross().space.normalise({"fast": ten, "slow": 50, "size": 1})
    assert point == SmaCross().space.normalise({"slow": 50.0, "fast": 10, "direction": "long"})
    assert [type(point[name]) for name in ("fast", "size", "cooldown")] == [int, float, int]
    assert fingerprint(point) == fingerprint(SmaCross().space.normalise({"fast": 10, "slow": 50}))


def test_the_common_parameters_have_their_defaults():
    point = RsiReversion().space.normalise({})
    assert Stops.of(point) == Stops()
    assert Stops() == Stops("long", None, None, "fraction", None, 1.0, 0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fats": 5}, "not known; got 'fats'. Did you mean fast? Known are fast, slow, direction,"),
        ({"FAST": 5}, "Did you mean fast?"),
        ({"stoploss": 0.1}, "Did you mean stop_loss?"),
        ({"fast": 0}, "parameters: fast must be at least 1; got 0"),
        ({"slow": 1}, "at least 2"),
        ({"fast": 10.5}, "whole number"),
        ({"fast": True}, "finite number"),
        ({"fast": "10"}, "finite number"),
        ({"fast": None}, "finite number; got 'None'"),
        ({"fast": math.nan}, "finite number"),
        ({"fast": 50, "slow": 20}, "fast must be below slow"),
        ({"fast": 20, "slow": 20}, "fast must be below slow"),
        ({"stop_loss": 0}, "above 0"),
        ({"stop_loss": 3}, "below 1 where stop_unit is fraction; got 3.0. 3 % are 0.03"),
        ({"take_profit": -0.1}, "above 0"),
        ({"take_profit": math.inf}, "finite number"),
        ({"max_hold": 0}, "at least 1"),
        ({"cooldown": -1}, "at least 0"),
        ({"size": 0}, "above 0 and at most 1"),
        ({"size": 2}, "above 0 and at most 1"),
        ({"direction": "up"}, "one of 'long', 'short', 'both'"),
        ({"stop_unit": "percent"}, "one of 'fraction', 'atr'"),
        ([("fast", 5)], "a dict of names and values"),
    ],
)
def test_refusals_name_rule_value_and_remedy(params, message):
    with pytest.raises(ParameterError) as caught:
        SmaCross().space.normalise(params)
    assert message in str(caught.value)


def test_a_space_holds_parameters_and_rules_between_them():
    with pytest.raises(ParameterError, match="from_bounds reads plain bounds"):
        ParameterSpace({"n": (2, 50)})
    with pytest.raises(ParameterError, match="Did you mean fast"):
        ParameterSpace({"fast": Int(2, 50)}, (LessThan("fats", "size"),))


def test_levels_in_average_true_ranges_may_exceed_one():
    point = SmaCross().space.normalise({"stop_loss": 3, "stop_unit": "atr"})
    assert point["stop_loss"] == 3.0


def test_the_valid_domain_is_wider_than_the_search():
    space = SmaCross().space
    assert space.normalise({"fast": 2, "slow": 5_000})["slow"] == 5_000
    assert space.parameters["slow"].high < 5_000


def test_bounds_as_users_write_them():
    space = ParameterSpace.from_bounds(
        {"n": (2, 9), "x": (0.5, 2.0), "y": (1e-3, 1.0, "log"), "k": (1, 64, "log"), "c": ["a", 1]},
        (LessThan("x", "y"),),
    )
    n, x, y, k, c = space.parameters.values()
    assert isinstance(n, Int)
    assert isinstance(k, Int)
    assert isinstance(x, Float)
    assert isinstance(y, Float)
    assert isinstance(c, Categorical)
    assert (n.log, y.log, k.log) == (False, True, True)
    good = {"n": 9, "x": 0.5, "y": 1.0, "k": 1, "c": 1}
    assert space.normalise(good)["x"] == 0.5
    for name, value in (("n", 10), ("x", 2.1), ("y", 0.0), ("k", 0), ("c", "b"), ("c", True)):
        with pytest.raises(ParameterError):
            space.normalise(good | {name: value})
    with pytest.raises(ParameterError, match="must be given"):
        space.normalise({"n": 3})
    assert not space.allows({"x": 1.0, "y": 0.5})
    assert space.allows({"x": 1.0})


def test_integers_of_numpy_bound_an_integer():
    space = ParameterSpace.from_bounds({"n": (np.int64(2), np.int32(9)), "x": (np.float64(1), 2)})
    assert space == ParameterSpace.from_bounds({"n": (2, 9), "x": (1.0, 2.0)})
    assert isinstance(space.parameters["n"], Int)


@pytest.mark.parametrize(
    "bound", [(1,), (3, 2), (0.0, 1.0, "log"), "ab", [], (1, 2, "lin"), None, (1, math.inf)]
)
def test_unreadable_bounds_are_refused(bound):
    with pytest.raises(ParameterError):
        ParameterSpace.from_bounds({"x": bound})


def test_common_parameters_join_the_search_but_keep_their_domain():
    space = SmaCross().space.with_bounds(
        {"stop_loss": (0.01, 0.1), "fast": (2, 9), "direction": ["both", "long"]}
    )
    assert tuple(space.parameters) == ("fast", "slow", "stop_loss", "direction")
    assert (space.parameters["fast"].low, space.parameters["fast"].high) == (2, 9)
    assert space.normalise({"stop_loss": 0.5, "fast": 40})["fast"] == 40
    assert space.normalise({})["direction"] == "long"
    for bounds in (
        {"stop_loss": (0.0, 0.1)},
        {"fast": (0, 3)},
        {"fast": ["a"]},
        {"direction": (0, 1)},
    ):
        with pytest.raises(ParameterError):
            SmaCross().space.with_bounds(bounds)
    plain = ParameterSpace.from_bounds({"max_hold": (5, 50)})
    assert plain.normalise({"max_hold": 200})["max_hold"] == 200


def inside(parameter):
    if isinstance(parameter, Int):
        return st.integers(parameter.low, parameter.high)
    if isinstance(parameter, Float):
        return st.floats(parameter.low, parameter.high)
    return st.sampled_from(parameter.choices)


SPACES = [s.space for s in BUILT_IN.values()] + [ScoreThreshold.space, ModelSignal.space]


@pytest.mark.laws
@given(st.data(), st.sampled_from(SPACES))
def test_the_search_range_is_valid_and_normalising_twice_changes_nothing(data, space):
    drawn = {name: data.draw(inside(p)) for name, p in space.parameters.items()}
    if not space.allows(drawn):
        with pytest.raises(ParameterError, match="must be below"):
            space.normalise(drawn)
        return
    point = space.normalise(drawn)
    assert set(point) == set(space.names)
    assert space.normalise(point) == point
    assert fingerprint(space.normalise(point)) == fingerprint(point)


def test_a_space_has_an_identity_and_crosses_processes():
    space = SmaCross().space
    assert fingerprint(space) == fingerprint(SmaCross().space)
    assert pickle.loads(pickle.dumps(space)) == space
