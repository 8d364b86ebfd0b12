"""Rows of plain numbers out of the bytes of a CSV, each number the float64 nearest to its text.

An integer below 2**53 and a power of ten up to 22 are exact doubles, so their quotient or product is
rounded once, correctly (Clinger 1990). Any cell for which that does not hold is left to others.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from ares.kernels.compiling import compiled

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_I = numba.types.Array(numba.int64, 1, "C", readonly=True)
_INT, _FLOAT = numba.int64, numba.float64
_FOUND = numba.types.Tuple((_FLOAT, _INT))
_PLACE = numba.types.UniTuple(_INT, 2)

UNUSED, TIME = -1, -2
_LF, _CR, _QUOTE, _MINUS, _PLUS, _POINT, _ZERO = 10, 13, 34, 45, 43, 46, 48
_E, _CASE = 101, 32
_MOST_DIGITS = 18  # no integer of so many overflows
_EXACT = 1 << 53
_TENS = np.array(
    [float(10**power) for power in range(23)]
)  # exact, which a vector power need not be


@compiled(_PLACE(_BYTES, _INT), allocates=False, inlined=True)
def _digits(data: Bytes, at: int) -> tuple[int, int]:
    """The integer of the digits from `at` on, and where they end; the text ends with none."""
    value = 0
    while True:
        digit = data[at] - _ZERO
        if digit < 0 or digit > 9:
            return value, at
        value = value * 10 + digit
        at += 1


@compiled(_PLACE(_BYTES, _INT), allocates=False, inlined=True)
def _whole(data: Bytes, at: int) -> tuple[int, int]:
    """The integer of the cell at `at`, and where it ends: -1 where it is out of the ordinary."""
    negative = data[at] == _MINUS
    first = at + negative
    value, at = _digits(data, first)
    if at == first or at - first > _MOST_DIGITS:
        return 0, -1
    return (-value if negative else value), at


@compiled(_FOUND(_BYTES, _INT), allocates=False, inlined=True)
def _number(data: Bytes, at: int) -> tuple[float, int]:
    """The same for a decimal number: digits, perhaps a point and digits, perhaps an exponent."""
    negative = data[at] == _MINUS
    first = at + negative
    value, at = _digits(data, first)
    digits = at - first
    power = 0
    if digits == 0 or digits > _MOST_DIGITS:
        return 0.0, -1
    if data[at] == _POINT:
        point = at
        at += 1
        while True:
            digit = data[at] - _ZERO
            if digit < 0 or digit > 9:
                break
            value = value * 10 + digit
            at += 1
        power = point + 1 - at
        if power == 0 or digits - power > _MOST_DIGITS:
            return 0.0, -1
    if data[at] | _CASE == _E:
        sign = data[at + 1]
        begin = at + 1 + (sign in (_MINUS, _PLUS))
        exponent, at = _digits(data, begin)
        if at == begin or at - begin > 3:
            return 0.0, -1
        power += -exponent if sign == _MINUS else exponent
    if value > _EXACT or power < -22 or power > 22:
        return 0.0, -1
    number = np.float64(value)
    if power < 0:
        number /= _TENS[-power]
    else:
        number *= _TENS[power]
    return (-number if negative else number), at


@compiled(_INT(_BYTES, _INT, _INT, _I, _INT[::1], _FLOAT[:, ::1]), allocates=False)
def plain_rows(
    data: Bytes, at: int, delimiter: int, roles: Ints, times: Ints, numbers: Floats
) -> int:
    """Read rows until the text ends or one of them is out of the ordinary.

    In order are rows of `len(roles)` cells, ended by LF or CR LF, without quotes, and whose cells in
    use hold nothing but a number that is read exactly.

    Args:
        data: The text; it ends with LF.
        at: Where the first row begins.
        delimiter: The byte between cells.
        roles: What each cell is: `TIME` (an integer), `UNUSED`, or the row of `numbers`.
        times: Becomes the times, shape (at least the rows,).
        numbers: Becomes the numbers, shape (5, at least the rows).

    Returns:
        Number of rows; -1 where one is out of the ordinary.
    """
    end, width = data.shape[0], roles.shape[0]
    row = 0
    while at < end:
        for cell in range(width):
            role = roles[cell]
            if role >= 0:
                numbers[role, row], at = _number(data, at)
            elif role == TIME:
                times[row], at = _whole(data, at)
            else:
                while data[at] != delimiter and data[at] != _LF and data[at] != _CR:
                    if data[at] == _QUOTE:
                        return -1
                    at += 1
            if at < 0:
                return -1
            if cell + 1 < width:
                if data[at] != delimiter:
                    return -1
                at += 1
        if data[at] == _CR:
            at += 1
        if data[at] != _LF:
            return -1
        at += 1
        row += 1
    return row
