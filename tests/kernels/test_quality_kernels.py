"""The decimal step of prices against exact rationals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ares.kernels.quality import on_step

pytestmark = pytest.mark.compiled
MOST = 1e13


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=20), st.integers(0, 12))
def test_multiples_of_a_step_are_on_it_and_halves_between_are_not(units, decimals):
    scale = 10.0**decimals
    values = np.array([float(Fraction(unit, 10**decimals)) for unit in units])
    assert on_step(values, scale, MOST)
    if max(units) < 10**12 / 3:
        off = float(Fraction(2 * units[-1] + 1, 2 * 10**decimals))
        assert not on_step(np.append(values, off), scale, MOST)


@given(st.lists(st.floats(5e-324, 1.7e308), min_size=1, max_size=20), st.integers(0, 12))
@example([1e13], 0)
@example([9999999999999.0], 0)
@example([1.7e308], 12)
def test_any_values_as_exact_arithmetic_has_them(values, decimals):
    scale = 10.0**decimals
    clear = True
    expected = True
    for value in values:
        exact = Fraction(value) * 10**decimals
        unit = round(exact)
        error = abs(Fraction(unit, 10**decimals) - Fraction(value)) / Fraction(value)
        limit = Fraction(1e-15)
        clear &= not (limit / 2 < error < 2 * limit) and abs(exact - unit) != Fraction(1, 2)
        clear &= abs(exact - Fraction(MOST)) > 1 or exact == Fraction(MOST)
        expected &= error <= limit and unit < MOST
    if clear:  # next to the limit, rounding decides
        assert on_step(np.array(values), scale, MOST) == expected
