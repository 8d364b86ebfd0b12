"""Rows of numbers and ISO times out of the bytes of a CSV, each exactly what its text says.

An integer below 2**53 and a power of ten up to 22 are exact doubles, so their quotient or product is
rounded once, correctly (Clinger 1990). A date counts days of the proleptic Gregorian calendar. Any
cell for which that does not hold, or whose form is rare, is left to others.
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

UNUSED, TIME, ISO, ZONED = -1, -2, -3, -4
_LF, _CR, _SPACE, _QUOTE, _PLUS, _MINUS, _POINT, _ZERO, _COLON = 10, 13, 32, 34, 43, 45, 46, 48, 58
_T, _Z, _E, _CASE = 84, 90, 101, 32
_MOST_DIGITS = 18  # no integer of so many overflows
_EXACT = 1 << 53
_TENS = np.array(
    [float(10**power) for power in range(23)]
)  # exact, which a vector power need not be
_FIRST_YEAR, _LAST_YEAR = 1678, 2261  # all of them lies in the range of int64 ns
_BEFORE_MONTH = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365])
_EPOCH_DAY = 719_163  # of 1970-01-01, where 0001-01-01 is day 1
_DAY, _HOUR, _MINUTE, _SECOND = 86_400, 3_600, 60, 10**9


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


@compiled(_INT(_BYTES, _INT, _INT), allocates=False, inlined=True)
def _field(data: Bytes, at: int, width: int) -> int:
    """The integer of the next `width` digits; -1 where there are fewer."""
    value = 0
    for place in range(at, at + width):
        digit = data[place] - _ZERO
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


@compiled(_PLACE(_BYTES, _INT), allocates=False, inlined=True)
def _clock(data: Bytes, at: int) -> tuple[int, int]:
    """Seconds of the clock hh:mm at `at`, and where it ends: -1 where there is none."""
    hour = _field(data, at, 2)
    if hour < 0 or hour > 23 or data[at + 2] != _COLON:
        return 0, -1
    minute = _field(data, at + 3, 2)
    if minute < 0 or minute > 59:
        return 0, -1
    return hour * _HOUR + minute * _MINUTE, at + 5


@compiled(_PLACE(_BYTES, _INT, _INT), allocates=False)
def _moment(data: Bytes, at: int, role: int) -> tuple[int, int]:
    """The ns since 1970 of an ISO 8601 time, and where it ends: -1 where it is out of the ordinary.

    In order are yyyy-mm-dd, or that, a T or a space, and hh:mm[:ss[.f]], f of up to 9 digits; where
    the role is `ZONED` a Z or +hh:mm follows, else nothing.
    """
    year = _field(data, at, 4)
    if year < _FIRST_YEAR or year > _LAST_YEAR or data[at + 4] != _MINUS:
        return 0, -1
    month = _field(data, at + 5, 2)
    if month < 1 or month > 12 or data[at + 7] != _MINUS:
        return 0, -1
    day = _field(data, at + 8, 2)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    before = _BEFORE_MONTH[month]
    if day < 1 or day > _BEFORE_MONTH[month + 1] - before + (leap and month == 2):
        return 0, -1
    past = year - 1
    day += 365 * past + past // 4 - past // 100 + past // 400 + before + (leap and month > 2)
    seconds, fraction = (day - _EPOCH_DAY) * _DAY, 0
    at += 10
    if data[at] == _T or data[at] == _SPACE:
        clock, at = _clock(data, at + 1)
        if at < 0:
            return 0, -1
        seconds += clock
        if data[at] == _COLON:
            second = _field(data, at + 1, 2)
            if second < 0 or second > 59:
                return 0, -1
            seconds += second
            at += 3
            if data[at] == _POINT:
                first = at + 1
                fraction, at = _digits(data, first)
                if at == first or at - first > 9:
                    return 0, -1
                for _ in range(first + 9 - at):
                    fraction *= 10
    elif role == ZONED:
        return 0, -1
    if role == ZONED:
        sign = data[at]
        if sign in (_PLUS, _MINUS):
            clock, at = _clock(data, at + 1)
            seconds += clock if sign == _MINUS else -clock
        elif sign == _Z:
            at += 1
        else:
            return 0, -1
    return seconds * _SECOND + fraction, at


@compiled(_INT(_BYTES, _INT, _INT, _I, _INT[::1], _FLOAT[:, ::1]), allocates=False)
def plain_rows(
    data: Bytes, at: int, delimiter: int, roles: Ints, times: Ints, numbers: Floats
) -> int:
    """Read rows until the text ends or one of them is out of the ordinary.

    In order are rows of `len(roles)` cells, ended by LF or CR LF, without quotes, and whose cells in
    use hold nothing but a number or a time that is read exactly.

    Args:
        data: The text; it ends with LF.
        at: Where the first row begins.
        delimiter: The byte between cells.
        roles: What each cell is: `TIME` (an integer), `ISO` (a time without zone, in UTC), `ZONED`
            (with one), `UNUSED`, or the row of `numbers`.
        times: Becomes the times, shape (at least the rows,): integers, or ns since 1970.
        numbers: Becomes the numbers, shape (one more than the last of `roles`, at least the rows).

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
            elif role <= ISO:
                times[row], at = _moment(data, at, role)
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
