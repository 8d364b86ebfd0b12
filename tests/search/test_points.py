"""Points in bytes: an identity that nothing but an equal point shares."""

import contextlib
import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core.errors import ArtifactError
from ares.search.points import point_bytes, point_of

VALUES = (
    st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.booleans()
    | st.none()
)
POINTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=6)


def exact(point):
    """What tells 1, 1.0, True and "1" apart, and 0.0 and -0.0."""
    return {
        name: (type(value), struct.pack("<d", value) if type(value) is float else value)
        for name, value in point.items()
    }


@given(POINTS)
def test_a_point_comes_back_with_its_types_and_every_bit(point):
    again = point_of(point_bytes(point))
    assert exact(again) == exact(point)
    assert list(again) == sorted(point)


@given(POINTS, POINTS)
def test_only_equal_points_are_equal_bytes(one, other):
    assert (point_bytes(one) == point_bytes(other)) == (exact(one) == exact(other))


@given(POINTS, st.randoms())
def test_the_order_of_the_names_is_irrelevant(point, random):
    names = list(point)
    random.shuffle(names)
    assert point_bytes({name: point[name] for name in names}) == point_bytes(point)


def test_one_and_true_and_their_texts_are_four_points():
    assert len({point_bytes({"x": x}) for x in (1, 1.0, True, "1", None, "true", "d")}) == 7


def test_the_head_is_json_and_the_words_are_little_endian():
    data = point_bytes({"n": 3, "kind": "b", "x": 0.1})
    head, words = data.split(b"\0", 1)
    assert json.loads(head) == [["kind", ["b"]], ["n", "q"], ["x", "d"]]
    assert struct.unpack("<qd", words) == (3, 0.1)


@given(st.binary(max_size=40))
def test_other_bytes_are_refused(data):
    with pytest.raises(ArtifactError, match="what the search wrote"):
        point_of(data)


@given(POINTS, st.data())
def test_a_cut_point_is_refused_or_holds_no_number(point, data):
    whole = point_bytes(point)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with contextlib.suppress(ArtifactError):
        assert not any(type(value) in {int, float} for value in point_of(cut).values())


def test_values_that_have_no_text_are_refused():
    with pytest.raises(TypeError):
        point_bytes({"x": object()})
    assert math.isinf(point_of(point_bytes({"x": math.inf}))["x"])
