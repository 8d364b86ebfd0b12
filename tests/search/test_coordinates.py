"""Keys, unit coordinates and features of a space agree with one another."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.backtest.space import LessThan, ParameterSpace
from ares.core.errors import ParameterError
from ares.search.sampling.coordinates import Coordinates

SPACE = ParameterSpace.from_bounds(
    {
        "a": (-5, 40), "b": (1, 5000, "log"), "c": (-2.0, 3.0), "d": (1e-3, 10.0, "log"),
        "e": [True, 1, "1", None, 2.5], "f": (9, 9),
    },
    [LessThan("a", "b"), LessThan("a", "f")],
)  # fmt: skip
UNITS = st.lists(
    st.tuples(*[st.floats(0.0, 1.0)] * 5), min_size=1, max_size=20
)  # fmt: skip


@given(UNITS)
def test_a_point_goes_to_its_key_and_back_and_cells_hold_their_middles(rows):
    coordinates = Coordinates(SPACE)
    units = np.array(rows)
    snapped = coordinates.snap(units)
    for row, middle in zip(units, snapped, strict=True):
        key = coordinates.from_unit(row)
        point = coordinates.point(key)
        assert list(point) == sorted(SPACE.parameters)
        assert SPACE.parameters["e"].choices[key[4]] is point["e"]
        assert coordinates.key(point) == key
        assert coordinates.key(dict(reversed(point.items()))) == key
        assert -5 <= point["a"] <= 40
        assert 1 <= point["b"] <= 5000
        assert -2.0 <= point["c"] <= 3.0
        assert 1e-3 <= point["d"] <= 10.0
        assert coordinates.units([key])[0] == pytest.approx(middle, abs=1e-9)
        assert coordinates.from_unit(middle)[:2] == key[:2]
        assert coordinates.from_unit(middle)[4] == key[4]


@given(UNITS)
def test_rows_seem_feasible_where_their_points_are(rows):
    coordinates = Coordinates(SPACE)
    snapped = coordinates.snap(np.array(rows))
    exact = [coordinates.feasible(coordinates.from_unit(row)) for row in snapped]
    assert coordinates.seem_feasible(snapped).tolist() == exact


@given(UNITS)
def test_many_keys_at_once_are_the_keys_one_by_one(rows):
    coordinates = Coordinates(SPACE)
    units = np.array(rows)
    together = coordinates.keys(units)
    assert len(together) == len(rows)
    for row, key in zip(units, together, strict=True):
        alone = coordinates.from_unit(row)
        assert list(map(type, key)) == list(map(type, alone))
        assert key[0] == alone[0]
        assert key[4] == alone[4]
        # exp of numpy and of the C library may differ in the last bit
        assert abs(key[1] - alone[1]) <= (abs(row[1] - coordinates.units([alone])[0, 1]) > 0)
        assert key[2:4] == pytest.approx(alone[2:4], rel=1e-14)
        assert coordinates.feasible(key) == SPACE.allows(coordinates.point(key))
    ends = coordinates.keys(np.array([[0.0] * 5, [1.0] * 5]))
    assert [ends[0][:4], ends[1][:4]] == [(-5, 1, -2.0, 1e-3), (40, 5000, 3.0, 10.0)]
    assert coordinates.keys(np.empty((0, 5))) == []


@given(UNITS)
def test_features_are_numbers_as_they_are_and_categories_one_unit_apart(rows):
    coordinates = Coordinates(SPACE)
    snapped = coordinates.snap(np.array(rows))
    features = coordinates.features(snapped)
    assert features.shape == (len(rows), len(coordinates.owners)) == (len(rows), 9)
    assert features[:, :4].tolist() == snapped[:, :4].tolist()
    other = (coordinates.from_unit(snapped[0])[4] + 1) % 5
    moved = snapped[:1].copy()
    moved[0, 4] = (other + 0.5) / 5
    assert np.linalg.norm(coordinates.features(moved) - features[:1]) == pytest.approx(1.0)


def test_equal_numbers_have_one_key_and_equal_choices_of_other_types_their_own():
    coordinates = Coordinates(SPACE)
    point = {"a": 3, "b": 20, "c": 0.0, "d": 0.5, "e": True, "f": 9}
    key = coordinates.key(point)
    assert key == coordinates.key({**point, "a": 3.0, "b": np.int64(20), "d": np.float64(0.5)})
    packed = {coordinates.packed(coordinates.key({**point, "c": zero})) for zero in (0.0, -0.0, 0)}
    assert len(packed) == 1
    assert [coordinates.key({**point, "e": e})[4] for e in (True, 1, "1", None, 2.5)] == [*range(5)]
    for wrong in (0.5, math.inf, math.nan, "x", None):
        with pytest.raises(ParameterError):
            coordinates.key({**point, "a": wrong})


def test_a_key_that_does_not_fit_into_eight_bytes_is_kept_as_it_is():
    coordinates = Coordinates(ParameterSpace.from_bounds({"n": (0, 2**70), "x": (0.0, 1.0)}))
    assert coordinates.packed((3, 0.5)) == coordinates.packed((3, 0.5))
    assert len(coordinates.packed((3, 0.5))) == 16
    assert coordinates.packed((2**69, 0.5)) == (2**69, 0.5)


@given(UNITS)
def test_columns_of_values_are_the_units_of_their_points(rows):
    coordinates = Coordinates(SPACE)
    points = [coordinates.point(key) for key in coordinates.keys(np.array(rows))]
    columns = {name: [point[name] for point in points] for name in SPACE.parameters}
    one_by_one = coordinates.units([coordinates.key(point) for point in points])
    assert coordinates.units_of(columns, len(points)).tolist() == one_by_one.tolist()
