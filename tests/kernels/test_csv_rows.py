"""Rows out of bytes against csv and Decimal: what is taken is exact, what is plain is taken."""

from __future__ import annotations

import csv
import io
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ares.kernels.csvrows import TIME, UNUSED, plain_rows

pytestmark = pytest.mark.compiled
ROLES = (TIME, 0, 1, 2, 3, 4)
WHOLE = re.compile(r"-?[0-9]{1,18}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,6})?")


def read(text, roles=ROLES, delimiter=",", start=0):
    """Times and numbers of the rows; None where the kernel leaves them to others."""
    data = text if isinstance(text, bytes) else text.encode()
    lines = data.count(b"\n", start)
    times, numbers = np.full(lines, -7), np.full((5, lines), -7.0)
    known = np.array(roles, dtype=np.int64)
    array = np.frombuffer(data, dtype=np.uint8)
    rows = plain_rows(array, start, ord(delimiter), known, times, numbers)
    return None if rows < 0 else (times[:rows], numbers[:, :rows])


def one(cell):
    """What a cell is read as, among plain ones; None: left to others."""
    found = read(f"1,2,{cell},3,4,5\n")
    return None if found is None else float(found[1][1, 0])


digits = st.text("0123456789", min_size=1, max_size=9)
signs = st.sampled_from(["", "-"])
plain = st.builds(
    lambda s, a, b: f"{s}{a}{b}", signs, digits, st.just("") | digits.map(".{}".format)
)
scaled = st.builds(
    lambda cell, e, power: f"{cell}{e}{power}",
    plain.filter(lambda cell: len(cell) < 14),
    st.sampled_from("eE"),
    st.integers(-13, 22).map(str) | st.integers(0, 22).map("+{:02d}".format),
)


@given(plain.filter(lambda cell: sum(c.isdigit() for c in cell) < 16) | scaled)
@example("0.1")
@example("-0")
@example("-0.000")
@example("000000.500000000")
@example("9007199254740992")
@example("1e22")
@example("1e-22")
def test_a_plain_cell_is_taken_as_the_nearest_float(cell):
    found = one(cell)
    expected = float(Decimal(cell))
    assert found is not None
    assert found == expected
    assert np.signbit(found) == np.signbit(expected)


@given(
    st.integers(0, 2**63).map(str) | st.text("0123456789", min_size=12, max_size=40),
    st.integers(0, 40),
    st.just("") | st.integers(-400, 400).map("e{}".format),
)
@example("9007199254740993", 0, "")  # needs a rounding of its own
@example("18446744073709551617", 0, "")  # 2**64 + 1
@example("1" * 37, 0, "")
@example("1", 1, "e-23")
def test_a_cell_of_many_digits_is_exact_or_left_to_others(whole, decimals, power):
    cell = whole if decimals == 0 else f"{whole[:-decimals] or '0'}.{whole[-decimals:]}"
    found = one(cell + power)
    assert found is None or found == float(Decimal(cell + power))


@pytest.mark.parametrize(
    "cell",
    ["", " 1", "1 ", "+1", "1.", ".5", "-", "e5", "1e", "1e+", "1e0000", "1e23", "1e-23", "0x1", "1_0",
     "nan", "inf", '"1"', "1,2", "1.5.2", "1;", "--1", "\u0661", "1\r", "9007199254740993",
     "1234567890123456789", "0." + "0" * 23],
)  # fmt: skip
def test_a_cell_out_of_the_ordinary_is_left_to_others(cell):
    assert one("7") == 7
    assert one(cell) is None


@given(
    st.lists(
        st.tuples(st.integers(-(10**18) + 1, 10**18 - 1), *[plain] * 5), min_size=1, max_size=9
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(",;\t"),
    st.permutations(ROLES),
)
def test_rows_in_any_order_of_columns(rows, end, delimiter, roles):
    text = end.join(delimiter.join(str(row[ROLES.index(r)]) for r in roles) for row in rows) + end
    found = read(text, roles, delimiter)
    if found is None:
        cells = [cell for row in rows for cell in row[1:]]
        assert any(abs(Decimal(cell.replace(".", ""))) > 2**53 for cell in cells)
        return
    assert found[0].tolist() == [row[0] for row in rows]
    assert found[1].T.tolist() == [[float(Decimal(c)) for c in row[1:]] for row in rows]


@given(st.text(st.characters(exclude_characters='",\r\n\0', codec="utf-8"), max_size=9))
def test_a_column_not_in_use_may_hold_anything_unquoted(text):
    roles = (UNUSED, *ROLES, UNUSED)
    found = read(f"{text},5,1,2,3,4,5,{text}\n{text},6,1,2,3,4,5,\r\n", roles)
    assert found is not None
    assert found[0].tolist() == [5, 6]
    assert read(f'{text}"{text}",5,1,2,3,4,5,\n', roles) is None


@given(st.data())
def test_whatever_is_taken_is_what_csv_and_decimal_say(data):
    lines = [f"{60 * n},1{n}.25,20,{n},1e-05,0.5" for n in range(1, 5)]
    text = bytearray("\n".join(lines).encode() + b"\n")
    alphabet = b'0159.,;-+eE \r\n"\tx\xef\xbb\xbf'
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 2))
        size = data.draw(st.integers(0, 2))
        text[at : at + size] = bytes(data.draw(st.lists(st.sampled_from(alphabet), max_size=4)))
    if not text.endswith(b"\n"):
        text += b"\n"
    found = read(bytes(text))
    rows = list(csv.reader(io.StringIO(text.decode("latin-1"), newline="")))
    if found is None:
        ordinary = all(len(row) == 6 and WHOLE.fullmatch(row[0]) for row in rows)
        cells = [cell for row in rows for cell in row[1:]]
        short = re.compile(r"-?[0-9]{1,7}(\.[0-9]{1,7})?(e-?[0-9])?")
        quoted = b'"' in text or b"\r" in text
        assert quoted or not (ordinary and all(short.fullmatch(cell) for cell in cells))
        return
    assert all(len(row) == 6 and WHOLE.fullmatch(row[0]) for row in rows)
    assert all(NUMBER.fullmatch(cell) for row in rows for cell in row[1:])
    assert found[0].tolist() == [int(row[0]) for row in rows]
    assert found[1].T.tolist() == [[float(Decimal(cell)) for cell in row[1:]] for row in rows]
