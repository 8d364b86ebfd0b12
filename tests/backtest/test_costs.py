"""Costs: checked once, multiplied for stress."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ares.backtest import Costs, default_costs
from ares.core.errors import ParameterError
from ares.core.identity import fingerprint


def test_defaults_by_calendar():
    assert default_costs("24/7") == Costs(0.001, 0.0005)
    assert default_costs("24/5") == default_costs("session:UTC 09:30-16:00") == Costs(1e-4, 2e-4)


def test_times_leaves_funding_alone():
    costs = Costs(0.001, 0.002, 0.05, ((1, 0.1),))
    assert costs.times(2) == Costs(0.002, 0.004, 0.1, ((1, 0.1),))


@pytest.mark.parametrize("bad", [-0.1, 1.0, math.nan, math.inf, "0.1", True, None])
@pytest.mark.parametrize("name", ["fee", "slippage"])
def test_rates_are_fractions(name, bad):
    with pytest.raises(ParameterError, match=f"costs: {name}: {name} is a fraction"):
        Costs(**({"fee": 0.0, "slippage": 0.0} | {name: bad}))


def test_borrow_is_not_negative():
    assert Costs(0, 0, borrow=3).borrow == 3.0
    with pytest.raises(ParameterError, match="borrow"):
        Costs(0, 0, borrow=-1)


def test_funding_is_read_from_times_of_any_kind():
    day = np.datetime64("2024-01-01", "ns")
    costs = Costs(0, 0, funding=[("2024-01-01", 0.1), (int(day.astype(int)) + 1, -0.1)])
    assert costs.funding == ((int(day.astype(int)), 0.1), (int(day.astype(int)) + 1, -0.1))
    assert fingerprint(costs) == fingerprint(Costs(0, 0, funding=costs.funding))


@pytest.mark.parametrize(
    "funding", [[(1, math.nan)], [(2, 0.1), (1, 0.1)], [(1, 0.1), (1, 0.1)], [1], [("x", 0.1)]]
)
def test_unreadable_funding_is_refused(funding):
    with pytest.raises(ParameterError, match="funding"):
        Costs(0, 0, funding=funding)


def test_zero_is_one_value():
    assert math.copysign(1, Costs(-0.0, -0.0).fee) == 1
