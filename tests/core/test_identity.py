"""Identity: equal values share a fingerprint, look-alikes never do, unknown types raise."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
import json
import os
import subprocess
import sys
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from ares.core.errors import FingerprintError
from ares.core.identity import _make_hashable, fingerprint, seed_for


class _Colour(enum.Enum):
    RED = 1
    BLUE = 2


class _Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass(frozen=True)
class _Point:
    x: float
    y: float


@dataclasses.dataclass(frozen=True)
class _Pixel:
    x: float
    y: float


class _Pair(NamedTuple):
    x: float
    y: float


class _Model(BaseModel):
    x: float = 1.0
    y: float = 2.0


LOOK_ALIKES: list[Any] = [
    None, False, True, 0, 1, -1, -2, 2**64, 2**64 + 1, 0.0, 1.0, -1.0, 1e-300, float("nan"),
    float("inf"), float("-inf"), "", "0", "1", "1.0", "True", "None", "nan", b"", b"1", "a\0b", "a",
    "\ud800", (), ((),), (1,), (True,), (1.0,), ("1",), (-1,), (-2,), (1, 1), ((1,), 1), (1, (1,)),
    ("a", "bc"), ("ab", "c"), ("abc",), {}, {1: 2}, {2: 1}, {"1": 2}, {1.0: 2}, {True: 2},
    {"a": {}}, {"a": ()}, {"a": None}, set(), {1}, {1.0, "1"}, {(1, 2)}, {(2, 1)}, ((1, 2),),
    np.zeros(0), np.zeros(4), np.zeros((2, 2)), np.zeros((4, 1)), np.zeros((1, 4)),
    np.zeros(4, np.float32), np.zeros(4, np.int64), np.zeros(4, np.int32), np.zeros(4, np.uint64),
    np.zeros(4, np.bool_), np.zeros(4, "S1"), np.zeros(4, "U1"), np.zeros(4, "M8[ns]"),
    np.zeros(4, "M8[us]"), np.zeros(4, "m8[ns]"), np.zeros(4, np.complex128), np.array(0.0),
    np.array([0.0]), np.array([np.nan]), np.array([1.0, 2.0]), np.array([2.0, 1.0]), [0.0, 0.0],
    np.datetime64(0, "ns"), np.datetime64(0, "us"), np.timedelta64(0, "ns"), dt.date(2020, 1, 1),
    dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.time(0), dt.timedelta(0),
    dt.timedelta(microseconds=1), "2020-01-01", PurePosixPath("a"), _Colour.RED, _Colour.BLUE,
    _Number.ONE, "_Colour.RED", _Point(1.0, 2.0), _Pixel(1.0, 2.0), _Pair(1.0, 2.0),
    {"x": 1.0, "y": 2.0}, (1.0, 2.0), _Model(), _Point(2.0, 1.0), ["_Pair", ("x", 1.0), ("y", 2.0)],
]  # fmt: skip


def test_no_two_look_alikes_share_an_identity() -> None:
    for left, right in itertools.combinations(range(len(LOOK_ALIKES)), 2):
        a, b = LOOK_ALIKES[left], LOOK_ALIKES[right]
        assert fingerprint(a) != fingerprint(b), (a, b)
        assert _make_hashable(a) != _make_hashable(b), (a, b)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (0.0, -0.0),
        (float("nan"), -float("nan")),
        (1, np.int8(1)),
        (1, np.uint64(1)),
        (0.5, np.float32(0.5)),
        (True, np.True_),
        ("a", np.str_("a")),
        (b"a", np.bytes_(b"a")),
        ([1, 2], (1, 2)),
        ({1: 2, 3: 4}, {3: 4, 1: 2}),
        ({1, 2, 3}, frozenset({3, 2, 1})),
        (np.array([0.0, 1.0]), np.array([-0.0, 1.0])),
        (np.arange(6.0).reshape(2, 3).T, np.ascontiguousarray(np.arange(6.0).reshape(2, 3).T)),
        (np.arange(3, dtype=">i8"), np.arange(3, dtype="<i8")),
        (np.arange(10)[::2], np.array([0, 2, 4, 6, 8])),
        (bytearray(b"x"), b"x"),
    ],
)
def test_equal_values_share_an_identity(left: object, right: object) -> None:
    assert fingerprint(left) == fingerprint(right)
    assert _make_hashable(left) == _make_hashable(right)


def test_every_nan_payload_is_one_value() -> None:
    odd = np.array([0x7FF8000000000001, 0xFFF8000000000000], dtype=np.uint64).view(np.float64)
    assert fingerprint(odd) == fingerprint(np.array([np.nan, np.nan]))
    assert fingerprint(float(odd[0])) == fingerprint(np.nan)


_leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)
)
_keys = st.one_of(st.integers(-3, 3), st.booleans(), st.text(max_size=2), st.floats(-2, 2))
_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(_keys, inner, max_size=4),
        st.frozensets(_leaves, max_size=4),
    ),
    max_leaves=12,
)


def _canonical(value: Any) -> str:
    """Independent twin of the rules: a sorted, tagged text of plain Python values."""
    match value:
        case bool() | None | str() | bytes():
            return f"{type(value).__name__}:{value!r}"
        case int():
            return f"int:{value}"
        case float():
            return "float:nan" if value != value else f"float:{(value + 0.0).hex()}"  # noqa: PLR0124
        case list():
            return "[" + ",".join(map(_canonical, value)) + "]"
        case dict():
            items = sorted(f"{_canonical(k)}>{_canonical(v)}" for k, v in value.items())
            return "{" + ",".join(items) + "}"
        case _:
            return "<" + ",".join(sorted(map(_canonical, value))) + ">"


@pytest.mark.laws
@given(_values, _values)
def test_fingerprint_and_make_hashable_agree_with_the_rules(left: Any, right: Any) -> None:
    same = _canonical(left) == _canonical(right)
    assert (fingerprint(left) == fingerprint(right)) == same
    assert (_make_hashable(left) == _make_hashable(right)) == same
    if same:
        assert hash(_make_hashable(left)) == hash(_make_hashable(right))


@pytest.mark.laws
@given(st.dictionaries(st.text(max_size=4), _leaves, max_size=6), st.randoms())
def test_insertion_order_does_not_matter(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert fingerprint(dict(items)) == fingerprint(value)


class _Mutable:
    pass


@dataclasses.dataclass
class _Thawed:
    x: int = 1


@pytest.mark.parametrize(
    "value",
    [
        object(), _Mutable(), _Thawed(), len, _Point, iter([]), np.array([object()]), 1j,
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), pd.Series([1]), {"a": [object()]},
        pd.DataFrame(), np.longdouble("1.00000000000000000001") + np.longdouble(2) ** -60,
    ],
)  # fmt: skip
def test_unknown_types_raise(value: object) -> None:
    with pytest.raises(FingerprintError):
        fingerprint(value)
    with pytest.raises(FingerprintError):
        _make_hashable(value)


def test_a_cycle_raises_instead_of_recursing_for_ever() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(FingerprintError, match="200 levels"):
        fingerprint(loop)


_CHILD = """
import json, numpy as np
from ares.core.identity import fingerprint, seed_for
values = [{"b": 1, "a": {"x", "y", "z", 1, 2.5}}, np.arange(5.0), ("s", None, -0.0), {1: {2: {3}}}]
print(json.dumps([*map(fingerprint, values), seed_for(7, "hmm")]))
"""


def test_identity_is_equal_across_processes_and_hash_seeds() -> None:
    answers = set()
    for hash_seed, zone in (("0", "UTC"), ("1", "Asia/Tokyo"), ("4242", "America/New_York")):
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone, "LC_ALL": "C"}
        done = subprocess.run(
            [sys.executable, "-c", _CHILD], env=environ, capture_output=True, text=True, check=True
        )
        answers.add(done.stdout)
    assert len(answers) == 1
    assert len(set(json.loads(answers.pop()))) == 5


def test_seeds_are_separate_streams() -> None:
    seeds = {seed_for(run, name) for run in range(20) for name in ("a", "b", "hmm", "")}
    assert len(seeds) == 80
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_for(3, "x") == seed_for(np.int64(3), "x")  # type: ignore[arg-type]


def test_the_encoding_is_stable() -> None:
    """A changed encoding would orphan every stored result without a word: change it on purpose."""
    assert fingerprint({"a": (1, 2.0, None), "b": np.arange(3)}) == _GOLDEN


_GOLDEN = "06f54feafd718278beceb06a95bdafbb15172239"
